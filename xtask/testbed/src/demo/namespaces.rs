// SPDX-License-Identifier: Apache-2.0
//! The stage without Kubernetes: three zones, six nodes made of namespaces, twelve server pods, a client pod on each
//! node, discovery and agents.
//!
//! What must always be true: the rules of the baseline and the EndpointSlices name the same endpoints, as on a node
//! where kube-proxy and Evenkeel run side by side.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use anyhow::{Context, Result, anyhow, bail};

use super::hub::Hub;
use super::interrupt::Interrupt;
use super::parameters::{
    HUNG_NODE, KILLED_NODE, NODES, OUTAGE_ZONE, POD_PORT, SERVERS_PER_NODE, SERVICE, SERVICE_PORT,
    SERVICE_YAML, START_DEADLINE, TARGET,
};
use super::peers;
use super::stage::{self, Cast, Notes, Stage, in_parallel};
use crate::{
    Agent, AgentOptions, Baseline, BaselineService, Discovery, DiscoveryOptions, EndpointSpec, Fabric,
    Manifests, Node, Pod, PortSpec, Spawn,
};

/// The Node objects.
const NODES_YAML: &str = include_str!("../../../../deploy/demo/nodes.yaml");

pub(super) const NOTES: Notes = Notes {
    baseline: "no label yet: nftables",
    client: "node",
    kill: "kill -9 the agent of node-b1: its kernel takes over",
    hung_node: HUNG_NODE,
    recover: "a new agent adopts the pins, the stopped one goes on",
};

/// Nodes and pods made of namespaces.
pub(super) struct Namespaces {
    cast: Cast,
    servers: Vec<Pod>,
    agents: BTreeMap<String, Agent>,
    _discovery: Option<Discovery>,
    manifests: Manifests,
    nodes: Vec<Node>,
    // Last, so that nothing above outlives what it points to.
    fabric: Fabric,
}

impl Namespaces {
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
        let mut stage = Self {
            cast: cast(hub, interrupt, &servers, &clients),
            servers,
            agents: BTreeMap::new(),
            _discovery: None,
            manifests,
            nodes,
            fabric,
        };
        stage.publish(|_| true)?;
        if with_agents {
            stage.start_control()?;
        }
        eprintln!("starting {} server pods and {} client pods", stage.servers.len(), clients.len());
        stage.start_servers(|_| true)?;
        for pod in &clients {
            stage.start_client(pod)?;
        }
        stage.cast.hub.wait_for(&stage.cast.clients, START_DEADLINE)?;
        Ok(stage)
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
        let control = self.cast.hub.path().to_string_lossy();
        let args = peers::client(pod.name(), pod.node().zone(), &pod.address().to_string(), &control);
        pod.spawn(&Spawn::testbed(args)?).map(drop)
    }

    /// Starts the server pods of these zones and waits until they listen.
    fn start_servers(&self, in_zone: impl Fn(&str) -> bool) -> Result<()> {
        let pods: Vec<&Pod> = self.servers.iter().filter(|pod| in_zone(pod.node().zone())).collect();
        let names: Vec<String> = pods.iter().map(|pod| pod.name().to_owned()).collect();
        // Those who ended before must not be taken for the new ones.
        self.cast.hub.wait_gone(&names, START_DEADLINE)?;
        let control = self.cast.hub.path().to_string_lossy();
        for pod in pods {
            pod.spawn(&Spawn::testbed(peers::server(pod.name(), pod.node().zone(), &control))?)?;
        }
        // A server binds before it introduces itself.
        self.cast.hub.wait_for(&names, START_DEADLINE)
    }

    /// Writes the EndpointSlices for the pods of these zones, and the baseline's rules after them.
    fn publish(&self, in_zone: impl Fn(&str) -> bool) -> Result<()> {
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

    fn agent(&self, node: &str) -> Result<&Agent> {
        self.agents.get(node).with_context(|| format!("{node} has no agent"))
    }

    /// Starts a new agent in place of one that has ended.
    fn restart_agent(&mut self, name: &str) -> Result<()> {
        let node = self.nodes.iter().find(|node| node.name() == name);
        let agent = node.ok_or_else(|| anyhow!("no node {name}"))?.start_agent(&AgentOptions::default())?;
        self.agents.insert(name.to_owned(), agent);
        Ok(())
    }
}

impl Stage for Namespaces {
    fn cast(&self) -> &Cast {
        &self.cast
    }

    fn notes(&self) -> &'static Notes {
        &NOTES
    }

    /// As `kubectl label` does.
    fn label(&self, balance: &str) -> Result<()> {
        self.manifests.write("service.yaml", &labelled(SERVICE_YAML, balance)?)
    }

    fn in_force(&self, balance: &str, endpoints: usize) -> Result<()> {
        let ask = |node: &str, args: &[&str]| self.agent(node)?.json(args);
        stage::in_force(&self.cast.interrupt, self.agents.keys().cloned(), ask, (balance, endpoints))
    }

    fn end_zone(&self) -> Result<()> {
        let pods: Vec<&Pod> = self.servers.iter().filter(|pod| pod.node().zone() == OUTAGE_ZONE).collect();
        in_parallel(&pods, |pod| pod.kill_all()).map(drop)
    }

    fn publish_end(&self) -> Result<()> {
        self.publish(|zone| zone != OUTAGE_ZONE)
    }

    fn revive_zone(&self) -> Result<()> {
        self.start_servers(|zone| zone == OUTAGE_ZONE)?;
        self.publish(|_| true)
    }

    fn kill_agents(&self) -> Result<()> {
        let agent = self.agent(KILLED_NODE)?;
        agent.kill()?;
        agent.wait(START_DEADLINE).map(drop)
    }

    fn hang_agent(&self) -> Result<()> {
        self.agent(HUNG_NODE)?.stop()
    }

    fn recover_agents(&mut self) -> Result<()> {
        self.restart_agent(KILLED_NODE)?;
        self.agent(HUNG_NODE)?.cont()?;
        for node in [KILLED_NODE, HUNG_NODE] {
            let agent = self.agent(node)?;
            agent.wait_ready(START_DEADLINE)?;
            stage::serves(&self.cast.interrupt, node, START_DEADLINE, || agent.status())?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Self { fabric, .. } = *self;
        fabric.close()
    }
}

fn cast(hub: Hub, interrupt: Interrupt, servers: &[Pod], clients: &[Pod]) -> Cast {
    Cast {
        hub,
        interrupt,
        clients: clients.iter().map(|pod| pod.name().to_owned()).collect(),
        servers: servers.iter().map(|pod| (pod.node().zone().to_owned(), pod.name().to_owned())).collect(),
        killed: vec![client_name(KILLED_NODE)],
        hung: vec![client_name(HUNG_NODE)],
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
fn client_name(node: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::parameters::SLOW_POD;
    use std::collections::BTreeSet;

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
