// SPDX-License-Identifier: Apache-2.0
//! The node agent as a process: started as its DaemonSet starts it, asked over its command line and HTTP.

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::Pid;

use crate::node::Node;
use crate::process::{Process, Spawn};
use crate::wait::eventually;
use crate::{binaries, namespace};

/// How an agent is started. The defaults are those of the DaemonSet.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// URL of discovery.
    pub discovery: String,
    /// Folder of its pins on the node's bpffs.
    pub pins: String,
    /// Its admin socket.
    pub admin_socket: String,
    /// Where it serves metrics and readiness.
    pub http: SocketAddr,
    /// Folder of its last-good state.
    pub state_dir: String,
    /// Further arguments.
    pub args: Vec<String>,
    /// Further environment.
    pub env: Vec<(String, String)>,
    /// Another binary than `evenkeel`.
    pub binary: Option<PathBuf>,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            discovery: crate::discovery::URL.into(),
            pins: "/sys/fs/bpf/evenkeel".into(),
            admin_socket: "/run/evenkeel/admin.sock".into(),
            http: SocketAddr::from(([127, 0, 0, 1], 9901)),
            state_dir: "/run/evenkeel/state".into(),
            args: Vec::new(),
            env: Vec::new(),
            binary: None,
        }
    }
}

impl AgentOptions {
    /// As a second agent beside the first (an upgrade): own admin socket and port, same pins and state.
    #[must_use]
    pub fn surge(mut self) -> Self {
        self.admin_socket = "/run/evenkeel/admin-surge.sock".into();
        self.http = SocketAddr::from(([127, 0, 0, 1], 9902));
        self
    }
}

/// A running agent. Derefs to its [`Process`].
#[derive(Clone)]
pub struct Agent {
    process: Process,
    node: Node,
    options: AgentOptions,
    binary: String,
}

impl Agent {
    pub(crate) fn start(node: &Node, options: &AgentOptions) -> Result<Self> {
        let binary = match &options.binary {
            Some(path) => path.clone(),
            None => binaries::find("evenkeel")?,
        };
        let binary = binary.to_string_lossy().into_owned();
        let mut spawn = Spawn::new(binary.clone()).label("agent").cgroup("agent").arg("run");
        let http = options.http.to_string();
        for (flag, value) in [
            ("--discovery", options.discovery.as_str()),
            ("--node", node.name()),
            ("--zone", node.zone()),
            ("--pins", &options.pins),
            ("--netns-dir", "/run/netns"),
            ("--admin-socket", &options.admin_socket),
            ("--http", &http),
            ("--state-dir", &options.state_dir),
        ] {
            spawn = spawn.args([flag, value]);
        }
        spawn = spawn.args(options.args.iter().cloned());
        for (key, value) in &options.env {
            spawn = spawn.env(key, value);
        }
        let process = node.spawn(&spawn)?;
        Ok(Self { process, node: node.clone(), options: options.clone(), binary })
    }

    /// The node it runs on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Waits until `/ready` says so.
    ///
    /// # Errors
    /// It ends or is not ready within `deadline`; the error shows its last output.
    pub fn wait_ready(&self, deadline: Duration) -> Result<()> {
        wait_ready(&self.process, &self.node, self.options.http, deadline)
    }

    /// Its metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> Result<String> {
        Ok(self.node.http_get(self.options.http, "/metrics")?.1)
    }

    /// `evenkeel ARGS… --admin-socket …` on the node.
    ///
    /// # Errors
    /// It fails; the error has its standard error.
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        cli(&self.node, &self.binary, &self.options.admin_socket, args)
    }

    /// The answer of `evenkeel ARGS… -o json`.
    ///
    /// # Errors
    /// It fails, or its output is not JSON.
    pub fn json(&self, args: &[&str]) -> Result<serde_json::Value> {
        json(&self.node, &self.binary, &self.options.admin_socket, args)
    }

    /// The pid, as the creator sees it, of the process that holds its sockets when it is killed.
    ///
    /// # Errors
    /// It has none.
    pub fn holder(&self) -> Result<Pid> {
        let pid = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let child = children.split_whitespace().next().context("the agent has no child")?;
        Ok(Pid::from_raw(child.parse()?))
    }

    /// `evenkeel status -o json`.
    ///
    /// # Errors
    /// As [`Agent::json`].
    pub fn status(&self) -> Result<serde_json::Value> {
        self.json(&["status"])
    }
}

impl Deref for Agent {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

fn cli(node: &Node, binary: &str, socket: &str, args: &[&str]) -> Result<Output> {
    let mut command = node.command(binary)?;
    command.args(args).args(["--admin-socket", socket]);
    namespace::run(command, "").with_context(|| format!("evenkeel {} on {}", args.join(" "), node.name()))
}

/// The answer of `BINARY ARGS… -o json` of whatever agent listens at `socket` on `node`.
pub(crate) fn json(node: &Node, binary: &str, socket: &str, args: &[&str]) -> Result<serde_json::Value> {
    let output = cli(node, binary, socket, &[args, &["-o", "json"]].concat())?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        let printed = String::from_utf8_lossy(&output.stdout);
        format!("evenkeel {} printed no JSON: {printed}", args.join(" "))
    })
}

/// Waits until `process` answers 200 to GET /ready at `http` on `node`.
pub(crate) fn wait_ready(process: &Process, node: &Node, http: SocketAddr, deadline: Duration) -> Result<()> {
    let what = format!("{} is ready", process.name());
    let ready = eventually(&what, deadline, || {
        if let Some(exit) = process.try_status() {
            return Ok(Err(anyhow!("{} ended before it was ready: {exit:?}", process.name())));
        }
        match node.http_get(http, "/ready")? {
            (200, _) => Ok(Ok(())),
            (status, body) => bail!("/ready says {status}: {}", body.trim()),
        }
    });
    ready.and_then(|inner| inner).with_context(|| process.tail())
}
