// SPDX-License-Identifier: Apache-2.0
//! Tier 4: `deploy/` on a real cluster, with the project's own images: installed, balanced, uninstalled.

mod kubernetes;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use evenkeel_testbed::{Cluster, ClusterOptions};
use kubernetes::install::{self, in_force};
use kubernetes::traffic::{self, Clients, Seen};
use kubernetes::{Leftovers, SERVERS, SOON};

/// How long a label may take from kubectl's return to its effect on every node.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The Services that are always labelled.
const LABELLED: [(&str, usize); 2] = [("by-connection", SERVERS), ("by-request", SERVERS)];
/// Each client's connections, and their requests per second.
const LOAD: [&str; 4] = ["--connections", "16", "--rate", "200"];
/// The busiest server of a zone against the mean: two servers that are chosen by lot differ by less in a hundred thousand runs.
const EVEN: f64 = 1.2;

#[test]
fn installed_beside_nftables_it_balances_zone_first_and_labels_act_within_a_second() -> Result<()> {
    let before = Leftovers::now()?;
    let cluster = install::cluster(ClusterOptions::default())?;
    install::install(&cluster)?;
    traffic::servers(&cluster, SERVERS)?;
    let connection = traffic::service(&cluster, "by-connection", Some("connection"))?;
    let request = traffic::service(&cluster, "by-request", Some("request"))?;
    in_force(&cluster, &LABELLED, SOON)?;
    for (name, service) in [("connections", &connection), ("requests", &request)] {
        let clients = Clients::start(&cluster, name, service, &[&LOAD[..], &["--churn", "50"]].concat())?;
        let seen = clients.look()?;
        seen.flawless(1_000)?;
        seen.all_local()?;
        even_within_zones(&seen)?;
        println!("{name}: {} requests, {:?}", seen.requests(), seen.servers());
        clients.end(&cluster)?.flawless(0)?;
    }
    a_label_acts_at_once_and_so_does_its_removal(&cluster)?;
    cluster.down()?;
    before.nothing_more()
}

fn even_within_zones(seen: &Seen) -> Result<()> {
    for report in &seen.0 {
        let most = report.pods.values().max().copied().unwrap_or(0);
        let mean = report.succeeded as f64 / report.pods.len().max(1) as f64;
        ensure!(
            report.pods.len() == 2 && most as f64 <= EVEN * mean,
            "uneven in {}: {:?}",
            report.zone,
            report.pods
        );
    }
    Ok(())
}

fn a_label_acts_at_once_and_so_does_its_removal(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let service = traffic::service(cluster, "late", None)?;
    let clients = Clients::start(cluster, "late", &service, &LOAD)?;
    let agents = install::agents(cluster)?;
    let [one, other] = LABELLED;
    for _ in 0..2 {
        let seen = clients.look()?;
        seen.flawless(500)?;
        all_zones_answer(&seen)?;
        kubectl.run(&["label", "service", "late", "evenkeel.io/balance=connection"])?;
        let labelled = Instant::now();
        install::know(cluster, &agents, &[one, other, ("late", SERVERS)], AT_ONCE)?;
        let added = labelled.elapsed();
        clients.reconnect()?;
        let seen = clients.look()?;
        seen.flawless(500)?;
        seen.all_local()?;
        kubectl.run(&["label", "service", "late", "evenkeel.io/balance-"])?;
        let unlabelled = Instant::now();
        install::know(cluster, &agents, &LABELLED, AT_ONCE)?;
        println!("label {added:?}, removal {:?} after kubectl", unlabelled.elapsed());
        clients.reconnect()?;
    }
    all_zones_answer(&clients.look()?)?;
    clients.end(cluster)?.flawless(0)
}

/// As kube-proxy chooses: by lot among all servers.
fn all_zones_answer(seen: &Seen) -> Result<()> {
    ensure!(seen.servers().len() == SERVERS && seen.local() < 0.7, "not by lot: {}", seen.told());
    Ok(())
}
