// SPDX-License-Identifier: Apache-2.0
//! The project on a cluster as a user installs it: its own images, made from the binaries under test, and the real
//! `deploy/`, by the commands of `deploy/README.md`.
//!
//! Agents are asked as operators ask them: `kubectl exec … evenkeel …`, and their metrics.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use evenkeel_testbed::cluster::install::{self, AGENT_PODS, AGENTS, NAMESPACE, images};
use evenkeel_testbed::{Cluster, ClusterOptions, Node, eventually};
use serde_json::Value;

use super::SOON;

/// Port of the agents' metrics.
const HTTP: u16 = 9901;

/// `deploy/`, or a folder in it.
pub(crate) fn deploy(folder: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(folder).display().to_string()
}

/// A cluster whose nodes have the project's own images, under the names by which `deploy/` asks for them.
pub(crate) fn cluster(options: ClusterOptions) -> Result<Cluster> {
    let folder = tempfile::tempdir().context("make a folder for the images")?;
    let images = [options.images.clone(), images(folder.path())?].concat();
    Cluster::up(ClusterOptions { images, ..options })
}

/// Installs everything and waits until all of it is ready.
pub(crate) fn install(cluster: &Cluster) -> Result<()> {
    told(cluster, install::evenkeel(cluster, Path::new(&deploy("")), SOON))
}

/// Waits until discovery's replicas and the agents of all nodes are ready and of the newest version.
pub(crate) fn all_ready(cluster: &Cluster) -> Result<()> {
    install::rolled_out(cluster, SOON)
}

/// Takes everything away again, in the steps of `deploy/README.md`.
pub(crate) fn uninstall(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    kubectl.run(&["-n", NAMESPACE, "delete", AGENTS])?;
    kubectl.run(&["apply", "-k", &deploy("uninstall")])?;
    let clean = kubectl.rolled_out(&["-n", NAMESPACE, "daemonset/evenkeel-detach"], SOON);
    told(cluster, clean)?;
    kubectl.run(&["delete", "-k", &deploy("uninstall")])?;
    kubectl.run(&["delete", "-k", &deploy(""), "--ignore-not-found"]).map(drop)
}

/// Adds to a failure what the project's pods are like and what they wrote last.
pub(crate) fn told<T>(cluster: &Cluster, result: Result<T>) -> Result<T> {
    result.map_err(|error| {
        let ask = |args: &[&str]| {
            let answer = cluster.kubectl().output(args);
            answer.map_or_else(
                |error| format!("{error:#}"),
                |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            )
        };
        let pods = ask(&["get", "pods", "-A", "-o", "wide"]);
        let selector = "app.kubernetes.io/part-of=evenkeel";
        let logs = ["-n", NAMESPACE, "logs", "-l", selector, "--prefix", "--tail=20", "--ignore-errors"];
        error.context(format!("{pods}\n{}", ask(&logs)))
    })
}

/// An agent's pod. Asked about once: a rollout makes others.
#[derive(Debug, Clone)]
pub(crate) struct AgentPod {
    /// Its node's name.
    pub(crate) node: String,
    /// The pod's name.
    pub(crate) name: String,
    address: IpAddr,
}

/// The agents that are ready, by node.
pub(crate) fn agents(cluster: &Cluster) -> Result<Vec<AgentPod>> {
    let list = cluster.kubectl().run(&["-n", NAMESPACE, "get", "pods", "-l", AGENT_PODS, "-o", "json"])?;
    let list: Value = serde_json::from_str(&list).context("a list is no JSON")?;
    let mut agents = Vec::new();
    for pod in list["items"].as_array().into_iter().flatten() {
        let conditions = pod["status"]["conditions"].as_array();
        let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
        if !conditions.is_some_and(|all| all.iter().any(ready))
            || !pod["metadata"]["deletionTimestamp"].is_null()
        {
            continue;
        }
        let word = |at: &str| pod.pointer(at).and_then(Value::as_str).map(String::from);
        agents.push(AgentPod {
            node: word("/spec/nodeName").context("a ready pod is on no node")?,
            name: word("/metadata/name").context("a pod has no name")?,
            address: word("/status/podIP").context("a ready pod has no address")?.parse()?,
        });
    }
    agents.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(agents)
}

impl AgentPod {
    /// `evenkeel ARGS… -o json` in its pod.
    pub(crate) fn ask(&self, cluster: &Cluster, args: &[&str]) -> Result<Value> {
        let exec = ["-n", NAMESPACE, "exec", &self.name, "--", "evenkeel"];
        let answer = cluster.kubectl().run(&[&exec, args, &["-o", "json"]].concat())?;
        serde_json::from_str(&answer).with_context(|| format!("evenkeel {} printed {answer}", args.join(" ")))
    }

    /// One of its metrics without labels, e.g. `evenkeel_services`. Milliseconds, where [`AgentPod::ask`] takes tenths of
    /// seconds.
    pub(crate) fn metric(&self, cluster: &Cluster, name: &str) -> Result<f64> {
        let text = self.metrics(&cluster.node(&self.node)?.node())?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.ok_or_else(|| anyhow!("{} has no metric {name}:\n{text}", self.name))
    }

    fn metrics(&self, node: &Node) -> Result<String> {
        let (status, text) = node.http_get(SocketAddr::new(self.address, HTTP), "/metrics")?;
        ensure!(status == 200, "{} answers {status}", self.name);
        Ok(text)
    }
}

/// Waits until the agents of all nodes have so many Services with so many different endpoints in all in force.
pub(crate) fn in_force(
    cluster: &Cluster,
    services: usize,
    endpoints: usize,
    deadline: Duration,
) -> Result<()> {
    let agents = agents(cluster)?;
    ensure!(agents.len() == cluster.nodes().len(), "not all agents are ready: {agents:?}");
    know(cluster, &agents, services, endpoints, deadline)
}

/// As [`in_force`], for some of the agents.
pub(crate) fn know(
    cluster: &Cluster,
    agents: &[AgentPod],
    services: usize,
    endpoints: usize,
    deadline: Duration,
) -> Result<()> {
    let wanted = [("evenkeel_services", services), ("evenkeel_endpoints", endpoints)];
    let known = eventually("the agents know the Services", deadline, || {
        for agent in agents {
            for (name, wanted) in wanted {
                let is = agent.metric(cluster, name)?;
                ensure!(is == wanted as f64, "on {} {name} is {is} instead of {wanted}", agent.node);
            }
        }
        Ok(())
    });
    told(cluster, known)
}
