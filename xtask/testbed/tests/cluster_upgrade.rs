// SPDX-License-Identifier: Apache-2.0
//! Tier 4: agents that are replaced, that cannot be replaced, and that die, under load, with `deploy/` as it is.
//!
//! A rollout must cost nobody anything: no connect, no request, no connection that the kernel had placed. An image that cannot
//! be had stops at one node, whose old agent goes on. Agents that are killed take with them what they carried, and no
//! connect fails.

mod kubernetes;

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::cluster::install::{AGENT_PODS, AGENTS, NAMESPACE};
use evenkeel_testbed::peer::messages::{FailureKind, NewConnectionErrorKind as Unopened};
use evenkeel_testbed::{Cluster, ClusterOptions, eventually};
use kubernetes::install::{self, AgentPod, in_force};
use kubernetes::traffic::{self, Clients, LOOK, Seen};
use kubernetes::{Leftovers, SERVERS, SOON};

/// Each client's load: half as many new connections as requests, since a rollout is hard on those that begin while it is on.
const LOAD: [&str; 6] = ["--connections", "8", "--rate", "100", "--churn", "50"];
/// Requests that are in flight for longer than an agent takes to hand over.
const SLOW: [&str; 4] = ["--connections", "4", "--rate", "10"];
/// How long one of these takes.
const SLOW_MICROS: &str = "3000000";
/// What was in flight through an agent that was killed has failed by then.
const AFTERMATH: Duration = Duration::from_secs(1);
/// An image that no registry has and no node.
const NOWHERE: &str = "localhost/evenkeel:nowhere";
/// The images of a list of pods, a line each.
const IMAGES: &str = "jsonpath={range .items[*]}{.spec.containers[0].image}{\"\\n\"}{end}";
/// What the kernel counts of connects that were to be handed to an agent and were not.
const FALLEN: [&str; 2] = ["no_listener", "stale"];

struct World {
    cluster: Cluster,
    /// Balanced per connection.
    connections: Clients,
    /// Balanced per request.
    requests: Clients,
    /// The same, with requests that take long.
    slow: Clients,
}

#[test]
fn a_rollout_loses_nothing_a_bad_image_stops_at_one_node_and_killed_agents_fail_no_connect() -> Result<()> {
    let before = Leftovers::now()?;
    let world = World::new()?;
    world.undisturbed("a rollout", World::roll_out)?;
    world.undisturbed("an image that is nowhere", World::stall)?;
    world.kill_all()?;
    world.undisturbed("agents that were started again", |_| {
        std::thread::sleep(LOOK);
        Ok(())
    })?;
    world.cluster.down()?;
    before.nothing_more()
}

impl World {
    fn new() -> Result<Self> {
        let cluster = install::cluster(ClusterOptions::default())?;
        install::install(&cluster)?;
        traffic::servers(&cluster, SERVERS)?;
        let slow = ["--service-time-us", SLOW_MICROS, "--workers", "1000"];
        traffic::servers_named(&cluster, "slow", cluster.nodes().len(), &slow)?;
        let connection = traffic::service(&cluster, "by-connection", Some("connection"))?;
        let request = traffic::service(&cluster, "by-request", Some("request"))?;
        let slow = traffic::service_of(&cluster, "slow", "slow", Some("request"))?;
        let services = [("by-connection", SERVERS), ("by-request", SERVERS), ("slow", cluster.nodes().len())];
        in_force(&cluster, &services, SOON)?;
        let connections = Clients::start(&cluster, "connections", &connection, &LOAD)?;
        let requests = Clients::start(&cluster, "requests", &request, &LOAD)?;
        let slow = Clients::start(&cluster, "slow-requests", &slow, &SLOW)?;
        Ok(Self { cluster, connections, requests, slow })
    }

    /// Nothing fails while `event` happens, all load is served in its zone, no connection that the kernel has placed is
    /// opened anew, and no connect that belongs to an agent is balanced by the kernel.
    fn undisturbed(&self, what: &str, event: impl Fn(&Self) -> Result<()>) -> Result<()> {
        let fallen = self.fallen()?;
        self.all().iter().try_for_each(|(_, clients, _)| clients.measure_anew())?;
        let happened = event(self).with_context(|| what.to_owned());
        for (path, clients, at_least) in self.all() {
            let seen = clients.seen()?;
            println!("{what}, {path}: {} requests, none failed", seen.requests());
            let checked = seen.flawless(at_least).and_then(|()| seen.all_local());
            install::told(&self.cluster, checked).with_context(|| format!("{what}, {path}"))?;
            let opened: u64 = seen.0.iter().map(|report| report.connects).sum();
            ensure!(path != "per connection" || opened == 0, "{what}: {opened} connections were cut");
        }
        happened?;
        let now = self.fallen()?;
        ensure!(now == fallen, "{what}: connects fell to the kernel: {fallen:?}, then {now:?}");
        Ok(())
    }

    /// Each load, with a number of requests that it reaches in [`LOOK`].
    fn all(&self) -> [(&'static str, &Clients, u64); 3] {
        [
            ("per connection", &self.connections, 400),
            ("per request", &self.requests, 400),
            ("slow requests", &self.slow, 20),
        ]
    }

    /// Connects that the kernel has balanced in an agent's place, node by node.
    fn fallen(&self) -> Result<Vec<[u64; 2]>> {
        let count = |agent: &AgentPod, name: &str| {
            let status = agent.ask(&self.cluster, &["status"])?;
            let counters = status["kernel"]["counters"].as_array().context("no counters")?;
            let found = counters.iter().find(|counter| counter["name"] == name);
            found.and_then(|c| c["value"].as_u64()).with_context(|| format!("no counter {name} in {status}"))
        };
        let agents = install::agents(&self.cluster)?;
        agents.iter().map(|agent| Ok([count(agent, FALLEN[0])?, count(agent, FALLEN[1])?])).collect()
    }

    fn roll_out(&self) -> Result<()> {
        let before = names(&self.cluster)?;
        self.cluster.kubectl().run(&["-n", NAMESPACE, "rollout", "restart", AGENTS])?;
        install::all_ready(&self.cluster)?;
        let after = names(&self.cluster)?;
        ensure!(after.iter().all(|name| !before.contains(name)), "{before:?}, then {after:?}");
        // The last of the old ones drains still.
        std::thread::sleep(LOOK);
        Ok(())
    }

    /// The new pod of one node waits for its image; nobody else is touched.
    fn stall(&self) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        let before = names(&self.cluster)?;
        kubectl.run(&["-n", NAMESPACE, "set", "image", AGENTS, &format!("agent={NOWHERE}")])?;
        let reasons = "jsonpath={.status.containerStatuses[*].state.waiting.reason}{\"\\n\"}";
        let pods = ["-n", NAMESPACE, "pods", "-l", AGENT_PODS, "-o", reasons];
        kubectl
            .watch(&pods, SOON, |line| line.contains("ErrImagePull") || line.contains("ImagePullBackOff"))?;
        std::thread::sleep(LOOK);
        let images = ["-n", NAMESPACE, "get", "pods", "-l", AGENT_PODS, "-o", IMAGES];
        let images = kubectl.run(&images)?;
        let given = images.lines().filter(|image| *image == NOWHERE).count();
        ensure!(given == 1, "{given} nodes have been given it: {images}");
        let now = names(&self.cluster)?;
        ensure!(now == before, "the old agents go on: {before:?}, then {now:?}");
        kubectl.run(&["-n", NAMESPACE, "rollout", "undo", AGENTS])?;
        install::all_ready(&self.cluster)
    }

    /// All agents at once, by SIGKILL.
    fn kill_all(&self) -> Result<()> {
        for agent in install::agents(&self.cluster)? {
            // Among them: that the kernel does not tell of its end, for want of a right.
            let faults = agent.ask(&self.cluster, &["status"])?["faults"].take();
            ensure!(faults.as_array().is_some_and(Vec::is_empty), "{}: {faults}", agent.name);
        }
        self.all().iter().try_for_each(|(_, clients, _)| clients.measure_anew())?;
        let killed = SystemTime::now();
        for worker in self.cluster.nodes() {
            // The pids are those of the node's own namespace: nobody else's process is meant.
            worker.node().exec(&["pkill", "-KILL", "-x", "evenkeel"])?;
        }
        self.restarted()?;
        self.connections.seen()?.flawless(400).context("per connection")?;
        for (path, clients, _) in &self.all()[1..] {
            let seen = clients.seen()?;
            println!(
                "agents killed, {path}: {} of {} requests failed",
                seen.failures().values().sum::<usize>(),
                seen.requests()
            );
            only_what_was_carried(&seen, killed).with_context(|| format!("{path}: {}", seen.told()))?;
        }
        Ok(())
    }

    /// Waits until the kubelets have started all agents again, and these are ready.
    fn restarted(&self) -> Result<()> {
        let shown = "jsonpath={range .items[*]}{.status.containerStatuses[0].restartCount} \
                     {.status.containerStatuses[0].ready}{\"\\n\"}{end}";
        let agents = ["-n", NAMESPACE, "get", "pods", "-l", AGENT_PODS, "-o", shown];
        let ready = eventually("all agents are started again", SOON, || {
            let agents = self.cluster.kubectl().run(&agents)?;
            ensure!(agents.lines().all(|agent| agent == "1 true"), "restarts and readiness: {agents}");
            Ok(())
        });
        install::told(&self.cluster, ready)
    }
}

/// The names of the agents' pods, by node.
fn names(cluster: &Cluster) -> Result<Vec<String>> {
    Ok(install::agents(cluster)?.into_iter().map(|agent| agent.name).collect())
}

/// No connect failed, and nothing else but what an agent held when it was killed.
fn only_what_was_carried(seen: &Seen, killed: SystemTime) -> Result<()> {
    let killed = u64::try_from(killed.duration_since(SystemTime::UNIX_EPOCH)?.as_micros())?;
    let end = killed + u64::try_from(AFTERMATH.as_micros())?;
    for report in &seen.0 {
        for error in &report.new_connection_errors {
            let stood = matches!(error.kind, Unopened::HandshakeReset | Unopened::HandshakeTimeout);
            ensure!(stood && error.at_us < end, "a connect failed: {error:?}");
        }
        for failure in &report.failures {
            ensure!(
                failure.kind == FailureKind::Reset && failure.at_us < end,
                "a request failed: {failure:?}"
            );
        }
    }
    Ok(())
}
