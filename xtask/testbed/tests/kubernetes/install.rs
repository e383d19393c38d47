// SPDX-License-Identifier: Apache-2.0
//! The project on a cluster as a user installs it: its own images, made from the binaries under test, and the real
//! `deploy/`, by the commands of `deploy/README.md`.
//!
//! Agents are asked as operators ask them: `kubectl exec … evenkeel …`, and their metrics.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::cluster::install::{self, AGENT_PODS, AGENTS, NAMESPACE, images};
use evenkeel_testbed::{Cluster, ClusterOptions, eventually};
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

    /// Its metrics by name and labels, all read at once. Milliseconds, where [`AgentPod::ask`] takes tenths of seconds.
    pub(crate) fn metrics(&self, cluster: &Cluster) -> Result<BTreeMap<String, f64>> {
        let node = cluster.node(&self.node)?.node();
        let (status, text) = node.http_get(SocketAddr::new(self.address, HTTP), "/metrics")?;
        ensure!(status == 200, "{} answers {status}", self.name);
        let value = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter_map(value).collect())
    }

    /// Fails unless it balances exactly these Services, each over as many endpoints, and its kernel does.
    fn balances(&self, cluster: &Cluster, services: Services<'_>) -> Result<()> {
        let metrics = self.metrics(cluster)?;
        let service = |(name, count): (&String, &f64)| {
            let name = name.strip_prefix("evenkeel_service_endpoints{service=\"default/")?;
            Some((name.strip_suffix("\"}")?.to_owned(), *count))
        };
        let knows: BTreeMap<_, _> = metrics.iter().filter_map(service).collect();
        let wanted: BTreeMap<_, _> =
            services.iter().map(|(name, count)| ((*name).to_owned(), *count as f64)).collect();
        ensure!(knows == wanted, "the agent of {} knows {knows:?} instead of {wanted:?}", self.node);
        // What an agent knows is in its maps a moment later.
        let revision = |of: &str| metrics.get(of).with_context(|| format!("{} has no {of}", self.name));
        let (newest, maps) = (revision("evenkeel_store_revision")?, revision("evenkeel_map_revision")?);
        ensure!(maps == newest, "the maps of {} are at revision {maps} of {newest}", self.node);
        Ok(())
    }
}

/// Services of the namespace `default`, each with its number of endpoints. Of each, for a Service is told first and its
/// endpoints then, and others may have the same.
pub(crate) type Services<'a> = &'a [(&'a str, usize)];

/// Waits until the agents of all nodes balance exactly these Services.
pub(crate) fn in_force(cluster: &Cluster, services: Services<'_>, deadline: Duration) -> Result<()> {
    let agents = agents(cluster)?;
    ensure!(agents.len() == cluster.nodes().len(), "not all agents are ready: {agents:?}");
    know(cluster, &agents, services, deadline)
}

/// As [`in_force`], for some of the agents.
pub(crate) fn know(
    cluster: &Cluster,
    agents: &[AgentPod],
    services: Services<'_>,
    deadline: Duration,
) -> Result<()> {
    let known = eventually("the agents balance the Services", deadline, || {
        agents.iter().try_for_each(|agent| agent.balances(cluster, services))
    });
    told(cluster, known)
}
