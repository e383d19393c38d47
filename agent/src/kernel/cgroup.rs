// SPDX-License-Identifier: Apache-2.0
//! Finds the root of the cgroup2 hierarchy: the place from which every pod of the node is seen.
//!
//! By mountinfo and then by filesystem magic, because hosts with both hierarchies have version 2 at another place
//! (`/sys/fs/cgroup/unified`), and because a path alone proves nothing.

use std::path::{Path, PathBuf};

/// `CGROUP2_SUPER_MAGIC`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// No usable cgroup2 folder.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CgroupError {
    /// Nothing in mountinfo.
    #[error(
        "no cgroup2 filesystem is mounted here (looked in {mountinfo}): mount one (`mount -t cgroup2 none /sys/fs/cgroup`), \
         or name its root with --cgroup",
        mountinfo = mountinfo.display()
    )]
    None {
        /// The file that was read.
        mountinfo: PathBuf,
    },
    /// The folder is something else.
    #[error("{path} is not a folder of a cgroup2 filesystem: name the root of the cgroup2 hierarchy with --cgroup", path = path.display())]
    NotCgroup2 {
        /// The folder.
        path: PathBuf,
    },
    /// Mountinfo or the folder cannot be read.
    #[error("cannot read {path}: {reason}", path = path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The cgroup to attach to: `named` if given, else the root that `mountinfo` shows.
pub fn find(named: Option<&Path>, mountinfo: &Path) -> Result<PathBuf, CgroupError> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            let text = std::fs::read_to_string(mountinfo).map_err(|error| CgroupError::Unreadable {
                path: mountinfo.to_owned(),
                reason: error.to_string(),
            })?;
            root_in(&text).ok_or_else(|| CgroupError::None { mountinfo: mountinfo.to_owned() })?
        }
    };
    match super::probe::magic(&path) {
        Ok(CGROUP2_MAGIC) => Ok(path),
        Ok(_) => in_hybrid(&path).ok_or(CgroupError::NotCgroup2 { path }),
        Err(error) => Err(CgroupError::Unreadable { path, reason: error.to_string() }),
    }
}

/// Where systemd mounts version 2 in a folder that it shares with version 1: one manifest then fits both kinds of hosts.
fn in_hybrid(folder: &Path) -> Option<PathBuf> {
    let unified = folder.join("unified");
    matches!(super::probe::magic(&unified), Ok(CGROUP2_MAGIC)).then_some(unified)
}

/// Mount point of the cgroup2 hierarchy in the text of a mountinfo file (proc_pid_mountinfo(5)). A mount of the whole
/// hierarchy is better than one of a part; among equals the last one mounted is the one that is seen.
pub fn root_in(mountinfo: &str) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next()? == "cgroup2").then_some(())?;
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        Some((root == "/", PathBuf::from(unescape(point))))
    });
    mounts.enumerate().max_by_key(|(i, (whole, _))| (*whole, *i)).map(|(_, (_, point))| point)
}

/// Mountinfo writes blanks and backslashes as `\ooo`.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let code = text.get(i + 1..i + 4).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match (bytes[i], code) {
            (b'\\', Some(code)) => {
                out.push(code);
                i += 4;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURE: &str = "\
22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
29 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate
30 22 0:27 / /sys/fs/bpf rw shared:10 - bpf bpf rw,mode=700
";
    const HYBRID: &str = "\
32 22 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
33 32 0:29 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
34 32 0:30 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu
";

    #[test]
    fn a_pure_host_has_it_at_the_usual_place() {
        assert_eq!(root_in(PURE), Some("/sys/fs/cgroup".into()));
    }

    #[test]
    fn a_hybrid_host_has_it_elsewhere() {
        assert_eq!(root_in(HYBRID), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn a_mount_of_the_whole_hierarchy_beats_a_later_part() {
        let both = format!("{PURE}40 1 0:26 /kubepods /part rw - cgroup2 cgroup2 rw\n");
        assert_eq!(root_in(&both), Some("/sys/fs/cgroup".into()));
    }

    #[test]
    fn a_mount_point_with_blanks_is_unescaped() {
        let text = "29 22 0:26 / /a\\040b\\134c rw shared:9 master:2 - cgroup2 none rw\n";
        assert_eq!(root_in(text), Some("/a b\\c".into()));
    }

    #[test]
    fn the_usual_place_may_be_named_on_hosts_of_both_kinds() {
        let found = find(Some(Path::new("/sys/fs/cgroup")), Path::new("/does/not/matter")).unwrap();
        assert_eq!(super::super::probe::magic(&found).unwrap(), CGROUP2_MAGIC, "{}", found.display());
    }

    #[test]
    fn without_cgroup2_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let mountinfo = dir.path().join("mountinfo");
        std::fs::write(&mountinfo, "22 28 0:20 / /sys rw shared:7 - sysfs sysfs rw\n").unwrap();
        let error = find(None, &mountinfo).unwrap_err();
        assert_eq!(error, CgroupError::None { mountinfo });
        assert!(error.to_string().contains("mount -t cgroup2"), "{error}");
    }

    #[test]
    fn a_folder_of_another_filesystem_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = find(Some(dir.path()), Path::new("/nowhere")).unwrap_err();
        assert_eq!(error, CgroupError::NotCgroup2 { path: dir.path().to_owned() });
    }
}
