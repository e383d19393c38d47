// SPDX-License-Identifier: Apache-2.0
//! The endpoint discovery service as a process on the control node.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::agent::wait_ready;
use crate::binaries;
use crate::node::Node;
use crate::process::{Process, Spawn};

const BINARY: &str = "evenkeel-discovery";
/// Where agents reach it.
pub(crate) const URL: &str = "http://172.30.0.250:18000";
/// How long it may take to read its manifests.
const READY: Duration = Duration::from_secs(20);

/// How discovery is started.
#[derive(Debug, Clone)]
pub struct DiscoveryOptions {
    /// Folder of manifests.
    pub manifests: PathBuf,
    /// Further arguments.
    pub args: Vec<String>,
}

impl DiscoveryOptions {
    /// With these manifests and defaults.
    pub fn new(manifests: impl Into<PathBuf>) -> Self {
        Self { manifests: manifests.into(), args: Vec::new() }
    }
}

/// A running discovery. Derefs to its [`Process`].
#[derive(Clone)]
pub struct Discovery {
    process: Process,
    node: Node,
}

impl Discovery {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(control: &Node, options: &DiscoveryOptions) -> Result<Self> {
        let spawn = Spawn::binary(BINARY)?
            .label("discovery")
            .args(["--manifests", &options.manifests.to_string_lossy()])
            .args(["--listen", "172.30.0.250:18000", "--http", "127.0.0.1:18001"])
            // The fabric is ours alone. Short, because tests wait for each end.
            .args(["--plaintext", "--drain-time", "1s"])
            .args(options.args.iter().cloned());
        let process = control.spawn(&spawn)?;
        let discovery = Self { process, node: control.clone() };
        wait_ready(&discovery.process, &discovery.node, Self::http(), READY)?;
        Ok(discovery)
    }

    /// Where agents reach it.
    pub fn url(&self) -> &'static str {
        URL
    }

    /// Its metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> Result<String> {
        Ok(self.node.http_get(Self::http(), "/metrics")?.1)
    }

    /// The answer of `evenkeel-discovery ARGS… --json` on the control node.
    ///
    /// # Errors
    /// It fails, or its output is not JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let binary = binaries::find(BINARY)?;
        let text = self.node.exec(&[&[&*binary.to_string_lossy()], args, &["--json"]].concat())?;
        let name = args.join(" ");
        serde_json::from_str(&text).with_context(|| format!("{BINARY} {name} printed no JSON: {text}"))
    }

    fn http() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 18001))
    }
}

impl Deref for Discovery {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}
