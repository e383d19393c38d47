// SPDX-License-Identifier: Apache-2.0
//! Builds the kernel programs and installs the object where the agent's build embeds it from.
//!
//! Cargo decides whether there is anything to build. The installed object changes only when its content does, so
//! that the agent is not rebuilt for nothing, and by a rename, so that no build sees half of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::toolchain::TARGET;
use crate::tools::BpfTools;
use crate::workspace::Workspace;
use crate::{child, progress};

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`, so that paths may contain spaces.
const FLAG_SEPARATOR: &str = "\u{1f}";

/// Builds and installs the object; returns its path.
pub(crate) fn build(workspace: &Workspace, tools: &BpfTools) -> Result<PathBuf> {
    let target = workspace.target.join("ebpf-build");
    progress::step("ebpf", "building the kernel programs", || {
        let mut cargo = tools.toolchain.cargo_build();
        cargo
            .args(["--release", "--locked", "--quiet", "--target-dir"])
            .arg(&target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags(&tools.linker).join(FLAG_SEPARATOR))
            .current_dir(workspace.root.join("ebpf"));
        child::run(&mut cargo)
    })?;
    let object = workspace.ebpf_object();
    let changed = install(&target.join(TARGET).join("release/evenkeel-ebpf"), &object)?;
    progress::say(
        "ebpf",
        format!("{} {}", object.display(), if changed { "is new" } else { "is unchanged" }),
    );
    Ok(object)
}

/// BTF is what the loader relocates by and what the verifier's log quotes source lines from; it is made from
/// debug information.
fn flags(linker: &Path) -> Vec<String> {
    vec![format!("-Clinker={}", linker.display()), "-Clink-arg=--btf".to_owned(), "-Cdebuginfo=2".to_owned()]
}

/// Copies `built` to `installed` if the contents differ. Returns whether they did.
fn install(built: &Path, installed: &Path) -> Result<bool> {
    let new = fs::read(built).with_context(|| format!("the build made no {}", built.display()))?;
    if fs::read(installed).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    let folder = installed.parent().with_context(|| format!("{} names no file", installed.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let beside = installed.with_extension(format!("{}.new", std::process::id()));
    fs::write(&beside, new).with_context(|| format!("cannot write {}", beside.display()))?;
    fs::rename(&beside, installed).with_context(|| format!("cannot install {}", installed.display()))?;
    Ok(true)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn an_equal_object_is_not_touched_and_a_changed_one_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let (built, installed) = (dir.path().join("built"), dir.path().join("ebpf/evenkeel.o"));
        fs::write(&built, "one").unwrap();
        assert!(install(&built, &installed).unwrap());
        let modified = || fs::metadata(&installed).unwrap().modified().unwrap();
        let first = modified();
        fs::write(&built, "one").unwrap();
        assert!(!install(&built, &installed).unwrap());
        assert_eq!(modified(), first);
        fs::write(&built, "two").unwrap();
        assert!(install(&built, &installed).unwrap());
        assert_eq!(fs::read_to_string(&installed).unwrap(), "two");
        assert_eq!(
            fs::read_dir(installed.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_build_that_made_nothing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(install(&dir.path().join("absent"), &dir.path().join("installed")).is_err());
    }
}
