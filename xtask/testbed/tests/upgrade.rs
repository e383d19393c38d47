//! Tier 3 (namespaced): two agents overlap on a node, as a rolling update with `maxSurge: 1` makes them.
// SPDX-License-Identifier: Apache-2.0

mod world;

use anyhow::{Result, ensure};
use evenkeel_testbed::probe::connect::Report;
use evenkeel_testbed::{EndpointSpec, PortSpec, ServiceSpec, eventually};
use world::{
    ECHO, ECHO_VIP, LOAD_END, Load, Plan, SOON, World, all_well, await_endpoints, await_pods, counter,
    start_load, start_probe,
};

const ONE: Plan = Plan { nodes: &[("a1", "zone-a")], servers: 3, agent_args: &[] };

#[test]
fn nothing_fails_and_nothing_falls_to_the_kernel_during_an_upgrade() -> Result<()> {
    let world = World::new(&ONE)?;
    let (client, old) = (&world.clients[0], &world.agents[0]);
    let request = start_load(client, 200, 8_000, &["--churn", "20"])?;
    let connection = start_probe(client, ECHO_VIP, &["--for-ms", "8000", "--rate", "200"])?;
    eventually("load runs through the old agent", SOON, || {
        let status = old.status()?;
        ensure!(status["request_path"]["requests"].as_u64() > Some(100), "{status}");
        Ok(())
    })?;
    let fallen =
        |agent| -> Result<[u64; 2]> { Ok([counter(agent, "no_listener")?, counter(agent, "stale")?]) };
    let before_it = fallen(old)?;
    let before = old.status()?["generation"].as_u64();
    let new = world.nodes[0].start_agent(&world.options.clone().surge())?;
    new.wait_ready(SOON)?;
    await_endpoints(&new, "demo/grpc", world.servers.len())?;
    ensure!(new.status()?["generation"].as_u64() > before, "the newer takes over");
    // It notices by itself, and may be gone before anybody asks.
    let exit = old.wait(SOON)?;
    ensure!(exit.success(), "{exit:?}\n{}", old.tail());
    // A pod that is born after the old agent's end belongs to the new one.
    let young = world.nodes[0].add_pod("young")?;
    await_pods(&new, world.nodes[0].pods().len(), SOON)?;
    Load::of(&start_load(&young, 50, 500, &[])?)?.flawless(10)?;
    all_well(&Report::last(&connection.finish(LOAD_END)?)?, client)?;
    Load::of(&request)?.flawless(1_200)?;
    let after_it = fallen(&new)?;
    ensure!(after_it == before_it, "connects fell to the kernel: {before_it:?}, then {after_it:?}");
    world.fabric.close()
}

#[test]
fn the_first_sigterm_of_a_draining_agent_cuts_nothing() -> Result<()> {
    let world = World::new(&ONE)?;
    let (client, old) = (&world.clients[0], &world.agents[0]);
    // A connection that goes through the agent and stays.
    let port = PortSpec::tcp("any", 80, ECHO);
    world.manifests.service(&ServiceSpec::balanced("held", "request", "10.96.0.41", vec![port.clone()]))?;
    let endpoints: Vec<EndpointSpec> = world.servers.iter().map(EndpointSpec::of).collect();
    world.manifests.endpoints("demo", "held", &endpoints, &[port])?;
    await_endpoints(old, "demo/held", endpoints.len())?;
    let holder = start_probe(client, "10.96.0.41:80", &["--count", "1", "--hold"])?;
    holder.wait_stdout(|text| text.ends_with('\n'), SOON)?;

    let new = world.nodes[0].start_agent(&world.options.clone().surge())?;
    new.wait_ready(SOON)?;
    let told = |what: &str| {
        eventually(&format!("the old agent says {what:?}"), SOON, || {
            ensure!(old.stderr().contains(what), "{}", old.tail());
            Ok(())
        })
    };
    // The runtime asks the old one to go once the new one is ready, which is after it has noticed by itself.
    told("a newer agent owns the node")?;
    old.terminate()?;
    told("draining already")?;
    ensure!(old.try_status().is_none(), "it waits for what it carries\n{}", old.tail());

    holder.terminate()?;
    let report = Report::last(&holder.finish(SOON)?)?;
    ensure!(report.lost() == 0 && report.connects == 1, "{report:?}");
    let exit = old.wait(SOON)?;
    ensure!(exit.success(), "{exit:?}\n{}", old.tail());
    world.fabric.close()
}

#[test]
fn a_superseded_agent_that_shall_stay_ends_only_when_told_to() -> Result<()> {
    let plan = Plan { agent_args: &["--stay-when-superseded"], ..ONE };
    let world = World::new(&plan)?;
    let old = &world.agents[0];
    let new = world.nodes[0].start_agent(&world.options.clone().surge())?;
    new.wait_ready(SOON)?;
    eventually("the old agent has drained and waits", SOON, || {
        ensure!(old.stderr().contains("waiting to be told to end"), "{}", old.tail());
        Ok(())
    })?;
    // As the kubelet asks: alive, so that it is not restarted, and not ready, so that nothing is expected of it.
    let answer = |path| Ok::<_, anyhow::Error>(world.nodes[0].http_get(world.options.http, path)?.0);
    ensure!(answer("/healthz")? == 200 && answer("/ready")? == 503, "{}", old.tail());
    ensure!(old.try_status().is_none(), "{}", old.tail());
    old.terminate()?;
    let exit = old.wait(SOON)?;
    ensure!(exit.success(), "{exit:?}\n{}", old.tail());
    ensure!(new.status()?["ready"] == true, "the one that stayed took nothing with it: {}", new.status()?);
    world.fabric.close()
}

#[test]
fn a_superseded_agent_that_stays_makes_room_for_its_successor_when_the_newer_dies() -> Result<()> {
    let plan = Plan { agent_args: &["--stay-when-superseded"], ..ONE };
    let world = World::new(&plan)?;
    let old = &world.agents[0];
    let new = world.nodes[0].start_agent(&world.options.clone().surge())?;
    new.wait_ready(SOON)?;
    eventually("the old agent has drained and waits", SOON, || {
        ensure!(old.stderr().contains("waiting to be told to end"), "{}", old.tail());
        Ok(())
    })?;
    new.kill()?;
    let exit = old.wait(SOON)?;
    ensure!(exit.success(), "{exit:?}\n{}", old.tail());
    ensure!(old.stderr().contains("the newer agent is silent"), "{}", old.tail());
    world.fabric.close()
}
