// SPDX-License-Identifier: Apache-2.0
//! The demo's cluster: three zones, six nodes, twelve server pods, a client pod on each node, discovery and agents.
//!
//! What must always be true: the rules of the baseline and the EndpointSlices name the same endpoints, as on a node
//! where kube-proxy and Evenkeel run side by side; dropping a [`Cluster`] removes everything.
//!
//! Deliberately not here: what happens in which order; see `phases`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::hub::Hub;
use super::interrupt::Interrupt;
use super::parameters::{
    CONNECTIONS, NODES, OUTAGE_ZONE, POD_PORT, PUBLISH_DEADLINE, RATE, REQUEST_DEADLINE_MS, SERVERS_PER_NODE,
    SERVICE, SERVICE_PORT, SERVICE_TIME_US, SLOW_FACTOR, SLOW_POD, START_DEADLINE, TARGET, WORKERS,
};
use super::plan;
use crate::{
    Agent, AgentOptions, Baseline, BaselineService, Discovery, DiscoveryOptions, EndpointSpec, Fabric,
    Manifests, Node, Pod, PortSpec, Spawn,
};

/// The manifests that the demo starts from.
const NODES_YAML: &str = include_str!("../../../../deploy/demo/nodes.yaml");
const SERVICE_YAML: &str = include_str!("../../../../deploy/demo/service.yaml");

/// A running cluster.
pub(super) struct Cluster {
    pub(super) hub: Hub,
    pub(super) interrupt: Interrupt,
    /// Client pods' names.
    pub(super) clients: Vec<String>,
    servers: Vec<Pod>,
    agents: BTreeMap<String, Agent>,
    _discovery: Option<Discovery>,
    manifests: Manifests,
    nodes: Vec<Node>,
    // Last, so that nothing above outlives what it points to.
    fabric: Fabric,
}

impl Cluster {
    /// Builds everything and waits until it runs; without agents and discovery only the baseline can be shown.
    pub(super) fn build(interrupt: Interrupt, with_agents: bool) -> Result<Self> {
        eprintln!("making {} nodes in three zones", NODES.len());
        let fabric = Fabric::new()?;
        let hub = Hub::listen(&fabric.run_dir().join("hub.sock"), interrupt.clone())?;
        let nodes = fabric.add_nodes(&NODES)?;
        let pods = in_parallel(&nodes, |node| {
            let names = server_names(node.name()).chain([client_name(node.name())]);
            names.map(|name| node.add_pod(&name)).collect::<Result<Vec<Pod>>>()
        })?;
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for mut pods in pods {
            clients.extend(pods.pop());
            servers.append(&mut pods);
        }
        let manifests = Manifests::new(fabric.run_dir().join("manifests"))?;
        manifests.write("nodes.yaml", NODES_YAML)?;
        manifests.write("service.yaml", SERVICE_YAML)?;
        let names = clients.iter().map(|pod| pod.name().to_owned()).collect();
        let mut cluster = Self {
            hub,
            interrupt,
            clients: names,
            servers,
            agents: BTreeMap::new(),
            _discovery: None,
            manifests,
            nodes,
            fabric,
        };
        cluster.publish(|_| true)?;
        if with_agents {
            cluster.start_control()?;
        }
        eprintln!("starting {} server pods and {} client pods", cluster.servers.len(), clients.len());
        cluster.start_servers(|_| true)?;
        for pod in &clients {
            cluster.start_client(pod)?;
        }
        cluster.hub.wait_for(&cluster.clients, START_DEADLINE)?;
        Ok(cluster)
    }

    fn start_control(&mut self) -> Result<()> {
        eprintln!("starting discovery and an agent on every node");
        let options = DiscoveryOptions::new(self.manifests.folder());
        self._discovery = Some(self.fabric.start_discovery(&options)?);
        let options = AgentOptions::default();
        let agents = in_parallel(&self.nodes, |node| {
            let agent = node.start_agent(&options)?;
            agent.wait_ready(START_DEADLINE)?;
            Ok((node.name().to_owned(), agent))
        })?;
        self.agents = agents.into_iter().collect();
        Ok(())
    }

    fn start_client(&self, pod: &Pod) -> Result<()> {
        let spawn = Spawn::testbed(["client", "--target", TARGET, "--name", pod.name()])?
            .args(["--zone", pod.node().zone(), "--source", &pod.address().to_string()])
            .args(["--connections", &CONNECTIONS.to_string(), "--rate", &RATE.to_string()])
            .args(["--deadline-ms", &REQUEST_DEADLINE_MS.to_string()])
            .args(["--control", &self.hub.path().to_string_lossy()])
            .label("client");
        pod.spawn(&spawn).map(drop)
    }

    /// Starts the server pods of these zones and waits until they listen.
    pub(super) fn start_servers(&self, in_zone: impl Fn(&str) -> bool) -> Result<()> {
        let pods: Vec<&Pod> = self.servers.iter().filter(|pod| in_zone(pod.node().zone())).collect();
        let names: Vec<String> = pods.iter().map(|pod| pod.name().to_owned()).collect();
        // Those who ended before must not be taken for the new ones.
        self.hub.wait_gone(&names, START_DEADLINE)?;
        for pod in pods {
            let slow = if pod.name() == SLOW_POD { SLOW_FACTOR } else { 1.0 };
            let spawn =
                Spawn::testbed(["server", "--listen", &format!("0.0.0.0:{POD_PORT}"), "--name", pod.name()])?
                    .args(["--zone", pod.node().zone(), "--workers", &WORKERS.to_string()])
                    .args([
                        "--service-time-us",
                        &SERVICE_TIME_US.to_string(),
                        "--slow-factor",
                        &slow.to_string(),
                    ])
                    .args(["--control", &self.hub.path().to_string_lossy()])
                    .label("server");
            pod.spawn(&spawn)?;
        }
        // A server binds before it introduces itself.
        self.hub.wait_for(&names, START_DEADLINE)
    }

    /// Kills all server pods of the zone that goes, at once, and waits until they are gone.
    pub(super) fn end_zone(&self) -> Result<()> {
        let pods: Vec<&Pod> = self.servers.iter().filter(|pod| pod.node().zone() == OUTAGE_ZONE).collect();
        in_parallel(&pods, |pod| pod.kill_all()).map(drop)
    }

    /// Writes the EndpointSlices for the pods of these zones, and the baseline's rules after them.
    pub(super) fn publish(&self, in_zone: impl Fn(&str) -> bool) -> Result<()> {
        let pods: Vec<&Pod> = self.servers.iter().filter(|pod| in_zone(pod.node().zone())).collect();
        let endpoints: Vec<EndpointSpec> = pods.iter().map(|pod| EndpointSpec::of(pod)).collect();
        let ports = [PortSpec::tcp("grpc", SERVICE_PORT, POD_PORT)];
        self.manifests.endpoints(SERVICE.0, SERVICE.1, &endpoints, &ports)?;
        let target: SocketAddrV4 = TARGET.parse()?;
        let baseline = Baseline::new(vec![BaselineService {
            name: SERVICE.1.to_owned(),
            vip: *target.ip(),
            port: target.port(),
            endpoints: pods.iter().map(|pod| SocketAddrV4::new(pod.address(), POD_PORT)).collect(),
        }]);
        in_parallel(&self.nodes, |node| baseline.install(node)).map(drop)
    }

    /// Labels the Service, as `kubectl label` does.
    pub(super) fn label(&self, balance: &str) -> Result<()> {
        self.manifests.write("service.yaml", &labelled(SERVICE_YAML, balance)?)
    }

    /// Waits until every agent that should run has the Service in force like this.
    pub(super) fn in_force(&self, balance: &str, endpoints: usize) -> Result<()> {
        let what = format!("{balance} over {endpoints} endpoints is in force on every node");
        let mut waiting: BTreeSet<&String> = self.agents.keys().collect();
        self.interrupt.until(&what, PUBLISH_DEADLINE, || {
            let nodes: Vec<&String> = waiting.iter().copied().collect();
            let answers = in_parallel(&nodes, |node| {
                let agent = &self.agents[*node];
                let fault =
                    agent.json(&["services"]).and_then(|services| plan::check(&services, balance, endpoints));
                Ok(fault.err().map(|error| error.context(format!("agent of {node}"))))
            })?;
            let mut last = None;
            for (node, fault) in nodes.iter().zip(answers) {
                match fault {
                    None => drop(waiting.remove(*node)),
                    Some(fault) => last = Some(fault),
                }
            }
            last.map_or(Ok(()), Err)
        })
    }

    /// The agent of a node.
    pub(super) fn agent(&self, node: &str) -> Result<&Agent> {
        self.agents.get(node).with_context(|| format!("{node} has no agent"))
    }

    /// Starts a new agent in place of one that has ended.
    pub(super) fn restart_agent(&mut self, name: &str) -> Result<()> {
        let node = self.nodes.iter().find(|node| node.name() == name);
        let agent = node.ok_or_else(|| anyhow!("no node {name}"))?.start_agent(&AgentOptions::default())?;
        self.agents.insert(name.to_owned(), agent);
        Ok(())
    }

    /// Waits until an agent is ready and its heartbeat counts.
    pub(super) fn wait_agent(&self, name: &str, deadline: Duration) -> Result<()> {
        let agent = self.agent(name)?;
        agent.wait_ready(deadline)?;
        self.interrupt
            .until(&format!("the agent of {name} serves"), deadline, || plan::serves(&agent.status()?))
    }

    /// Name and zone of the server pods, zone by zone.
    pub(super) fn servers(&self) -> Vec<(String, String)> {
        self.servers.iter().map(|pod| (pod.node().zone().to_owned(), pod.name().to_owned())).collect()
    }

    /// Removes everything, and says what could not be removed.
    pub(super) fn close(self) -> Result<()> {
        let Self { fabric, .. } = self;
        fabric.close()
    }
}

/// `echo-a1` and `echo-a2` on `node-a1`, `echo-a3` and `echo-a4` on `node-a2`.
fn server_names(node: &str) -> impl Iterator<Item = String> {
    let place = node.trim_start_matches("node-");
    let (zone, number) = place.split_at(place.len() - 1);
    let number: usize = number.parse().unwrap_or(1);
    let first = (number - 1) * SERVERS_PER_NODE + 1;
    (first..first + SERVERS_PER_NODE).map(move |i| format!("echo-{zone}{i}"))
}

/// `load-a1` on `node-a1`.
pub(super) fn client_name(node: &str) -> String {
    format!("load-{}", node.trim_start_matches("node-"))
}

/// The Service's manifest with the label that opts it in.
fn labelled(manifest: &str, balance: &str) -> Result<String> {
    const LABELS: &str = "  labels:\n";
    if manifest.matches(LABELS).count() != 1 {
        bail!("the Service's manifest has no single block of labels");
    }
    Ok(manifest.replace(LABELS, &format!("{LABELS}    evenkeel.io/balance: {balance}\n")))
}

/// Does the same to each at once; the first failure is reported.
fn in_parallel<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        results.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_the_only_thing_that_opts_in() {
        let text = labelled(SERVICE_YAML, "request").expect("a block of labels");
        let added: Vec<&str> =
            text.lines().filter(|line| !SERVICE_YAML.lines().any(|old| old == *line)).collect();
        assert_eq!(added, ["    evenkeel.io/balance: request"]);
        assert!(labelled("kind: Service\n", "request").is_err());
    }

    #[test]
    fn the_manifests_and_the_parameters_say_the_same() {
        let target: SocketAddrV4 = TARGET.parse().expect("an address");
        assert!(SERVICE_YAML.contains(&format!("clusterIP: {}\n", target.ip())));
        assert!(SERVICE_YAML.contains(&format!("port: {SERVICE_PORT}\n")) && target.port() == SERVICE_PORT);
        assert!(SERVICE_YAML.contains(&format!("targetPort: {POD_PORT}\n")));
        for (node, zone) in NODES {
            let entry = format!("name: {node}\n  labels:\n    topology.kubernetes.io/zone: {zone}\n");
            assert!(NODES_YAML.contains(&entry), "{node}");
        }
    }

    #[test]
    fn there_are_four_pods_in_each_zone_and_the_slow_one_is_among_them() {
        let names: BTreeSet<String> = NODES.iter().flat_map(|(node, _)| server_names(node)).collect();
        assert_eq!(names.len(), 12);
        assert!(names.contains(SLOW_POD));
        assert_eq!(client_name("node-b2"), "load-b2");
    }
}
