// SPDX-License-Identifier: Apache-2.0
//! Tier 4: what happens to a cluster in its life, under load, with `deploy/` as it is: pods deleted, a Deployment scaled, the API
//! server gone with its history, discovery's replicas restarted, a node without power.
//!
//! Servers that are deleted are given time to be forgotten and drain, so that nothing may fail. A node without power tells
//! nobody: what is sent to its pods until Kubernetes has noticed is lost, and nothing else.

mod kubernetes;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::cluster::install::{DISCOVERY, NAMESPACE};
use evenkeel_testbed::{Cluster, ClusterOptions};
use kubernetes::install::{self, in_force};
use kubernetes::traffic::{self, Clients, LOOK, Seen};
use kubernetes::{Leftovers, SOON};

/// Each client's load: two cores have a cluster to carry besides.
const LOAD: [&str; 6] = ["--connections", "8", "--rate", "50", "--churn", "5"];
/// Until agents have forgotten the pods of a node without power: Kubernetes notices after ten seconds in this cluster (the
/// controller manager's grace period); agents whose replica of discovery was on that node notice that after fifteen (their
/// keepalive), then may try the dead one for five more.
const FORGOTTEN: Duration = Duration::from_secs(30);

const DISCOVERY_PODS: &str = "app.kubernetes.io/component=discovery";

/// The Services, each with so many endpoints.
fn both(endpoints: usize) -> [(&'static str, usize); 2] {
    [("by-connection", endpoints), ("by-request", endpoints)]
}

struct World {
    cluster: Cluster,
    connections: Clients,
    requests: Clients,
}

#[test]
fn no_request_fails_but_those_to_pods_that_died() -> Result<()> {
    let before = Leftovers::now()?;
    let world = World::new()?;
    world.undisturbed("pods deleted one after the other", World::delete_pods)?;
    world.undisturbed("3 -> 30 -> 3", World::scale)?;
    world.undisturbed("API server killed, history compacted", World::crash_the_api_server)?;
    world.undisturbed("discovery restarted", World::restart_discovery)?;
    world.cut_power()?;
    world.calm()?;
    world.cluster.down()?;
    before.nothing_more()
}

impl World {
    /// Two nodes in one zone: pods of a node that dies are chosen by clients of the other.
    fn new() -> Result<Self> {
        let zones = ["zone-a", "zone-a", "zone-b"].map(String::from).to_vec();
        let cluster = install::cluster(ClusterOptions { zones, ..ClusterOptions::default() })?;
        install::install(&cluster)?;
        traffic::servers(&cluster, 3)?;
        let connection = traffic::service(&cluster, "by-connection", Some("connection"))?;
        let request = traffic::service(&cluster, "by-request", Some("request"))?;
        in_force(&cluster, &both(3), SOON)?;
        let connections = Clients::start(&cluster, "connections", &connection, &LOAD)?;
        let requests = Clients::start(&cluster, "requests", &request, &LOAD)?;
        Ok(Self { cluster, connections, requests })
    }

    /// Nothing fails while `event` happens.
    fn undisturbed(&self, what: &str, event: impl Fn(&Self) -> Result<()>) -> Result<()> {
        self.measure_anew()?;
        let began = Instant::now();
        let happened = event(self);
        println!("{what}: {:.1?}", began.elapsed());
        for (path, clients) in self.paths() {
            let seen = clients.seen()?;
            println!(
                "{what}: {} requests balanced per {path}, the slowest {:?}",
                seen.requests(),
                seen.slowest()
            );
            install::told(&self.cluster, seen.flawless(200))
                .with_context(|| format!("{what}, balanced per {path}"))?;
        }
        happened.with_context(|| what.to_owned())
    }

    /// Nothing happens: all is served in its zone.
    fn calm(&self) -> Result<()> {
        for (_, clients) in self.paths() {
            // Those of the time when the zone had too few servers, or none.
            clients.reconnect()?;
        }
        self.measure_anew()?;
        std::thread::sleep(LOOK);
        for (path, clients) in self.paths() {
            let seen = clients.seen()?;
            seen.flawless(200)?;
            seen.all_local().with_context(|| format!("balanced per {path}"))?;
        }
        Ok(())
    }

    fn paths(&self) -> [(&'static str, &Clients); 2] {
        [("connection", &self.connections), ("request", &self.requests)]
    }

    fn measure_anew(&self) -> Result<()> {
        self.paths().iter().try_for_each(|(_, clients)| clients.measure_anew())
    }

    fn delete_pods(&self) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        let pods = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "name"])?;
        ensure!(pods.lines().count() == 3, "{pods}");
        pods.lines().try_for_each(|pod| {
            kubectl.run(&["delete", pod])?;
            kubectl.rolled_out(&["deployment/web"], SOON)
        })
    }

    fn scale(&self) -> Result<()> {
        self.scale_to(30)?;
        self.scale_to(3)
    }

    /// Until all agents know the new servers and none of the old.
    fn scale_to(&self, replicas: usize) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        kubectl.run(&["scale", "deployment/web", &format!("--replicas={replicas}")])?;
        kubectl.rolled_out(&["deployment/web"], SOON)?;
        in_force(&self.cluster, &both(replicas), SOON)
    }

    /// What changes afterwards arrives.
    fn crash_the_api_server(&self) -> Result<()> {
        self.cluster.kubectl().run(&[
            "annotate",
            "service",
            "by-request",
            "evenkeel.test/history=moves-on",
        ])?;
        self.cluster.apiserver().compact_history()?;
        self.cluster.apiserver().kill()?;
        std::thread::sleep(LOOK);
        self.cluster.apiserver().restart()?;
        self.scale_to(4)
    }

    /// One after the other, until the old ones have sent their clients elsewhere and are gone; what changes afterwards arrives.
    fn restart_discovery(&self) -> Result<()> {
        let kubectl = self.cluster.kubectl();
        let pods = ["-n", NAMESPACE, "get", "pods", "-l", DISCOVERY_PODS, "-o", "name"];
        let old = kubectl.run(&pods)?;
        kubectl.run(&["-n", NAMESPACE, "rollout", "restart", DISCOVERY])?;
        kubectl.rolled_out(&["-n", NAMESPACE, DISCOVERY], SOON)?;
        old.lines().try_for_each(|pod| self.cluster.gone(&["-n", NAMESPACE, pod], SOON))?;
        self.scale_to(6)
    }

    /// The node of zone-a on which a replica of discovery is, if there is one: agents elsewhere lose that as well.
    fn victim(&self) -> Result<String> {
        let nodes = "jsonpath={.items[*].spec.nodeName}";
        let nodes = self.cluster.kubectl().run(&[
            "-n",
            NAMESPACE,
            "get",
            "pods",
            "-l",
            DISCOVERY_PODS,
            "-o",
            nodes,
        ])?;
        Ok(if nodes.contains("node-1") { "node-1" } else { "node-2" }.to_owned())
    }

    fn cut_power(&self) -> Result<()> {
        let victim = self.victim()?;
        let others: Vec<_> =
            install::agents(&self.cluster)?.into_iter().filter(|agent| agent.node != victim).collect();
        self.measure_anew()?;
        let off = SystemTime::now();
        self.cluster.node(&victim)?.power_off()?;
        self.cluster.node_not_ready(&victim)?;
        let noticed = off.elapsed()?;
        install::know(&self.cluster, &others, &both(4), SOON)?;
        let forgotten = off.elapsed()?;
        println!("{victim} off: noticed after {noticed:.1?}, forgotten after {forgotten:.1?}");
        ensure!(forgotten < FORGOTTEN, "agents know the dead pods after {forgotten:?}");
        std::thread::sleep(LOOK);
        for (path, clients) in self.paths() {
            lost_is_only_what_was_sent_there(&clients.seen_elsewhere(&victim)?, off + forgotten)
                .with_context(|| format!("{victim} off, balanced per {path}"))?;
        }
        self.cluster.power_on(&victim)?;
        self.cluster.node_ready(&victim)?;
        install::all_ready(&self.cluster)?;
        self.cluster.kubectl().rolled_out(&["deployment/web"], SOON)?;
        in_force(&self.cluster, &both(6), SOON)?;
        self.connections.all_started()?;
        self.requests.all_started()
    }
}

/// Of the four servers of zone-a two are dead. A request finds a dead one if both that are drawn for it are dead, which is one in
/// six; a connection that stood to a dead one loses what is sent until its client misses the answer to a PING, six seconds
/// later, and a new one finds a dead one every other time. All of that is over when agents have heard of it.
fn lost_is_only_what_was_sent_there(seen: &Seen, forgotten: SystemTime) -> Result<()> {
    let forgotten = forgotten.duration_since(SystemTime::UNIX_EPOCH)?.as_micros();
    for report in &seen.0 {
        let told = || Seen(vec![report.clone()]).told();
        let lost = report.failures_total + report.new_connection_errors_total;
        println!("{}: {lost} of {} lost", report.zone, report.requests + report.churned);
        if report.zone != "zone-a" {
            ensure!(lost == 0, "another zone lost something: {}", told());
            continue;
        }
        ensure!(lost * 2 <= report.requests + report.churned, "more than was sent there: {}", told());
        let failed = report.failures.iter().map(|failure| failure.at_us);
        let refused = report.new_connection_errors.iter().map(|error| error.at_us);
        let late = failed.chain(refused).filter(|at| u128::from(*at) > forgotten).count();
        ensure!(late == 0, "{late} after agents had heard of it: {}", told());
    }
    Ok(())
}
