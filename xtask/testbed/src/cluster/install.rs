// SPDX-License-Identifier: Apache-2.0
//! Installs Evenkeel as a user does: its own images on the nodes, `kubectl apply -k deploy/`, and a wait until all of it
//! runs. The images are of the binaries beside this one, or in `EVENKEEL_BIN_DIR`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use evenkeel_oci::project;

use super::Cluster;
use crate::binaries;

/// Where `deploy/` installs everything.
pub const NAMESPACE: &str = "evenkeel-system";
/// Discovery's Deployment.
pub const DISCOVERY: &str = "deployment/evenkeel-discovery";
/// The agents' DaemonSet.
pub const AGENTS: &str = "daemonset/evenkeel-agent";
/// The selector of the agents' pods.
pub const AGENT_PODS: &str = "app.kubernetes.io/name=evenkeel,app.kubernetes.io/component=agent";
/// Writes the archives of Evenkeel's images into the folder `out`, under the names by which `deploy/` asks for them.
///
/// # Errors
/// A binary is not built, or `out` cannot be written.
pub fn images(out: &Path) -> Result<Vec<PathBuf>> {
    let binary = binaries::find("evenkeel")?;
    project::write_all(&project::Options {
        binaries: binary.parent().context("a binary lies in a folder")?,
        out,
        registry: "localhost",
        version: env!("CARGO_PKG_VERSION"),
        unpacked: false,
    })
}

/// Installs Evenkeel from the manifests in `deploy` and waits until discovery and all agents are ready.
///
/// # Errors
/// The API server refuses an object, or not all is ready within `deadline`.
pub fn evenkeel(cluster: &Cluster, deploy: &Path, deadline: Duration) -> Result<()> {
    cluster.kubectl.run(&["apply", "-k", &deploy.to_string_lossy()])?;
    rolled_out(cluster, deadline)?;
    cluster.setup.say("Evenkeel is installed and ready");
    Ok(())
}

/// Waits until discovery and all agents are ready and of the newest version.
///
/// # Errors
/// Not all are within `deadline`; the error has the state of all pods.
pub fn rolled_out(cluster: &Cluster, deadline: Duration) -> Result<()> {
    for what in [DISCOVERY, AGENTS] {
        let rolled_out = cluster.kubectl.rolled_out(&["-n", NAMESPACE, what], deadline);
        rolled_out.with_context(|| {
            cluster.kubectl.run(&["get", "pods", "-n", NAMESPACE, "-o", "wide"]).unwrap_or_default()
        })?;
    }
    Ok(())
}
