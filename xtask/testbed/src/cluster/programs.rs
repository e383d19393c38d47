// SPDX-License-Identifier: Apache-2.0
//! The programs that a cluster is made of, found in `EVENKEEL_CLUSTER_PATH` (where `cargo xtask` puts what it fetched
//! or built), then `KUBEBUILDER_ASSETS`, then `PATH`, then where administrators' tools are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Folders with programs and CNI plugins, as in `PATH`.
pub(super) const PATH: &str = "EVENKEEL_CLUSTER_PATH";
/// The Kubernetes project's own variable for test binaries.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// Where distributions and installers put CNI plugins and administrators' tools.
const USUAL: [&str; 5] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/cni/bin", "/usr/lib/cni"];

/// Where each program is.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    folders: Vec<PathBuf>,
}

/// All that a cluster starts, and the CNI plugins, `nft` and `iptables` that those start.
const ALL: [&str; 13] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "runc",
    "ptp",
    "host-local",
];

impl Programs {
    /// Looks for all of them.
    ///
    /// # Errors
    /// Some are missing: names them.
    pub(super) fn find() -> Result<Self> {
        Self::find_in(&variables(), &ALL)
    }

    /// Looks for these only: for who needs a part of a cluster.
    ///
    /// # Errors
    /// As [`Programs::find`].
    pub(crate) fn find_some(names: &[&str]) -> Result<Self> {
        Self::find_in(&variables(), names)
    }

    fn find_in(variables: &[OsString], names: &[&str]) -> Result<Self> {
        let listed = variables.iter().flat_map(std::env::split_paths);
        let folders = listed.filter(|path| path.is_absolute()).chain(USUAL.map(PathBuf::from)).collect();
        let programs = Self { folders };
        let missing: Vec<&str> =
            names.iter().copied().filter(|name| programs.search(name).is_none()).collect();
        if !missing.is_empty() {
            bail!(
                "a cluster needs {}: `cargo xtask cluster up` and `cargo xtask test --tier cluster` fetch or build them; \
                 or set {ASSETS} or PATH to the folders that have them",
                missing.join(", ")
            );
        }
        Ok(programs)
    }

    fn search(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// The path of a program of [`ALL`]; its bare name for others, to be found by whoever starts it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.search(name).map_or_else(|| name.to_owned(), |path| path.to_string_lossy().into_owned())
    }

    /// The folder of the CNI plugins.
    pub(super) fn plugins(&self) -> PathBuf {
        self.search("ptp").as_deref().and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default()
    }

    /// All folders, as a value of `PATH` for what is started: containerd looks for runc, kube-proxy for `nft`.
    pub(super) fn search_path(&self) -> String {
        let joined = std::env::join_paths(&self.folders).unwrap_or_default();
        joined.to_string_lossy().into_owned()
    }
}

fn variables() -> [OsString; 3] {
    [PATH, ASSETS, "PATH"].map(|name| std::env::var_os(name).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        for name in ALL.iter().filter(|name| **name != "kubelet") {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let error = Programs::find_in(&[folder.path().into()], &ALL).unwrap_err().to_string();
        assert!(error.contains("kubelet") && !error.contains("kube-apiserver,"), "{error}");
        assert!(error.contains(ASSETS), "{error}");

        std::fs::write(folder.path().join("kubelet"), "").unwrap();
        let found = Programs::find_in(&[folder.path().into()], &ALL).unwrap();
        assert_eq!(Path::new(&found.path("etcd")), folder.path().join("etcd"));
        assert_eq!(found.plugins(), folder.path());
    }
}
