// SPDX-License-Identifier: Apache-2.0
//! What tests against clients that others have made share: discovery, gRPC servers in two zones, a pod for the client.
//!
//! There are no agents: these clients ask discovery themselves. Every test makes its own world. What is asserted is who
//! answered; discovery is asked only what was rejected and what load was reported. The programs come from
//! `cargo xtask test`, which fetches them.

#![allow(dead_code, reason = "each test file uses the part that it needs")]

pub(crate) mod load;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::{
    Discovery, DiscoveryOptions, EndpointSpec, Fabric, Manifests, Node, Pod, PortSpec, Process, ServiceSpec,
    Spawn, eventually,
};
use serde_json::Value;

pub(crate) use load::{Counts, Load};

/// Longest wait for what takes milliseconds.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Where discovery serves xDS.
pub(crate) const DISCOVERY: (&str, u16) = ("172.30.0.250", 18000);
/// The zone of clients.
pub(crate) const NEAR: &str = "zone-a";
/// The other zone.
pub(crate) const FAR: &str = "zone-b";
/// A Service that serves the client's zone first.
pub(crate) const ZONED: &str = "zoned.demo.svc.cluster.local:80";
/// A Service that sends calls to both zones, by weight.
pub(crate) const WEIGHTED: &str = "weighted.demo.svc.cluster.local:80";
const PORT: u16 = 50051;
/// How many endpoint changes a client has to follow.
const MANY_CHANGES: usize = 1_000;
/// Servers that come, leave and are gone in each step of them.
const GROUP: usize = 8;

/// Discovery and servers.
pub(crate) struct World {
    pub(crate) manifests: Manifests,
    pub(crate) discovery: Option<Discovery>,
    pub(crate) near: Vec<Server>,
    pub(crate) far: Vec<Server>,
    pub(crate) client: Pod,
    // Last: dropped after the handles above.
    pub(crate) fabric: Fabric,
}

/// A pod for a server, and the server while it runs.
pub(crate) struct Server {
    pub(crate) pod: Pod,
    process: Option<Process>,
}

impl World {
    /// So many servers in the client's zone and in the other, all of them endpoints of both Services; discovery runs.
    pub(crate) fn new(near: usize, far: usize) -> Result<Self> {
        let fabric = Fabric::new()?;
        let nodes = fabric.add_nodes(&[("a1", NEAR), ("b1", FAR)])?;
        let manifests = Manifests::new(fabric.run_dir().join("manifests"))?;
        nodes.iter().try_for_each(|node| manifests.node(node.name(), node.zone()))?;
        for (name, vip, zone) in [("zoned", "10.96.0.20", "prefer"), ("weighted", "10.96.0.21", "ignore")] {
            let mut service = ServiceSpec::balanced(name, "request", vip, vec![port()]);
            service.annotations = vec![("evenkeel.io/zone".into(), zone.into())];
            manifests.service(&service)?;
        }
        let client = nodes[0].add_pod("client")?;
        let (mut near, mut far) = (servers(&nodes[0], near)?, servers(&nodes[1], far)?);
        start(&mut near)?;
        start(&mut far)?;
        let mut world = Self { manifests, discovery: None, near, far, client, fabric };
        world.publish(&[ready(&world.near), ready(&world.far)].concat())?;
        world.write_weights(1, 1)?;
        world.start_discovery()?;
        Ok(world)
    }

    pub(crate) fn discovery(&self) -> Result<&Discovery> {
        self.discovery.as_ref().context("discovery runs")
    }

    fn start_discovery(&mut self) -> Result<()> {
        self.discovery = Some(self.fabric.start_discovery(&DiscoveryOptions::new(self.manifests.folder()))?);
        Ok(())
    }

    /// Makes these the endpoints of the Service that goes by zone. One file, so one change.
    pub(crate) fn publish(&self, endpoints: &[EndpointSpec]) -> Result<()> {
        self.manifests.endpoints("demo", "zoned", endpoints, &[port()])
    }

    /// Gives each endpoint of the other Service the weight of its zone, and waits until discovery serves that.
    pub(crate) fn weigh(&self, near: u32, far: u32) -> Result<()> {
        self.write_weights(near, far)?;
        let served = eventually("discovery serves the weights", SOON, || {
            let service = self.discovery()?.json(&["service", "demo/weighted"])?;
            let endpoints = service["endpoints"].as_array().context("endpoints")?;
            let right =
                |endpoint: &Value| endpoint["weight"] == if endpoint["zone"] == NEAR { near } else { far };
            ensure!(!endpoints.is_empty() && endpoints.iter().all(right), "{service}");
            Ok(())
        });
        self.told(served)
    }

    fn write_weights(&self, near: u32, far: u32) -> Result<()> {
        for (zone, weight, servers) in [(NEAR, near, &self.near), (FAR, far, &self.far)] {
            let name = format!("weighted-{zone}");
            self.manifests.weighted_slice(("demo", "weighted"), &name, weight, &ready(servers), &[port()])?;
        }
        Ok(())
    }

    /// Discovery ends and comes back, by both signals, under load; endpoints change while it is away.
    pub(crate) fn restart_discovery_under(&mut self, load: &Load) -> Result<()> {
        for (signal, from, to) in [(libc::SIGTERM, NEAR, FAR), (libc::SIGKILL, FAR, NEAR)] {
            self.nothing_was_rejected()?;
            let discovery = self.discovery.take().context("discovery runs")?;
            discovery.signal(signal)?;
            discovery.wait(SOON)?;
            self.publish(&ready(self.servers_in(to)))?;
            let before = load.counts()?;
            let told = load.until("calls go on without discovery", &before, |since| since.answered() >= 100);
            let since = told?.since(&before);
            ensure!(since.share(from) == 1.0, "nobody can have told that {from} has left: {since:?}");
            self.start_discovery()?;
            let what = format!("what changed while discovery was away arrives: calls go to {to}");
            self.told(load.until_only(&what, self.servers_in(to)))?;
        }
        Ok(())
    }

    /// A thousand endpoint changes: groups of servers come, drain as in Kubernetes (first terminating, then ended), and
    /// are gone. A server ends only after the calls have left it.
    pub(crate) fn change_a_thousand_times_under(&mut self, load: &Load) -> Result<()> {
        let mut new = self.near.split_off(2 * GROUP);
        let mut gone = self.near.split_off(GROUP);
        self.publish(&[ready(&self.near), draining(&gone), draining(&new)].concat())?;
        self.told(load.until_only("a third serves", &self.near))?;
        stop(&mut new)?;
        stop(&mut gone)?;
        self.publish(&[ready(&self.near), draining(&gone)].concat())?;
        let mut changes = 3 * GROUP;
        while changes < MANY_CHANGES {
            start(&mut new)?;
            self.publish(&[ready(&new), draining(&self.near)].concat())?;
            changes += new.len() + self.near.len() + gone.len();
            self.told(load.until_only("calls follow the endpoints", &new))?;
            stop(&mut self.near)?;
            // Who served is about to be gone, who came serves, who was gone comes again.
            std::mem::swap(&mut self.near, &mut new);
            std::mem::swap(&mut gone, &mut new);
        }
        Ok(())
    }

    fn servers_in(&self, zone: &str) -> &[Server] {
        if zone == NEAR { &self.near } else { &self.far }
    }

    /// Discovery has one client, which is in sync and has rejected nothing, now or before. What discovery says of it.
    pub(crate) fn nothing_was_rejected(&self) -> Result<Value> {
        let discovery = self.discovery()?;
        let what = "the client has acknowledged all that it was sent";
        let client = eventually(what, SOON, || {
            let mut clients = discovery.json(&["clients"])?;
            ensure!(clients["clients"].as_array().is_some_and(|all| all.len() == 1), "{clients}");
            let client = clients["clients"][0].take();
            ensure!(client["in_sync"] == true, "{client}");
            Ok(client)
        });
        let client = self.told(client)?;
        ensure!(client["last_rejection"] == "", "{client}");
        let metrics = discovery.metrics()?;
        let counts = metrics.lines().filter(|line| line.starts_with("evenkeel_discovery_rejections_total"));
        let some: Vec<&str> = counts.filter(|line| !line.ends_with(" 0")).collect();
        ensure!(some.is_empty(), "{some:?}");
        Ok(client)
    }

    /// Adds what discovery wrote last to a failure.
    pub(crate) fn told<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| self.discovery.as_ref().map(|discovery| discovery.tail()).unwrap_or_default())
    }
}

/// How many servers a world needs for [`World::change_a_thousand_times_under`].
pub(crate) const CHURNED: usize = 3 * GROUP;

/// A program or folder that `cargo xtask test` has provided.
pub(crate) fn program(variable: &str) -> Result<String> {
    std::env::var(variable).with_context(|| format!("{variable} is not set: run this by cargo xtask test"))
}

fn port() -> PortSpec {
    PortSpec { app_protocol: Some("grpc".into()), ..PortSpec::tcp("grpc", 80, PORT) }
}

fn servers(node: &Node, count: usize) -> Result<Vec<Server>> {
    let pod = |n| node.add_pod(&format!("server-{}-{n}", node.name()));
    (0..count).map(|n| Ok(Server { pod: pod(n)?, process: None })).collect()
}

/// Starts servers and waits until they listen.
pub(crate) fn start(servers: &mut [Server]) -> Result<()> {
    let listen = format!("0.0.0.0:{PORT}");
    for Server { pod, process } in servers.iter_mut() {
        let (name, zone) = (pod.name(), pod.node().zone());
        let spawn = Spawn::testbed(["server", "--listen", &listen, "--name", name, "--zone", zone])?;
        *process = Some(pod.spawn(&spawn.args(["--service-time-us", "500"]))?);
    }
    for process in servers.iter().filter_map(|server| server.process.as_ref()) {
        process.wait_stdout(|text| text.contains("listening"), SOON)?;
    }
    Ok(())
}

/// Ends servers as a kubelet does: they are told, answer what they have, and end.
pub(crate) fn stop(servers: &mut [Server]) -> Result<()> {
    let running: Vec<Process> = servers.iter_mut().filter_map(|server| server.process.take()).collect();
    running.iter().try_for_each(Process::terminate)?;
    running.iter().try_for_each(|process| process.finish(SOON).map(drop))
}

/// Ends servers as a power cut does.
pub(crate) fn kill(servers: &mut [Server]) -> Result<()> {
    let running: Vec<Process> = servers.iter_mut().filter_map(|server| server.process.take()).collect();
    running.iter().try_for_each(Process::kill)?;
    running.iter().try_for_each(|process| process.wait(SOON).map(drop))
}

/// Endpoints that take new calls.
pub(crate) fn ready(servers: &[Server]) -> Vec<EndpointSpec> {
    servers.iter().map(|server| EndpointSpec::of(&server.pod)).collect()
}

/// Endpoints of pods that are being deleted and still answer.
pub(crate) fn draining(servers: &[Server]) -> Vec<EndpointSpec> {
    let mut endpoints = ready(servers);
    endpoints.iter_mut().for_each(|endpoint| (endpoint.ready, endpoint.terminating) = (false, true));
    endpoints
}
