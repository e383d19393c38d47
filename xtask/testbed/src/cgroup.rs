// SPDX-License-Identifier: Apache-2.0
//! The run's own cgroups: one per run below the root of the cgroup2 hierarchy, one per node, one per pod.
//!
//! What must always be true: every process of a run is in the run's cgroup, so that killing and removing that tree
//! ends the run, whoever does it and whatever state the creator is in.
//!
//! Deliberately not here: cgroup v1 ([`crate::hierarchy`]); ordinary nodes leave its hierarchies alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::wait::eventually;

/// How long killed processes may take to go, and their cgroup with them.
const GONE: Duration = Duration::from_secs(5);

/// Where the host has its cgroup2 hierarchy mounted (`/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid hosts).
///
/// # Errors
/// There is none in `/proc/self/mountinfo`.
pub fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    find_cgroup2(&mounts).ok_or_else(|| {
        anyhow!(
            "no cgroup2 mount in /proc/self/mountinfo: mount one (mount -t cgroup2 cgroup2 /sys/fs/cgroup)"
        )
    })
}

/// The mount point of the first cgroup2 mount that shows the hierarchy's root, else of any.
fn find_cgroup2(mountinfo: &str) -> Option<PathBuf> {
    let mut any = None;
    for line in mountinfo.lines() {
        // "id parent major:minor root mountpoint options [optional…] - fstype source superoptions"
        let Some((left, right)) = line.split_once(" - ") else { continue };
        if right.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let mut fields = left.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        let point = PathBuf::from(point.replace("\\040", " "));
        if root == "/" {
            return Some(point);
        }
        any.get_or_insert(point);
    }
    any
}

/// Kills every process in `group` and below, and waits until they are gone.
///
/// # Errors
/// Some are still there after five seconds.
pub fn kill_all(group: &Path) -> Result<()> {
    if !group.exists() {
        return Ok(());
    }
    // cgroup.kill (Linux 5.14) is atomic; before it, killing until none is left does the same.
    let atomic = fs::write(group.join("cgroup.kill"), "1").is_ok();
    eventually(&format!("processes of {} end", group.display()), GONE, || {
        let left = processes(group);
        if left.is_empty() {
            return Ok(());
        }
        if !atomic {
            left.iter().for_each(|&pid| kill(pid));
        }
        bail!("alive: {left:?}")
    })
}

/// The processes in `group` and below, by the reader's pid.
pub fn processes(group: &Path) -> Vec<i32> {
    let mut found: Vec<i32> = fs::read_to_string(group.join("cgroup.procs"))
        .map(|text| text.lines().filter_map(|line| line.parse().ok()).collect())
        .unwrap_or_default();
    for child in children(group) {
        found.extend(processes(&child));
    }
    found
}

/// Kills what is in `group`, then removes it and all below it.
///
/// # Errors
/// A process does not end, or a cgroup stays busy.
pub fn remove(group: &Path) -> Result<()> {
    kill_all(group)?;
    remove_tree(group)
}

/// Removes a group without processes and all below it.
pub(crate) fn remove_tree(group: &Path) -> Result<()> {
    for child in children(group) {
        remove_tree(&child)?;
    }
    eventually(&format!("cgroup {} can be removed", group.display()), GONE, || match fs::remove_dir(group) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    })
}

/// The groups right below `group`.
pub(crate) fn children(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn kill(pid: i32) {
    // A process that is gone meanwhile is what was wanted.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_hosts_cgroup2_is_found_at_its_own_mount_point() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_cgroup2(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn a_mount_of_the_true_root_is_preferred() {
        let text = "40 31 0:38 /deep /mnt/part rw - cgroup2 cgroup2 rw\n\
                    41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(find_cgroup2(text), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(find_cgroup2("1 0 0:1 / / rw - ext4 x rw\n"), None);
    }
}
