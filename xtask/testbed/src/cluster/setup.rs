// SPDX-License-Identifier: Apache-2.0
//! What all parts of one cluster share: its options, addresses, programs and certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::pki::Pki;
use super::programs::Programs;
use crate::node::Node;
use crate::process::Spawn;

/// Where the API server listens, on the control node.
pub(super) const API: &str = "172.30.0.250:6443";
/// First address of the range, which Kubernetes gives its own Service.
pub(super) const KUBERNETES: &str = "10.96.0.1";
/// Child of a node's cgroup for daemons, beside which a kubelet makes those of pods.
const SYSTEM: &str = "system";

/// What balances Services in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProxyMode {
    /// kube-proxy with nftables
    Nftables,
    /// kube-proxy with iptables
    Iptables,
    /// No kube-proxy: connects to Services are refused
    None,
}

impl ProxyMode {
    /// Its name in kube-proxy's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::None => "none",
        }
    }
}

/// Told what is done, with times.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What cluster to make.
#[derive(Clone)]
pub struct ClusterOptions {
    /// One node in each; `node-1` is in the first.
    pub zones: Vec<String>,
    /// What balances Services.
    pub proxy_mode: ProxyMode,
    /// Image archives for all nodes, besides the testbed's own image.
    pub images: Vec<PathBuf>,
    /// Whether pods and Services have IPv6 addresses too.
    pub dual_stack: bool,
    /// Where progress goes; standard error by default.
    pub progress: Progress,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            zones: ["zone-a", "zone-b", "zone-c"].map(String::from).to_vec(),
            proxy_mode: ProxyMode::Nftables,
            images: Vec::new(),
            dual_stack: false,
            progress: Arc::new(|line| eprintln!("{line}")),
        }
    }
}

pub(super) struct Setup {
    pub(super) options: ClusterOptions,
    pub(super) programs: Programs,
    pub(super) pki: Pki,
    pub(super) began: Instant,
}

impl Setup {
    /// A range in one or both families, as flags and configuration files take it.
    pub(super) fn ranges(&self, v4: &str, v6: &str) -> String {
        if self.options.dual_stack { format!("{v4},{v6}") } else { v4.to_owned() }
    }

    pub(super) fn pods(&self) -> String {
        self.ranges("10.244.0.0/16", "fd44::/16")
    }

    pub(super) fn services(&self) -> String {
        self.ranges("10.96.0.0/16", "fd96::/112")
    }

    /// One of the programs, ready to be started on a node.
    pub(super) fn spawn(&self, program: &str) -> Spawn {
        Spawn::new(self.programs.path(program))
            .label(program)
            .env("PATH", self.programs.search_path())
            .cgroup(SYSTEM)
    }

    /// A kubeconfig for a component inside the cluster.
    pub(super) fn kubeconfig(&self, file: &str, user: &str, groups: &[&str]) -> Result<String> {
        let path = self.pki.kubeconfig(file, &format!("https://{API}"), user, groups)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Says that a part is done, and when.
    pub(super) fn say(&self, what: &str) {
        (self.options.progress)(&format!("cluster: {:5.1} s  {what}", self.began.elapsed().as_secs_f64()));
    }
}

/// Fails if one of `processes` has ended, with the end of its output.
pub(super) fn alive<'a>(processes: impl IntoIterator<Item = &'a crate::Process>) -> Result<()> {
    for process in processes {
        if let Some(exit) = process.try_status() {
            bail!("{} ended: {exit:?}\n{}", process.name(), process.tail());
        }
    }
    Ok(())
}

/// Writes a file that a node's daemon reads, beside the node's logs; returns its path.
pub(super) fn write_config(node: &Node, file: &str, content: &str) -> Result<String> {
    let path = node.logs().join(file);
    std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}
