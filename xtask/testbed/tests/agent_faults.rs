//! Tier 3 (namespaced): an agent that is killed, hangs, or stays away.
// SPDX-License-Identifier: Apache-2.0

mod world;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::probe::{connect::Report, reconnect::Report as Reconnects};
use evenkeel_testbed::{Spawn, binaries, eventually};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use world::{
    ECHO_VIP, GRPC_VIP, LOAD_END, Load, Plan, SOON, World, all_well, listening_ports, probe, start_load,
    start_probe,
};

const ONE: Plan = Plan { nodes: &[("a1", "zone-a")], servers: 3, agent_args: &[] };

#[test]
fn no_connect_fails_when_the_agent_is_killed() -> Result<()> {
    let mut world = World::new(&ONE)?;
    let client = world.clients[0].clone();
    let connection = start_probe(&client, ECHO_VIP, &["--for-ms", "4000"])?;
    let request = start_load(&client, 200, 4_000, &["--churn", "50"])?;
    request.wait_stdout(|_| true, SOON)?;
    std::thread::scope(|scope| -> Result<()> {
        let killer = scope.spawn(|| {
            eventually("load runs through the agent", SOON, || {
                let status = world.agents[0].status()?;
                ensure!(status["request_path"]["requests"].as_u64() > Some(100), "{status}");
                Ok(())
            })?;
            world.agents[0].kill()
        });
        killer.join().unwrap_or_else(|_| Err(anyhow::anyhow!("panicked")))
    })?;
    let report = Report::last(&connection.finish(LOAD_END)?)?;
    all_well(&report, &client)?;
    let load = Load::of(&request)?;
    ensure!(load.failed_connects() == 0, "a connect failed: {}", load.0);
    // What the agent had accepted, or was about to, goes with it: as many as open in the time that it takes to die.
    ensure!(load.connect_errors() <= 5, "connections were cut after it had gone: {}", load.0);
    ensure!(load.failures() <= 50, "more than what was in flight was lost: {}", load.0);
    ensure!(load.source_mismatches() == 0, "{}", load.0);
    // Back again, it adopts what is pinned and serves requests.
    world.restart_agent(0)?;
    ensure!(world.agents[0].stderr().contains("adopt"), "{}", world.agents[0].tail());
    Load::of(&start_load(&client, 200, 1_500, &[])?)?.flawless(200)?;
    let status = world.agents[0].status()?;
    ensure!(status["request_path"]["requests"].as_u64() > Some(200), "{status}");
    world.fabric.close()
}

/// How often the agent is killed under clients that connect again at once.
const KILLS: usize = 10;
/// Clients that hold a connection.
const HELD: u64 = 16;
/// How long all go on after a kill.
const AFTER: Duration = Duration::from_millis(200);

#[test]
fn who_connects_again_while_the_agent_dies_is_not_refused_and_not_cut_off_twice() -> Result<()> {
    let mut world = World::new(&ONE)?;
    let client = world.clients[0].clone();
    let held = HELD.to_string();
    for _ in 0..KILLS {
        let probe =
            client.spawn(&Spawn::testbed(["probe-reconnect", "--target", GRPC_VIP, "--held", &held])?)?;
        probe.wait_stdout(|text| text.contains("holding"), SOON)?;
        eventually("the agent carries their connections", SOON, || {
            let status = world.agents[0].status()?;
            ensure!(status["request_path"]["client_connections"].as_u64() >= Some(HELD), "{status}");
            Ok(())
        })?;
        world.agents[0].kill()?;
        std::thread::sleep(AFTER);
        probe.terminate()?;
        let report = Reconnects::last(&probe.finish(SOON)?)?;
        ensure!(report.errors.is_empty(), "connects failed: {report:?}");
        // Twice would mean that a dying agent had been handed a connection.
        ensure!(report.broken == HELD, "each connection breaks once: {report:?}");
        world.restart_agent(0)?;
    }
    world.fabric.close()
}

#[test]
fn the_sockets_of_a_killed_agent_are_open_for_as_long_as_its_holder_lives() -> Result<()> {
    let world = World::new(&ONE)?;
    let (agent, client) = (&world.agents[0], &world.clients[0]);
    let probe = Spawn::testbed(["probe-reconnect", "--target", GRPC_VIP, "--held", "4", "--fresh", "0"])?;
    let probe = client.spawn(&probe)?;
    probe.wait_stdout(|text| text.contains("holding"), SOON)?;
    let holder = agent.holder()?;
    // To be asked to end is nothing to it. Stopped, it cannot end when it is time.
    signal(holder, Signal::SIGTERM)?;
    signal(holder, Signal::SIGSTOP)?;
    agent.kill()?;
    agent.wait(SOON)?;
    ensure!(!listening_ports(client)?.is_empty(), "the listener went with the agent");
    // It is there for who has been handed over already, and for nobody else.
    Load::of(&start_load(client, 100, 1_000, &["--churn", "50"])?)?.flawless(50)?;
    signal(holder, Signal::SIGCONT)?;
    eventually("the listener goes with the holder", SOON, || {
        ensure!(listening_ports(client)?.is_empty(), "it is there");
        Ok(())
    })?;
    probe.terminate()?;
    let report = Reconnects::last(&probe.finish(SOON)?)?;
    ensure!(report.errors.is_empty() && report.broken == 4, "each breaks once: {report:?}");
    world.fabric.close()
}

#[test]
fn an_agent_whose_sockets_nobody_holds_says_so() -> Result<()> {
    let world = World::new(&ONE)?;
    let agent = &world.agents[0];
    let faults = || Ok::<_, anyhow::Error>(agent.status()?["faults"].to_string());
    ensure!(faults()? == "[]", "{}", faults()?);
    signal(agent.holder()?, Signal::SIGKILL)?;
    eventually("the agent says that nobody holds its sockets", SOON, || {
        let faults = faults()?;
        ensure!(faults.contains("the process that held its sockets was killed"), "{faults}");
        Ok(())
    })?;
    agent.terminate()?;
    ensure!(agent.wait(SOON)?.success(), "{}", agent.tail());
    // The first process of a pid namespace, as in a container without an init. It gets no further than its pins.
    let run = ["run", "--discovery", "http://127.0.0.1:1", "--node", "a1", "--zone", "zone-a", "--pins", "/"];
    let binary = binaries::find("evenkeel")?.to_string_lossy().into_owned();
    let first = Spawn::new("unshare").args(["--pid", "--fork", &binary]).args(run);
    let first = world.nodes[0].spawn(&first)?;
    ensure!(!first.wait(SOON)?.success(), "{}", first.tail());
    ensure!(first.stderr().contains("the first process of its pid namespace"), "{}", first.tail());
    world.fabric.close()
}

fn signal(pid: Pid, signal: Signal) -> Result<()> {
    nix::sys::signal::kill(pid, signal).with_context(|| format!("send {signal} to {pid}"))
}

#[test]
fn a_hung_agent_costs_no_connect_once_the_heartbeat_is_stale() -> Result<()> {
    let world = World::new(&ONE)?;
    let client = &world.clients[0];
    world.agents[0].stop()?;
    // Never noticed by what is balanced per connection, from the first instant.
    let report = Report::last(&start_probe(client, ECHO_VIP, &["--for-ms", "2500"])?.finish(LOAD_END)?)?;
    all_well(&report, client)?;
    let load = Load::of(&start_load(client, 100, 2_000, &["--churn", "50"])?)?;
    load.flawless(150)?;
    world.agents[0].cont()?;
    eventually("the agent's heart beats again", SOON, || {
        let status = world.agents[0].status()?;
        ensure!(status["kernel"]["stance"] == "serve", "{}", status["kernel"]);
        Ok(())
    })?;
    Load::of(&start_load(client, 100, 1_000, &[])?)?.flawless(50)?;
    world.fabric.close()
}

#[test]
fn held_connections_do_not_notice_a_restart() -> Result<()> {
    let mut world = World::new(&ONE)?;
    let client = world.clients[0].clone();
    let holder = start_probe(&client, ECHO_VIP, &["--count", "60", "--hold"])?;
    holder.wait_stdout(|text| text.ends_with('\n'), SOON)?;
    world.agents[0].kill()?;
    world.agents[0].wait(SOON)?;
    world.restart_agent(0)?;
    holder.terminate()?;
    let report = Report::last(&holder.finish(SOON)?)?;
    ensure!(report.lost() == 0 && report.connects == 60, "{report:?}");
    world.fabric.close()
}

#[test]
fn an_agent_that_stays_away_leaves_connects_to_the_nodes_own_rules() -> Result<()> {
    let agent_args = &["--stale-after", "600ms", "--stand-aside-after", "2s"];
    let world = World::new(&Plan { agent_args, ..ONE })?;
    let client = &world.clients[0];
    world.agents[0].kill()?;
    // Endpoints change while nobody tells the kernel.
    let fresh = world.nodes[0].add_pod("server-fresh")?;
    world::serve(&fresh)?;
    world.baseline(std::slice::from_ref(&fresh))?;
    world.servers.iter().try_for_each(|pod| pod.delete())?;
    eventually("connects reach the new endpoint", Duration::from_secs(6), || {
        let report = probe(client, ECHO_VIP, 1)?;
        ensure!(report.servers.contains_key("server-fresh"), "{report:?}");
        Ok(())
    })?;
    let report = probe(client, ECHO_VIP, 50)?;
    all_well(&report, client)?;
    ensure!(report.servers.get("server-fresh") == Some(&50), "{report:?}");
    let load = Load::of(&start_load(client, 100, 1_000, &[])?)?;
    load.flawless(50)?;
    ensure!(load.by("pods").iter().all(|(pod, _)| pod == "server-fresh"), "{GRPC_VIP}: {}", load.0);
    world.fabric.close()
}

#[test]
fn an_agent_told_to_end_drains_without_an_error() -> Result<()> {
    let world = World::new(&ONE)?;
    let load = start_load(&world.clients[0], 100, 4_000, &[])?;
    eventually("load runs through the agent", SOON, || {
        let status = world.agents[0].status()?;
        ensure!(status["request_path"]["requests"].as_u64() > Some(50), "{status}");
        Ok(())
    })?;
    let holder = world.agents[0].holder()?;
    world.agents[0].terminate()?;
    let exit = world.agents[0].wait(SOON)?;
    ensure!(signal(holder, Signal::SIGCONT).is_err(), "its holder is still there");
    ensure!(exit.success(), "{exit:?}\n{}", world.agents[0].tail());
    Load::of(&load)?.flawless(300)?;
    world.fabric.close()
}
