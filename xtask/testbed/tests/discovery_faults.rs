//! Tier 3 (namespaced): discovery that restarts, is away, or cannot be reached.
// SPDX-License-Identifier: Apache-2.0

mod world;

use anyhow::{Result, ensure};
use evenkeel_testbed::faults;
use evenkeel_testbed::probe::connect::Report;
use world::{
    ECHO_VIP, LOAD_END, Load, Plan, SOON, World, all_well, await_endpoints, probe, start_load, start_probe,
};

#[test]
fn a_minute_without_discovery_and_its_return_go_unnoticed() -> Result<()> {
    let mut world = World::new(&Plan::default())?;
    let client = world.clients[0].clone();
    let request = start_load(&client, 50, 65_000, &["--churn", "5"])?;
    let connection = start_probe(&client, ECHO_VIP, &["--for-ms", "65000", "--rate", "50"])?;
    world.end_discovery(libc::SIGKILL)?;
    // A minute by the probe's own clock, with connects all the time.
    let minute = start_probe(&world.clients[1], ECHO_VIP, &["--for-ms", "60000", "--rate", "20"])?;
    all_well(&Report::last(&minute.finish(LOAD_END * 4)?)?, &world.clients[1])?;
    world.start_discovery()?;
    all_well(&Report::last(&connection.finish(LOAD_END)?)?, &client)?;
    Load::of(&request)?.flawless(2_500)?;
    // What changes afterwards arrives.
    let remote = world.servers_in("zone-b");
    world.publish(&remote)?;
    world.agents.iter().try_for_each(|agent| await_endpoints(agent, "demo/echo", remote.len()))?;
    world.fabric.close()
}

#[test]
fn a_restart_of_discovery_goes_unnoticed() -> Result<()> {
    let mut world = World::new(&Plan::default())?;
    let client = world.clients[0].clone();
    let request = start_load(&client, 100, 4_000, &["--churn", "10"])?;
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        world.end_discovery(signal)?;
        world.start_discovery()?;
    }
    Load::of(&request)?.flawless(300)?;
    world.fabric.close()
}

#[test]
fn an_agent_starts_from_its_last_good_state_when_discovery_is_away() -> Result<()> {
    let mut world = World::new(&Plan::default())?;
    world.end_discovery(libc::SIGKILL)?;
    world.agents[0].terminate()?;
    world.agents[0].wait(SOON)?;
    world.agents[0] = world.nodes[0].start_agent(&world.options)?;
    await_endpoints(&world.agents[0], "demo/echo", world.servers.len())?;
    let report = world.told(probe(&world.clients[0], ECHO_VIP, 100))?;
    all_well(&report, &world.clients[0])?;
    ensure!(
        report.servers.keys().all(|name| name.starts_with("server-a")),
        "balanced, in its zone: {report:?}"
    );
    Load::of(&start_load(&world.clients[0], 100, 1_000, &[])?)?.flawless(50)?;
    let status = world.agents[0].status()?;
    ensure!(status["discovery"]["source"] == "last-good file", "{status}");
    world.fabric.close()
}

#[test]
fn a_change_during_a_partition_arrives_after_it() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let control = world.fabric.control()?;
    let fault = faults::partition(&world.nodes[0], control.address().into())?;
    let remote = world.servers_in("zone-b");
    world.publish(&remote)?;
    await_endpoints(&world.agents[1], "demo/echo", remote.len())?;
    all_well(&probe(&world.clients[0], ECHO_VIP, 20)?, &world.clients[0])?;
    fault.heal()?;
    await_endpoints(&world.agents[0], "demo/echo", remote.len())?;
    world.fabric.close()
}
