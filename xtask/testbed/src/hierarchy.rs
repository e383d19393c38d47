// SPDX-License-Identifier: Apache-2.0
//! The cgroup v1 hierarchies of a hybrid host, for runs whose nodes have a container runtime.
//!
//! A run gets one group in each hierarchy, below the group that its creator is in (which may carry limits that must
//! go on to hold), and each node one below that. What must always be true: a group's path is written down in the
//! run's folder before it is made, so that whoever removes the run finds it.
//!
//! Deliberately not here: processes. All of a run's are in its cgroup2 tree too, and are ended by it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cgroup;

/// File in a run's folder: the paths of its groups, one a line.
const LIST: &str = "cgroup-v1-groups";
/// Without a value, a cpuset takes no process.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// A group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hierarchy {
    /// Where the hierarchy is mounted.
    pub(crate) mount: PathBuf,
    /// How it is mounted once more: its controllers, or its name.
    pub(crate) options: String,
    /// The group's folder as the host sees it.
    pub(crate) group: PathBuf,
}

impl Hierarchy {
    /// Makes the child `name`.
    pub(crate) fn child(&self, name: &str) -> Result<Self> {
        let group = self.group.join(name);
        fs::create_dir_all(&group).with_context(|| format!("make cgroup {}", group.display()))?;
        for file in CPUSET {
            let from = self.group.join(file);
            if from.exists() {
                let value = fs::read(&from).with_context(|| format!("read {}", from.display()))?;
                fs::write(group.join(file), value)
                    .with_context(|| format!("set {file} of {}", group.display()))?;
            }
        }
        Ok(Self { group, ..self.clone() })
    }
}

/// Makes the run's groups, those that are not there yet; none on a host with cgroup2 alone.
pub(crate) fn make(folder: &Path, run: &str) -> Result<Vec<Hierarchy>> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
    let own = parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
    let list = folder.join(LIST);
    let mut file = fs::File::create(&list).with_context(|| format!("make {}", list.display()))?;
    for hierarchy in &own {
        writeln!(file, "{}", hierarchy.group.join(run).display()).context("write down a cgroup's path")?;
    }
    file.sync_all().context("write down the cgroups' paths")?;
    own.iter().map(|hierarchy| hierarchy.child(run)).collect()
}

/// Removes the groups that the run with this folder made. Its processes must be gone.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    let list = fs::read_to_string(folder.join(LIST)).unwrap_or_default();
    list.lines().map(Path::new).filter(|group| group.exists()).try_for_each(cgroup::remove_tree)
}

/// On a host with cgroup2 alone: lets the children of `group` have all controllers that it has.
pub(crate) fn pass_controllers_on(group: &Path) -> Result<()> {
    let file = group.join("cgroup.controllers");
    let controllers = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let file = group.join("cgroup.subtree_control");
    for controller in controllers.split_whitespace() {
        fs::write(&file, format!("+{controller}"))
            .with_context(|| format!("pass {controller} on in {}", file.display()))?;
    }
    Ok(())
}

/// The group of a process in each v1 hierarchy, by its `mountinfo` and `cgroup` files.
fn parse(mountinfo: &str, cgroups: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(mount), mut right) = (left.split(' ').nth(4), right.split(' ')) else { continue };
        let (Some("cgroup"), Some(_), Some(options)) = (right.next(), right.next(), right.next()) else {
            continue;
        };
        let mount = PathBuf::from(mount);
        let Some((options, path)) = own_path(options, cgroups) else { continue };
        if found.iter().all(|known| known.options != options) {
            let group = mount.join(path.trim_start_matches('/'));
            found.push(Hierarchy { mount, options, group });
        }
    }
    found
}

/// The mount options that select the hierarchy, and the process's path in it. The lines of `/proc/PID/cgroup` are
/// `ID:CONTROLLERS:PATH`.
fn own_path<'a>(options: &str, cgroups: &'a str) -> Option<(String, &'a str)> {
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let named = controllers.starts_with("name=");
        let is_this =
            !controllers.is_empty() && controllers.split(',').all(|c| options.split(',').any(|o| o == c));
        let select = if named { format!("none,{controllers}") } else { controllers.to_owned() };
        is_this.then_some((select, path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_hosts_hierarchies_are_found_with_the_processs_own_groups() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "9:name=systemd:/user:1\n4:memory:/limited\n2:cpu,cpuacct:/\n0::/x\n";
        let found: Vec<_> = parse(mounts, own)
            .into_iter()
            .map(|found| format!("{} {}", found.options, found.group.display()))
            .collect();
        let wanted = [
            "cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct/",
            "memory /sys/fs/cgroup/memory/limited",
            "none,name=systemd /sys/fs/cgroup/systemd/user:1",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_host_with_cgroup2_alone_has_none() {
        assert_eq!(parse("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/user.slice\n"), []);
    }
}
