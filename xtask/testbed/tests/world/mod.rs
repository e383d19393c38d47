// SPDX-License-Identifier: Apache-2.0
//! A small world for end-to-end tests: nodes with agents, discovery, echo and gRPC server pods, client pods, and the
//! rules of kube-proxy on every node behind it all.
//!
//! Every test makes its own. What is asserted is what peers observed; agents are asked only to know when a change
//! has arrived.

#![allow(dead_code, reason = "each test file uses the part of the world that it needs")]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use evenkeel_testbed::probe::connect::Report;
use evenkeel_testbed::{
    Agent, AgentOptions, Baseline, BaselineService, Discovery, DiscoveryOptions, EndpointSpec, Fabric,
    Manifests, Node, Pod, PortSpec, Process, ServiceSpec, Spawn, eventually, sockets,
};
use serde_json::Value;

/// Longest wait for what takes milliseconds.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// Longest wait for a running load to end by itself, beyond its own time.
pub(crate) const LOAD_END: Duration = Duration::from_secs(30);
/// Port of echo servers.
pub(crate) const ECHO: u16 = 7000;
/// Port of gRPC servers.
pub(crate) const GRPC: u16 = 50051;
/// The Service of echo servers, balanced per connection.
pub(crate) const ECHO_VIP: &str = "10.96.0.10:80";
/// The Service of gRPC servers, balanced per request.
pub(crate) const GRPC_VIP: &str = "10.96.0.20:80";
/// A Service of echo servers that did not opt in.
pub(crate) const PLAIN_VIP: &str = "10.96.0.30:80";

/// Which servers a world has on each node, and what its agents are told.
pub(crate) struct Plan {
    /// (name, zone) of nodes.
    pub(crate) nodes: &'static [(&'static str, &'static str)],
    /// Server pods on each node.
    pub(crate) servers: usize,
    /// Further arguments of agents.
    pub(crate) agent_args: &'static [&'static str],
}

impl Default for Plan {
    fn default() -> Self {
        let nodes = &[("a1", "zone-a"), ("a2", "zone-a"), ("b1", "zone-b")];
        Self { nodes, servers: 2, agent_args: &[] }
    }
}

pub(crate) struct World {
    pub(crate) manifests: Manifests,
    pub(crate) discovery: Option<Discovery>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) servers: Vec<Pod>,
    pub(crate) clients: Vec<Pod>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) options: AgentOptions,
    // Last: dropped after the handles above.
    pub(crate) fabric: Fabric,
}

impl World {
    /// Everything up, agents ready and knowing the Services.
    pub(crate) fn new(plan: &Plan) -> Result<Self> {
        let mut world = Self::without_agents(plan)?;
        world.start_discovery()?;
        world.start_agents()?;
        Ok(world)
    }

    /// Nodes, pods, servers, manifests and kube-proxy's rules; neither discovery nor agents.
    pub(crate) fn without_agents(plan: &Plan) -> Result<Self> {
        let fabric = Fabric::new()?;
        let nodes = fabric.add_nodes(plan.nodes)?;
        let manifests = Manifests::new(fabric.run_dir().join("manifests"))?;
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        for node in &nodes {
            manifests.node(node.name(), node.zone())?;
            for n in 0..plan.servers {
                let pod = node.add_pod(&format!("server-{}-{n}", node.name()))?;
                serve(&pod)?;
                servers.push(pod);
            }
            clients.push(node.add_pod(&format!("client-{}", node.name()))?);
        }
        let options = AgentOptions {
            args: plan.agent_args.iter().map(|&arg| arg.into()).collect(),
            ..AgentOptions::default()
        };
        let (discovery, agents) = (None, Vec::new());
        let world = Self { manifests, discovery, agents, servers, clients, nodes, options, fabric };
        world.services()?;
        world.publish(&world.servers)?;
        world.baseline(&world.servers)?;
        Ok(world)
    }

    fn services(&self) -> Result<()> {
        for (name, balance, vip, port) in [
            ("echo", "connection", ECHO_VIP, echo_port()),
            ("grpc", "request", GRPC_VIP, grpc_port()),
            ("plain", "", PLAIN_VIP, echo_port()),
        ] {
            let vip = address(vip).ip().to_string();
            self.manifests.service(&ServiceSpec::balanced(name, balance, &vip, vec![port]))?;
        }
        Ok(())
    }

    /// Makes these pods the endpoints of every Service.
    pub(crate) fn publish(&self, pods: &[Pod]) -> Result<()> {
        let endpoints: Vec<EndpointSpec> = pods.iter().map(EndpointSpec::of).collect();
        for (service, port) in [("echo", echo_port()), ("grpc", grpc_port()), ("plain", echo_port())] {
            self.manifests.endpoints("demo", service, &endpoints, &[port])?;
        }
        Ok(())
    }

    /// Installs kube-proxy's rules for these pods on every node.
    pub(crate) fn baseline(&self, pods: &[Pod]) -> Result<()> {
        let service = |name: &str, vip: &str, port| {
            let vip = address(vip);
            let endpoints = pods.iter().map(|pod| SocketAddrV4::new(pod.address(), port)).collect();
            BaselineService { name: name.into(), vip: *vip.ip(), port: vip.port(), endpoints }
        };
        let services = vec![
            service("echo", ECHO_VIP, ECHO),
            service("grpc", GRPC_VIP, GRPC),
            service("plain", PLAIN_VIP, ECHO),
        ];
        let baseline = Baseline::new(services);
        self.nodes.iter().try_for_each(|node| baseline.install(node))
    }

    pub(crate) fn start_discovery(&mut self) -> Result<()> {
        self.discovery = Some(self.fabric.start_discovery(&DiscoveryOptions::new(self.manifests.folder()))?);
        Ok(())
    }

    /// Ends discovery with `signal` and waits for its end.
    pub(crate) fn end_discovery(&mut self, signal: i32) -> Result<()> {
        let discovery = self.discovery.take().context("discovery runs")?;
        discovery.signal(signal)?;
        discovery.wait(SOON).map(|_| ())
    }

    /// Starts an agent on every node, in place of those before, and waits until all are ready.
    pub(crate) fn start_agents(&mut self) -> Result<()> {
        let agents = self.nodes.iter().map(|node| node.start_agent(&self.options));
        self.agents = agents.collect::<Result<_>>()?;
        self.agents.iter().try_for_each(|agent| agent.wait_ready(SOON))?;
        let endpoints = self.servers.len();
        self.agents.iter().try_for_each(|agent| {
            await_pods(agent, agent.node().pods().len(), SOON)?;
            await_endpoints(agent, "demo/echo", endpoints)?;
            await_endpoints(agent, "demo/grpc", endpoints)
        })
    }

    /// Starts the agent of node `n` anew and waits until it is ready and serves the pods.
    pub(crate) fn restart_agent(&mut self, n: usize) -> Result<()> {
        self.agents[n] = self.nodes[n].start_agent(&self.options)?;
        self.agents[n].wait_ready(SOON)?;
        await_pods(&self.agents[n], self.nodes[n].pods().len(), SOON)
    }

    /// The servers of `zone`.
    pub(crate) fn servers_in(&self, zone: &str) -> Vec<Pod> {
        self.servers.iter().filter(|pod| pod.node().zone() == zone).cloned().collect()
    }

    /// Adds what the agents wrote last to a failure.
    pub(crate) fn told<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| self.agents.iter().map(|agent| agent.tail()).collect::<Vec<_>>().join("\n"))
    }
}

/// The IPv4 ports on which somebody listens in `pod`. In a client pod that is the agent.
pub(crate) fn listening_ports(pod: &Pod) -> Result<Vec<u16>> {
    Ok(sockets::listening_ports(&pod.exec(&["cat", "/proc/self/net/tcp"])?))
}

pub(crate) fn echo_port() -> PortSpec {
    PortSpec::tcp("tcp-echo", 80, ECHO)
}

pub(crate) fn grpc_port() -> PortSpec {
    PortSpec { app_protocol: Some("grpc".into()), ..PortSpec::tcp("grpc", 80, GRPC) }
}

pub(crate) fn address(text: &str) -> SocketAddrV4 {
    text.parse().unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
}

/// Starts an echo server and a gRPC server in `pod`.
pub(crate) fn serve(pod: &Pod) -> Result<()> {
    let (echo, grpc) = (format!("[::]:{ECHO}"), format!("0.0.0.0:{GRPC}"));
    let zone = pod.node().zone();
    let started = [
        pod.spawn(&Spawn::testbed(["echo-server", "--listen", &echo, "--name", pod.name()])?)?,
        pod.spawn(&Spawn::testbed([
            "server",
            "--listen",
            &grpc,
            "--name",
            pod.name(),
            "--zone",
            zone,
            "--service-time-us",
            "500",
        ])?)?,
    ];
    started
        .iter()
        .try_for_each(|process| process.wait_stdout(|text| text.contains("listening"), SOON).map(|_| ()))
}

/// Waits until `agent` balances `service` over `count` endpoints.
pub(crate) fn await_endpoints(agent: &Agent, service: &str, count: usize) -> Result<()> {
    eventually(&format!("{} knows {count} endpoints of {service}", agent.name()), SOON, || {
        let answer = agent.json(&["endpoints", service])?;
        let healthy = answer["endpoints"].as_array().map_or(0, Vec::len);
        ensure!(healthy == count, "it knows {healthy}: {answer}");
        in_the_maps(agent)
    })
    .with_context(|| agent.tail())
}

/// Fails unless all that `agent` knows is in the maps: connects are balanced by what is there.
pub(crate) fn in_the_maps(agent: &Agent) -> Result<()> {
    let status = agent.status()?;
    ensure!(status["map_revision"] == status["revision"], "the maps are behind: {status}");
    Ok(())
}

/// Waits until `agent` serves `count` pods: it has found them, and the programs find its listeners, two for each pod.
pub(crate) fn await_pods(agent: &Agent, count: usize, deadline: Duration) -> Result<()> {
    eventually(&format!("{} serves {count} pods", agent.name()), deadline, || {
        let status = agent.status()?;
        let found = &status["request_path"]["pods"];
        let maps = status["kernel"]["maps"].as_array().context("no maps")?;
        let listeners = maps.iter().find(|map| map["map"] == "LISTENERS").context("no listeners")?;
        ensure!(found == count && listeners["used"] == 2 * count, "{found} found, {listeners}");
        Ok(())
    })
    .with_context(|| agent.tail())
}

/// A probe that makes connects; see `probe-connect --help`.
pub(crate) fn start_probe(pod: &Pod, target: &str, args: &[&str]) -> Result<Process> {
    pod.spawn(&Spawn::testbed(["probe-connect", "--target", target])?.args(args.iter().copied()))
}

/// Makes `count` connects and returns the report.
pub(crate) fn probe(pod: &Pod, target: &str, count: u32) -> Result<Report> {
    let count = count.to_string();
    Report::last(&start_probe(pod, target, &["--count", &count])?.finish(LOAD_END)?)
}

/// gRPC load at `rate` requests a second for `ms`, over four connections; the report comes at its end.
pub(crate) fn start_load(pod: &Pod, rate: u32, ms: u64, args: &[&str]) -> Result<Process> {
    let (rate, ms, source) = (rate.to_string(), ms.to_string(), pod.address().to_string());
    let zone = pod.node().zone();
    let spawn = Spawn::testbed([
        "client",
        "--target",
        GRPC_VIP,
        "--name",
        pod.name(),
        "--zone",
        zone,
        "--source",
        &source,
        "--rate",
        &rate,
        "--for-ms",
        &ms,
    ])?;
    pod.spawn(&spawn.args(args.iter().copied()))
}

/// What a load found.
pub(crate) struct Load(pub(crate) Value);

impl Load {
    /// Waits for the end of a load.
    pub(crate) fn of(process: &Process) -> Result<Self> {
        let text = process.finish(LOAD_END)?;
        let line = text
            .lines()
            .next_back()
            .ok_or_else(|| anyhow!("the client printed nothing\n{}", process.tail()))?;
        Ok(Self(serde_json::from_str(line).with_context(|| format!("not a report: {line}"))?))
    }

    pub(crate) fn requests(&self) -> u64 {
        self.0["requests"].as_u64().unwrap_or(0)
    }

    pub(crate) fn failures(&self) -> u64 {
        self.0["failures_total"].as_u64().unwrap_or(u64::MAX)
    }

    pub(crate) fn connect_errors(&self) -> usize {
        self.0["new_connection_errors"].as_array().map_or(usize::MAX, Vec::len)
    }

    /// Connects that failed, without connections that stood and were cut before HTTP/2 was spoken.
    pub(crate) fn failed_connects(&self) -> usize {
        let kind = |error: &&Value| error["kind"] == "connect" || error["kind"] == "connect-timeout";
        self.0["new_connection_errors"].as_array().map_or(usize::MAX, |all| all.iter().filter(kind).count())
    }

    /// Responses whose server saw another address than the client pod's own.
    pub(crate) fn source_mismatches(&self) -> u64 {
        self.0["source_mismatches"].as_u64().unwrap_or(u64::MAX)
    }

    /// Requests by server pod, or by zone.
    pub(crate) fn by(&self, what: &str) -> Vec<(String, u64)> {
        let counts = self.0[what].as_object().into_iter().flatten();
        counts.map(|(name, n)| (name.clone(), n.as_u64().unwrap_or(0))).collect()
    }

    /// The busiest server's share over the mean share among `servers`.
    pub(crate) fn skew(&self, servers: usize) -> f64 {
        let counts = self.by("pods");
        let total: u64 = counts.iter().map(|(_, n)| n).sum();
        let most = counts.iter().map(|(_, n)| *n).max().unwrap_or(0);
        most as f64 * servers as f64 / total.max(1) as f64
    }

    /// Fails unless there was load and all of it succeeded, seen by servers as from the client itself.
    pub(crate) fn flawless(&self, at_least: u64) -> Result<()> {
        ensure!(self.requests() >= at_least, "only {} requests: {}", self.requests(), self.0);
        ensure!(self.failures() == 0, "requests failed: {}", self.0);
        ensure!(self.connect_errors() == 0, "connects failed: {}", self.0);
        ensure!(self.source_mismatches() == 0, "a server saw another address: {}", self.0);
        Ok(())
    }
}

/// Fails unless every connect succeeded and every server saw the pod's own address.
pub(crate) fn all_well(report: &Report, pod: &Pod) -> Result<()> {
    ensure!(report.connects > 0 && report.lost() == 0, "{report:?}");
    let own = pod.address().to_string();
    ensure!(report.seen_as.keys().all(|seen| *seen == own), "a server saw another address: {report:?}");
    Ok(())
}

/// Largest minus smallest number of connections over `servers`.
pub(crate) fn spread(report: &Report, servers: &[Pod]) -> u64 {
    let counts = servers.iter().map(|pod| report.servers.get(pod.name()).copied().unwrap_or(0));
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
}

/// The counters of an agent's kernel programs.
pub(crate) fn counter(agent: &Agent, name: &str) -> Result<u64> {
    let status = agent.status()?;
    let counters = status["kernel"]["counters"].as_array().context("counters")?;
    let found = counters.iter().find(|counter| counter["name"] == name);
    found
        .and_then(|counter| counter["value"].as_u64())
        .with_context(|| format!("no counter {name} in {status}"))
}

/// The `SocketAddr` of a text that is known to be one.
pub(crate) fn socket(text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| format!("not an address: {text}"))
}
