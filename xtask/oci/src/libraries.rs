// SPDX-License-Identifier: Apache-2.0
//! The shared libraries that a program of this machine needs, to put both into an image.
//!
//! The dynamic loader is asked, as `ldd` does: it alone knows its search path and its cache. Only for programs that
//! are trusted: some loaders run what they are asked about.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::Files;

/// Adds `program` as `path` and the libraries that it needs at the paths where the loader looks for them.
///
/// # Errors
/// The program or a library cannot be read, or the machine lacks a library.
pub fn add_program(files: Files, path: &str, program: &Path) -> Result<Files> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut files = files.file(path, 0o755, read(program)?);
    for library in needed(program)? {
        files = files.file(&library.to_string_lossy(), 0o755, read(&library)?);
    }
    Ok(files)
}

/// The libraries of `program` and the loader itself; none for a static program.
///
/// # Errors
/// The program cannot be started, or the machine lacks a library.
pub fn needed(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new(program).env("LD_TRACE_LOADED_OBJECTS", "1").env_remove("LD_PRELOAD").output();
    let output = output.with_context(|| format!("ask the loader about {}", program.display()))?;
    // A static program has no loader to answer: it runs, and prints what it will.
    parse(&String::from_utf8_lossy(&output.stdout)).with_context(|| format!("for {}", program.display()))
}

/// Reads `NAME => PATH (0xADDRESS)` and `PATH (0xADDRESS)` lines; the kernel's own `linux-vdso` has no path.
fn parse(text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let (name, place) = line.trim().split_once(" => ").unwrap_or(("", line.trim()));
        if place.starts_with("not found") {
            bail!("the shared library {name} is not on this machine");
        }
        if let Some((path, _)) = place.split_once(" (0x").filter(|(path, _)| path.starts_with('/')) {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_the_kernels_own_is_left_out() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd2d7f2000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1b7b200000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f1b7b400000)\n";
        let found = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse(text).unwrap(), found);
    }

    #[test]
    fn a_missing_library_is_named() {
        assert!(parse("\tlibx.so.1 => not found\n").unwrap_err().to_string().contains("libx.so.1"));
        assert!(parse("usage: something\n").unwrap().is_empty());
    }

    #[test]
    fn this_test_needs_the_c_library() {
        let libraries = needed(&std::env::current_exe().unwrap()).unwrap();
        assert!(libraries.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{libraries:?}");
    }
}
