//! Tier 3 (namespaced): what did not opt in, and a node from which everything was detached.
// SPDX-License-Identifier: Apache-2.0

mod world;

use anyhow::{Result, ensure};
use world::{ECHO, ECHO_VIP, Load, PLAIN_VIP, Plan, SOON, World, all_well, counter, probe, start_load};

/// All counters that a connect can raise.
fn outcomes(world: &World) -> Result<u64> {
    let names = ["balanced", "handed_over", "no_listener", "stale", "stood_aside", "no_endpoint"];
    names.iter().map(|name| counter(&world.agents[0], name)).sum()
}

#[test]
fn without_any_agent_kube_proxys_rules_serve_both_kinds_of_load() -> Result<()> {
    let world = World::without_agents(&Plan::default())?;
    let client = &world.clients[0];
    let report = probe(client, ECHO_VIP, 200)?;
    all_well(&report, client)?;
    ensure!(report.servers.len() == world.servers.len(), "random over all zones: {report:?}");
    Load::of(&start_load(client, 100, 1_000, &["--churn", "20"])?)?.flawless(50)?;
    world.fabric.close()
}

#[test]
fn a_service_that_did_not_opt_in_is_left_to_kube_proxy() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let client = &world.clients[0];
    let before = outcomes(&world)?;
    let report = probe(client, PLAIN_VIP, 200)?;
    all_well(&report, client)?;
    ensure!(report.servers.len() == world.servers.len(), "random over all zones: {report:?}");
    let direct = format!("{}:{ECHO}", world.servers[0].address());
    let report = probe(client, &direct, 20)?;
    all_well(&report, client)?;
    ensure!(report.servers.get(world.servers[0].name()) == Some(&20), "{report:?}");
    ensure!(outcomes(&world)? == before, "the programs did something");
    let explained = world.agents[0].json(&["explain", PLAIN_VIP])?;
    ensure!(explained["verdict"] == "untouched", "{explained}");
    world.fabric.close()
}

#[test]
fn a_service_that_opts_out_is_left_alone_again() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let vip = world::address(ECHO_VIP).ip().to_string();
    let service = evenkeel_testbed::ServiceSpec::balanced("echo", "", &vip, vec![world::echo_port()]);
    world.manifests.service(&service)?;
    evenkeel_testbed::eventually("the agent lets it go", SOON, || {
        let explained = world.agents[0].json(&["explain", ECHO_VIP])?;
        ensure!(explained["verdict"] == "untouched", "{explained}");
        world::in_the_maps(&world.agents[0])
    })?;
    let report = probe(&world.clients[0], ECHO_VIP, 200)?;
    all_well(&report, &world.clients[0])?;
    ensure!(report.servers.len() == world.servers.len(), "random over all zones: {report:?}");
    world.fabric.close()
}

#[test]
fn detach_takes_everything_out_of_the_kernel() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let (node, client) = (&world.nodes[0], &world.clients[0]);
    world.agents[0].kill()?;
    world.agents[0].wait(SOON)?;
    let evenkeel = evenkeel_testbed::binaries::find("evenkeel")?;
    let detach =
        |args: &[&str]| node.exec(&[&[evenkeel.to_string_lossy().as_ref(), "detach"], args].concat());
    let answer = detach(&["-o", "json", "--force"])?;
    ensure!(!node.path("/sys/fs/bpf/evenkeel/links").exists(), "{answer}");
    detach(&["--force"])?;
    let report = probe(client, ECHO_VIP, 200)?;
    all_well(&report, client)?;
    ensure!(report.servers.len() == world.servers.len(), "kube-proxy's choice: {report:?}");
    Load::of(&start_load(client, 100, 1_000, &[])?)?.flawless(50)?;
    world.fabric.close()
}
