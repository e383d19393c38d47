// SPDX-License-Identifier: Apache-2.0
//! Programs that the machine already has.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Folders where administrators' tools are, which a plain user's `PATH` often lacks.
const ADMINISTRATORS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The first executable `name` on `PATH`, then in the administrators' folders.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    find_in(name, &std::env::var_os("PATH").unwrap_or_default())
}

fn find_in(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .chain(ADMINISTRATORS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_first_executable_on_the_path_wins_and_plain_files_do_not_count() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for (dir, mode) in dirs.iter().zip([0o644, 0o755, 0o755]) {
            let file = dir.path().join("evenkeel-test-tool");
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths(dirs.iter().map(|dir| dir.path())).unwrap();
        assert_eq!(find_in("evenkeel-test-tool", &path), Some(dirs[1].path().join("evenkeel-test-tool")));
        assert_eq!(find_in("evenkeel-no-such-tool", &path), None);
    }
}
