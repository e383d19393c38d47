// SPDX-License-Identifier: Apache-2.0
//! Looks at the node before anything is loaded: each thing that is missing is one clear error.

use std::{
    io,
    path::{Path, PathBuf},
};

/// `BPF_FS_MAGIC`.
const BPFFS_MAGIC: u64 = 0xcafe_4a11;
/// Oldest kernel that has every hook and helper: `SO_NETNS_COOKIE` came with 5.14, 5.15 is the long-term release after it.
const OLDEST: (u32, u32) = (5, 15);
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Where the facts are read. The default is the running system; tests point elsewhere.
#[derive(Clone, Debug)]
pub struct Sources {
    /// BTF of the kernel.
    pub btf: PathBuf,
    /// Status of this process, for its capabilities.
    pub status: PathBuf,
    /// Release of the kernel.
    pub release: PathBuf,
    /// Mounts of this process.
    pub mountinfo: PathBuf,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            btf: "/sys/kernel/btf/vmlinux".into(),
            status: "/proc/self/status".into(),
            release: "/proc/sys/kernel/osrelease".into(),
            mountinfo: "/proc/self/mountinfo".into(),
        }
    }
}

/// What the node lacks.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel is too old.
    #[error("this kernel is {found}, evenkeel needs {}.{} or newer", OLDEST.0, OLDEST.1)]
    OldKernel {
        /// Its release.
        found: String,
    },
    /// The kernel has no type information.
    #[error(
        "this kernel has no BTF ({path} is missing): boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' are",
        path = path.display()
    )]
    NoBtf {
        /// Where it should be.
        path: PathBuf,
    },
    /// The process may not load programs.
    #[error(
        "no permission to load kernel programs: this process has neither CAP_SYS_ADMIN nor both CAP_BPF and CAP_NET_ADMIN; run \
         it as root, or add SYS_ADMIN to the container's capabilities"
    )]
    NoPermission,
    /// The pins' folder is not on bpffs.
    #[error(
        "{path} is not on a BPF filesystem, so what is loaded could not outlive the agent: mount one (`mount -t bpf bpf \
         /sys/fs/bpf`) and let --pins name a folder in it",
        path = path.display()
    )]
    NoBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// A fact could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Checks everything that loading needs, in the order in which an operator would fix it.
pub fn check(sources: &Sources, pins: &Path) -> Result<(), ProbeError> {
    let release = read(&sources.release)?;
    if version(&release).is_none_or(|found| found < OLDEST) {
        return Err(ProbeError::OldKernel { found: release.trim().to_owned() });
    }
    if !may_load(&read(&sources.status)?) {
        return Err(ProbeError::NoPermission);
    }
    if !sources.btf.exists() {
        return Err(ProbeError::NoBtf { path: sources.btf.clone() });
    }
    on_bpffs(pins)
}

/// Whether `pins`, or the folder in which it would be made, is on bpffs.
pub fn on_bpffs(pins: &Path) -> Result<(), ProbeError> {
    let existing = pins.ancestors().find(|path| path.exists()).unwrap_or(pins);
    match magic(existing) {
        Ok(BPFFS_MAGIC) => Ok(()),
        Ok(_) => Err(ProbeError::NoBpffs { path: pins.to_owned() }),
        Err(source) => Err(ProbeError::Unreadable { path: existing.to_owned(), source }),
    }
}

/// Filesystem magic of `path`.
pub(super) fn magic(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statfs::statfs(path)?;
    Ok(stat.filesystem_type().0 as u64)
}

fn read(path: &Path) -> Result<String, ProbeError> {
    std::fs::read_to_string(path).map_err(|source| ProbeError::Unreadable { path: path.to_owned(), source })
}

/// Major and minor of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether the effective capabilities in a process's status allow bpf(2) with cgroup programs.
fn may_load(status: &str) -> bool {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_NET_ADMIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node on which everything but bpffs is as it should be.
    fn node(dir: &Path) -> Sources {
        let write = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        Sources {
            btf: write("btf", ""),
            status: write("status", "Name:\tx\nCapEff:\t000001ffffffffff\n"),
            release: write("release", "6.1.0-18-amd64\n"),
            mountinfo: write("mountinfo", ""),
        }
    }

    #[test]
    fn without_btf_the_error_names_the_file_and_the_option() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources { btf: dir.path().join("none"), ..node(dir.path()) };
        let error = check(&sources, dir.path()).unwrap_err();
        assert!(matches!(&error, ProbeError::NoBtf { path } if *path == sources.btf));
        assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
    }

    #[test]
    fn without_capabilities_the_error_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let sources = node(dir.path());
        std::fs::write(&sources.status, "CapEff:\t0000000000001000\n").unwrap();
        let error = check(&sources, dir.path()).unwrap_err();
        assert!(matches!(error, ProbeError::NoPermission));
        assert!(error.to_string().contains("SYS_ADMIN"), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_on_bpffs_is_refused_before_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let pins = dir.path().join("pins");
        let error = check(&node(dir.path()), &pins).unwrap_err();
        assert!(matches!(&error, ProbeError::NoBpffs { path } if *path == pins));
        assert!(!pins.exists());
    }

    #[test]
    fn an_old_kernel_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let sources = node(dir.path());
        std::fs::write(&sources.release, "5.10.0-28\n").unwrap();
        assert!(matches!(check(&sources, dir.path()), Err(ProbeError::OldKernel { .. })));
    }

    #[test]
    fn releases_are_read_as_numbers() {
        assert_eq!(version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert_eq!(version("x"), None);
    }

    #[test]
    fn bpf_and_net_admin_together_are_enough() {
        assert!(may_load(&format!("CapEff:\t{:016x}\n", (1u64 << 39) | (1 << 12))));
        assert!(!may_load(&format!("CapEff:\t{:016x}\n", 1u64 << 39)));
        assert!(!may_load("nothing"));
    }
}
