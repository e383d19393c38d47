// SPDX-License-Identifier: Apache-2.0
//! What a node of a real cluster has besides: a disk of its own for a container runtime and a kubelet, the cgroup v1
//! hierarchies of a hybrid host, and host-wide sysctls that already are what a kubelet wants.
//!
//! What must always be true: nothing that runs in the node writes to the host's `/etc`, `/opt` or `/var`, or to the
//! host's kernel settings. The root file system is shared otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

use super::setup::{enter_cgroup, fresh};
use crate::hierarchy::Hierarchy;

/// Folders of the host that the node sees, but writes to its own disk.
const OVERLAID: [&str; 4] = ["/etc", "/opt", "/var/lib", "/var/log"];
/// Folders that lie on the disk itself: container images are overlays themselves and cannot lie on one.
const ON_DISK: [&str; 2] = ["/var/lib/containerd", "/var/lib/kubelet"];
/// Settings of the whole kernel that a kubelet insists on. It is shown files that hold what it would write.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// Child of the node's cgroup that init moves to where cgroup2 has the controllers.
const INIT: &str = "init";

/// A machine, as its init is told about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Folder that survives a power cycle.
    pub(crate) disk: PathBuf,
    /// The node's groups in the host's cgroup v1 hierarchies; empty on hosts with cgroup2 alone.
    pub(crate) hierarchies: Vec<Hierarchy>,
}

impl Machine {
    /// Before the cgroup namespace is made, so that these groups become its roots.
    pub(super) fn enter_hierarchies(&self) -> Result<()> {
        self.hierarchies.iter().try_for_each(|hierarchy| enter_cgroup(&hierarchy.group))
    }

    /// With cgroup2 alone, a group that passes controllers on may hold no process itself.
    pub(super) fn leave_root(&self, group: &Path) -> Result<()> {
        if !self.hierarchies.is_empty() {
            return Ok(());
        }
        let init = group.join(INIT);
        fs::create_dir_all(&init).with_context(|| format!("make {}", init.display()))?;
        enter_cgroup(&init)
    }

    /// After the mounts of every node.
    pub(super) fn mount(&self, cgroup_mount: &Path) -> Result<()> {
        self.mount_hierarchies(cgroup_mount)?;
        OVERLAID
            .iter()
            .map(Path::new)
            .filter(|path| path.is_dir())
            .try_for_each(|path| self.overlay(path))?;
        for folder in ON_DISK.map(Path::new) {
            let on_disk = self.disk.join(relative(folder));
            for needed in [folder, &on_disk] {
                fs::create_dir_all(needed).with_context(|| format!("make {}", needed.display()))?;
            }
            bind(&on_disk, folder)?;
        }
        sysctls()?;
        // Containers share mounts with the node where their pods ask for it.
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).context("make mounts shared")
    }

    fn mount_hierarchies(&self, cgroup_mount: &Path) -> Result<()> {
        for Hierarchy { mount, options, .. } in &self.hierarchies {
            fs::create_dir_all(mount).with_context(|| format!("make {}", mount.display()))?;
            fresh("cgroup", mount, options)?;
        }
        if self.hierarchies.is_empty() {
            crate::hierarchy::pass_controllers_on(cgroup_mount)?;
        }
        Ok(())
    }

    fn overlay(&self, path: &Path) -> Result<()> {
        let own = self.disk.join("overlay").join(relative(path));
        let (upper, work) = (own.join("upper"), own.join("work"));
        for folder in [&upper, &work] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let show = |path: &Path| path.display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", show(path), show(&upper), show(&work));
        fresh("overlay", path, &options)
    }
}

fn sysctls() -> Result<()> {
    let folder = Path::new("/run/sysctls");
    fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
    for (name, value) in SYSCTLS {
        let (shown, real) = (folder.join(name.replace('/', "_")), Path::new("/proc/sys").join(name));
        if real.exists() {
            fs::write(&shown, format!("{value}\n")).with_context(|| format!("write {}", shown.display()))?;
            bind(&shown, &real)?;
        }
    }
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("mount {} at {}", from.display(), to.display()))
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
