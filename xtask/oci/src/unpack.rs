// SPDX-License-Identifier: Apache-2.0
//! The files of an image as a folder tree: what a Dockerfile copies into an empty image.
//!
//! Always true: the tree holds what the layer would, with the same modes; owners are whoever runs this.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::Files;
use crate::archive::Entry;

/// Writes the files into `folder`, which is made if need be.
///
/// # Errors
/// A file cannot be written, or a link is in the way.
pub fn unpack(files: &Files, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (path, entry) in files.entries() {
        let path = folder.join(path);
        match entry {
            Entry::Folder { mode } => {
                fs::create_dir_all(&path)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
            }
            Entry::File { mode, content } => {
                fs::write(&path, content)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
            }
            Entry::Link { target } => symlink(target, &path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_links_come_out_with_their_modes() {
        let here = std::env::temp_dir().join(format!("evenkeel-unpack-{}", std::process::id()));
        let files = Files::new().folder("tmp", 0o1777).file("bin/x", 0o755, "x").link("lib", "usr/lib");
        unpack(&files, &here).unwrap();
        let mode = |path| fs::symlink_metadata(here.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("tmp"), mode("bin"), mode("bin/x")), (0o1777, 0o755, 0o755));
        assert_eq!(fs::read_to_string(here.join("bin/x")).unwrap(), "x");
        assert_eq!(fs::read_link(here.join("lib")).unwrap(), Path::new("usr/lib"));
        fs::remove_dir_all(here).unwrap();
    }
}
