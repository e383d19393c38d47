// SPDX-License-Identifier: Apache-2.0
//! Where the binaries under test are: `EVENKEEL_BIN_DIR`, else beside the running executable.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Environment variable that names the folder with `evenkeel`, `evenkeel-discovery` and `evenkeel-testbed`.
pub const BIN_DIR: &str = "EVENKEEL_BIN_DIR";

/// This crate's own binary: node init, reaper, probes and peers are its subcommands.
pub const TESTBED: &str = "evenkeel-testbed";

/// The path of binary `name`.
///
/// # Errors
/// It is in none of the folders searched; the error names them.
pub fn find(name: &str) -> Result<PathBuf> {
    let folders = folders();
    for folder in &folders {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("{name}: not found in {folders:?}; build it, or set {BIN_DIR} to the folder that holds it")
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os(BIN_DIR).map(PathBuf::from).into_iter().collect();
    if let Ok(exe) = std::env::current_exe() {
        // A test executable lives in `deps/`, the binaries one folder up.
        let parents = exe.ancestors().skip(1).take(2).map(Path::to_path_buf);
        folders.extend(parents);
    }
    folders
}
