// SPDX-License-Identifier: Apache-2.0
//! `bpf-linker`, at one pinned version: the machine's own if it is that version, else built once from crates.io
//! against the LLVM that the compiler uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::Cache;
use crate::{child, debian, path_lookup, progress};

/// The version that the kernel programs are built and tested with.
const VERSION: &str = "0.13.0";
const NAME: &str = "bpf-linker";

/// Finds or builds the linker for bitcode of LLVM `llvm`.
pub(crate) fn ensure(cache: &Cache, llvm: u32) -> Result<PathBuf> {
    if let Some(found) = path_lookup::find(NAME).filter(|found| is_pinned_version(found)) {
        return Ok(found);
    }
    let entry = cache.entry(NAME, &version_key(llvm), |folder| {
        let what = format!("bpf-linker {VERSION}: building it for LLVM {llvm} (once, about two minutes)");
        progress::step("setup", &what, || build(cache, folder, llvm))
    });
    Ok(entry.context("bpf-linker could not be built")?.join("bin").join(NAME))
}

/// The linker reads the compiler's bitcode: another LLVM is another linker.
fn version_key(llvm: u32) -> String {
    format!("{VERSION}-llvm{llvm}")
}

fn is_pinned_version(linker: &Path) -> bool {
    child::output(Command::new(linker).arg("--version")).is_ok_and(|said| said_pinned_version(&said))
}

fn said_pinned_version(said: &str) -> bool {
    said.split_whitespace().nth(1) == Some(VERSION)
}

fn build(cache: &Cache, folder: &Path, llvm: u32) -> Result<()> {
    let log = &cache.log();
    let mut cargo = child::cargo();
    cargo
        .args(["install", NAME, "--version", VERSION, "--locked", "--no-default-features", "--no-track"])
        .args(["--features", &format!("llvm-{llvm}")])
        .arg("--root")
        .arg(folder.join("installed"))
        .arg("--target-dir")
        .arg(folder.join("target"))
        // Its time goes into LLVM: its own code need not be fast, but it must be built soon.
        .envs([("CARGO_PROFILE_RELEASE_DEBUG", "0"), ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")])
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTFLAGS");
    if debian::available() {
        use_private_llvm(cache, &mut cargo, folder, llvm)?;
    } // Elsewhere the build finds the system's LLVM by llvm-config or by LLVM_SYS_*_PREFIX.
    child::run_logged("setup", &mut cargo, log)?;

    // At run time only the shared libraries are needed: a tenth of what the build needs.
    let runtime = format!("libllvm{llvm}");
    if debian::available() {
        progress::say("setup", format!("bpf-linker {VERSION}: keeping {runtime} beside it"));
        fs::remove_dir_all(folder.join("dev"))?;
        debian::unpack(&debian::resolve(cache, &[&runtime])?, &folder.join("root"), log)?;
    }
    let libexec = folder.join("libexec");
    fs::create_dir_all(&libexec)?;
    fs::rename(folder.join("installed/bin").join(NAME), libexec.join(NAME))?;
    fs::remove_dir_all(folder.join("installed"))?;
    fs::remove_dir_all(folder.join("target"))?;
    let wrapper = debian::write_wrapper(folder, NAME, &format!("libexec/{NAME}"))?;
    child::output(Command::new(wrapper).arg("--version")).context("the built linker does not run")?;
    Ok(())
}

/// Unpacks LLVM's development files and points the build at them.
fn use_private_llvm(cache: &Cache, cargo: &mut Command, folder: &Path, llvm: u32) -> Result<()> {
    let root = folder.join("dev");
    let packages = debian::resolve(cache, &[&format!("llvm-{llvm}-dev")])?;
    progress::say("setup", format!("bpf-linker {VERSION}: fetching LLVM {llvm} from the distribution"));
    debian::unpack(&packages, &root, &cache.log())?;

    let prefix = root.join(format!("usr/lib/llvm-{llvm}"));
    let folders: Vec<PathBuf> =
        debian::library_folders(&root)?.iter().map(|folder| root.join(folder)).collect();
    let search = std::env::join_paths(&folders)?;
    let flags: Vec<String> = folders.iter().map(|folder| format!("-Lnative={}", folder.display())).collect();
    cargo
        .env("LLVM_PREFIX", &prefix)
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix)
        .env("LIBRARY_PATH", &search)
        .env("LD_LIBRARY_PATH", &search) // for the private llvm-config that the build asks
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_linker_for_another_llvm_is_another_entry() {
        assert_ne!(version_key(22), version_key(23));
        assert!(version_key(22).starts_with(VERSION));
    }

    #[test]
    fn only_the_pinned_version_is_taken_from_the_machine() {
        assert!(said_pinned_version("bpf-linker 0.13.0\n"));
        assert!(!said_pinned_version("bpf-linker 0.9.15\n"));
        assert!(!said_pinned_version(""));
    }
}
