// SPDX-License-Identifier: Apache-2.0
//! Servers, Services and client pods as Kubernetes objects, and what the clients saw.
//!
//! A server that is deleted works on for a while (`preStop`), so that everybody hears of it in time, then says GOAWAY and
//! finishes what it has: as Kubernetes' own documentation asks of servers, and what makes a deletion lose nothing.
//! Clients report over a unix socket in the run's folder, whatever happens to the network and the API server.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::Cluster;
use evenkeel_testbed::cluster::images::TESTBED;
use evenkeel_testbed::demo::Hub;
use evenkeel_testbed::peer::messages::{Command, FailureKind, Report};
use serde_json::{Value, json};

use super::SOON;

/// Where servers listen.
pub(crate) const PORT: u16 = 50051;
/// How long a server that is deleted takes connections as before: until kube-proxy and agents have heard of it.
const UNTIL_HEARD: u64 = 3;
/// From then on, how long it may take to drain.
const DRAIN: u64 = 10;
/// A request's deadline, and what opening a connection and the answer to a PING may take: what is late on a busy machine
/// is not lost.
const PATIENCE: [&str; 6] =
    ["--deadline-ms", "10000", "--connect-timeout-ms", "5000", "--keepalive-timeout-ms", "5000"];
/// How long clients may take for the last answers of an interval: longer than the deadline.
const REPORTED: Duration = Duration::from_secs(30);
/// How long a load is looked at when nothing happens: some hundred requests of each client.
pub(crate) const LOOK: Duration = Duration::from_secs(2);
/// Where a client pod sees the folder of its control socket.
const CONTROL: &str = "/control";

/// What a server and a client ask for. Who asks for nothing gets next to nothing of a machine that is busy starting pods.
fn share() -> Value {
    json!({ "requests": { "cpu": "50m", "memory": "16Mi" } })
}

fn from(path: &str) -> Value {
    json!({ "fieldRef": { "fieldPath": path } })
}

/// What a peer is told of itself.
fn itself() -> Value {
    json!([
        { "name": "POD", "valueFrom": from("metadata.name") },
        { "name": "NODE", "valueFrom": from("spec.nodeName") },
        { "name": "ADDRESS", "valueFrom": from("status.podIP") },
        { "name": "ZONE", "valueFrom": from("metadata.labels['topology.kubernetes.io/zone']") },
    ])
}

/// Makes Deployment `web` of gRPC servers that answer at once, as many on each node, and waits until all are ready.
pub(crate) fn servers(cluster: &Cluster, replicas: usize) -> Result<()> {
    servers_named(cluster, "web", replicas, &["--service-time-us", "0"])
}

/// As [`servers`], with a name and arguments of the caller's.
pub(crate) fn servers_named(cluster: &Cluster, name: &str, replicas: usize, args: &[&str]) -> Result<()> {
    let labels = json!({ "app": name });
    let listen = format!("[::]:{PORT}");
    let own = ["server", "--listen", &listen, "--name", "$(POD)", "--zone", "$(ZONE)"];
    let args = [&own[..], args].concat();
    let container = json!({
        "name": "server",
        "image": TESTBED,
        "imagePullPolicy": "Never",
        "args": args,
        "env": itself(),
        "resources": share(),
        "readinessProbe": { "tcpSocket": { "port": PORT }, "periodSeconds": 1 },
        "lifecycle": { "preStop": { "sleep": { "seconds": UNTIL_HEARD } } },
    });
    let spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": labels },
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": UNTIL_HEARD + DRAIN,
                    "topologySpreadConstraints": [spread],
                    "containers": [container],
                },
            },
        },
    });
    cluster.kubectl().apply(&deployment.to_string())?;
    cluster.kubectl().rolled_out(&[&format!("deployment/{name}")], SOON)
}

/// Makes a Service of the servers, opted in if `balance` says how, and returns its address.
pub(crate) fn service(cluster: &Cluster, name: &str, balance: Option<&str>) -> Result<String> {
    service_of(cluster, "web", name, balance)
}

/// As [`service`], of the servers that [`servers_named`] made with the name `app`.
pub(crate) fn service_of(cluster: &Cluster, app: &str, name: &str, balance: Option<&str>) -> Result<String> {
    let labels: BTreeMap<&str, &str> = balance.map(|how| ("evenkeel.io/balance", how)).into_iter().collect();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "labels": labels },
        "spec": {
            "selector": { "app": app }, "ipFamilyPolicy": "PreferDualStack",
            "ports": [{ "name": "grpc", "port": 80, "targetPort": PORT }],
        },
    });
    let kubectl = cluster.kubectl();
    kubectl.apply(&service.to_string())?;
    let address = kubectl.run(&["get", "service", name, "-o", "jsonpath={.spec.clusterIP}"])?;
    Ok(format!("{address}:80"))
}

/// A client pod on every node, under load until [`Clients::end`].
pub(crate) struct Clients {
    hub: Hub,
    daemons: String,
    /// Of the nodes: there is one client on each.
    names: Vec<String>,
}

impl Clients {
    /// Starts DaemonSet `name` of clients of the Service at `target`, which run `client` of the testbed with `args`, and
    /// waits until all have started.
    pub(crate) fn start(cluster: &Cluster, name: &str, target: &str, args: &[&str]) -> Result<Self> {
        let folder = cluster.fabric().run_dir().join(name);
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        let hub = Hub::open(&folder.join("hub"))?;
        let control = format!("{CONTROL}/hub");
        let own =
            ["client", "--target", target, "--name", "$(NODE)", "--zone", "$(ZONE)", "--control", &control];
        // The pod's first address is of IPv4; the way to an IPv6 address may be of either family.
        let source: &[&str] = if target.starts_with('[') { &[] } else { &["--source", "$(ADDRESS)"] };
        let args = [&own[..], source, &PATIENCE, args].concat();
        let labels = json!({ "app": name });
        let clients = json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": name },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{
                            "name": "client", "image": TESTBED, "imagePullPolicy": "Never",
                            "args": args,
                            "env": itself(), "resources": share(),
                            "volumeMounts": [{ "name": "control", "mountPath": CONTROL }],
                        }],
                        "volumes": [{ "name": "control", "hostPath": { "path": folder, "type": "Directory" } }],
                    },
                },
            },
        });
        cluster.kubectl().apply(&clients.to_string())?;
        let names = cluster.nodes().iter().map(|node| node.name()).collect();
        let clients = Self { hub, daemons: format!("daemonset/{name}"), names };
        clients.all_started()?;
        clients.measure_anew()?;
        Ok(clients)
    }

    /// Waits until there is a client on every node, as after one had no power.
    pub(crate) fn all_started(&self) -> Result<()> {
        self.hub.wait_for(&self.names, SOON)
    }

    /// Forgets what was before.
    pub(crate) fn measure_anew(&self) -> Result<()> {
        self.hub.command(&self.names, Command::Reset)
    }

    /// Lets all clients replace their long-lived connections.
    pub(crate) fn reconnect(&self) -> Result<()> {
        self.hub.reconnect(&self.names, REPORTED)
    }

    /// What all clients saw since the last report or [`Clients::measure_anew`], once their last request has ended.
    pub(crate) fn seen(&self) -> Result<Seen> {
        Ok(Seen(self.hub.reports(&self.names, REPORTED)?))
    }

    /// What all clients see from now on.
    pub(crate) fn look(&self) -> Result<Seen> {
        self.measure_anew()?;
        std::thread::sleep(LOOK);
        self.seen()
    }

    /// Ends the load: gives what was seen last and deletes the pods.
    pub(crate) fn end(self, cluster: &Cluster) -> Result<Seen> {
        let seen = self.seen()?;
        cluster.kubectl().run(&["delete", "--now", &self.daemons])?;
        Ok(seen)
    }

    /// As [`Clients::seen`], without the client of node `name`.
    pub(crate) fn seen_elsewhere(&self, name: &str) -> Result<Seen> {
        let names: Vec<String> = self.names.iter().filter(|other| *other != name).cloned().collect();
        Ok(Seen(self.hub.reports(&names, REPORTED)?))
    }
}

/// One report per client.
#[derive(Debug, Clone)]
pub(crate) struct Seen(pub(crate) Vec<Report>);

impl Seen {
    /// Requests over long-lived connections, and over short-lived ones.
    pub(crate) fn requests(&self) -> u64 {
        self.0.iter().map(|report| report.requests + report.churned).sum()
    }

    /// Requests that failed, by what happened to them.
    pub(crate) fn failures(&self) -> BTreeMap<FailureKind, usize> {
        let mut kinds = BTreeMap::new();
        for failure in self.0.iter().flat_map(|report| &report.failures) {
            *kinds.entry(failure.kind).or_default() += 1;
        }
        kinds
    }

    /// Connections that could not be opened.
    pub(crate) fn connect_errors(&self) -> u64 {
        self.0.iter().map(|report| report.new_connection_errors_total).sum()
    }

    /// The longest time that a request took.
    pub(crate) fn slowest(&self) -> Duration {
        let micros = self.0.iter().flat_map(|report| &report.latencies).map(|(micros, _)| *micros);
        Duration::from_micros(micros.max().unwrap_or(0))
    }

    /// Answers by server.
    pub(crate) fn servers(&self) -> BTreeMap<String, u64> {
        let mut servers = BTreeMap::new();
        for (name, count) in self.0.iter().flat_map(|report| &report.pods) {
            *servers.entry(name.clone()).or_default() += count;
        }
        servers
    }

    /// The part of the answers that came from the clients' own zones.
    pub(crate) fn local(&self) -> f64 {
        let of = |report: &Report| report.zones.get(&report.zone).copied().unwrap_or(0);
        let all: u64 = self.0.iter().map(|report| report.succeeded).sum();
        self.0.iter().map(of).sum::<u64>() as f64 / all.max(1) as f64
    }

    /// Fails unless all answers came from the clients' own zones.
    pub(crate) fn all_local(&self) -> Result<()> {
        ensure!(self.local() == 1.0, "not all in the zone: {}", self.told());
        Ok(())
    }

    /// Fails unless there were as many requests, all succeeded, no connect failed, and servers saw the clients' own
    /// addresses.
    pub(crate) fn flawless(&self, at_least: u64) -> Result<()> {
        ensure!(self.requests() >= at_least, "only {} requests: {}", self.requests(), self.told());
        let mismatches: u64 = self.0.iter().map(|report| report.source_mismatches).sum();
        let failures: u64 = self.0.iter().map(|report| report.failures_total).sum();
        ensure!(failures == 0 && self.connect_errors() == 0 && mismatches == 0, "{}", self.told());
        Ok(())
    }

    /// The reports in short, for an error.
    pub(crate) fn told(&self) -> String {
        let line = |report: &Report| {
            format!(
                "{} in {}: {} requests in {} ms, {} short-lived connections; {} failed: {:?}; {} connects failed: {:?}; {} \
                 saw another address; by server {:?}",
                report.name,
                report.zone,
                report.requests,
                report.interval_ms,
                report.churned,
                report.failures_total,
                report.failures.iter().take(20).collect::<Vec<_>>(),
                report.new_connection_errors_total,
                report.new_connection_errors.iter().take(20).collect::<Vec<_>>(),
                report.source_mismatches,
                report.pods,
            )
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
