//! Tier 3 (namespaced): a packet filter between a client pod and servers goes on meaning what it says.
// SPDX-License-Identifier: Apache-2.0

mod world;

use anyhow::{Result, ensure};
use evenkeel_testbed::faults::{self, Fault};
use evenkeel_testbed::{Pod, Spawn, eventually};
use world::{ECHO_VIP, Load, Plan, SOON, World, all_well, listening_ports, probe, start_load};

fn deny_all(world: &World, client: &Pod) -> Result<Vec<Fault>> {
    world.servers.iter().map(|server| faults::deny(client, server)).collect()
}

#[test]
fn a_filter_that_drops_one_client_drops_its_balanced_traffic_too() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let denied = &world.clients[0];
    // On the same node and in the same zone: another pod of another address.
    let allowed = world.nodes[0].add_pod("client-allowed")?;
    let faults = deny_all(&world, denied)?;
    let report = probe(denied, ECHO_VIP, 2)?;
    ensure!(report.errors.get("timeout") == Some(&2), "per connection: {report:?}");
    all_well(&probe(&allowed, ECHO_VIP, 50)?, &allowed)?;
    let load = Load::of(&start_load(denied, 20, 2_000, &["--deadline-ms", "500"])?)?;
    ensure!(load.by("pods").is_empty() && load.failures() > 0, "per request: {}", load.0);
    Load::of(&start_load(&allowed, 100, 1_000, &[])?)?.flawless(50)?;
    faults.into_iter().try_for_each(Fault::heal)?;
    all_well(&probe(denied, ECHO_VIP, 20)?, denied)?;
    world.fabric.close()
}

#[test]
fn another_process_cannot_take_over_redirected_traffic() -> Result<()> {
    // The agent is gone: whoever listens in the pod on any port must not be handed the pod's requests.
    let world = World::new(&Plan { nodes: &[("a1", "zone-a")], servers: 2, agent_args: &[] })?;
    let client = &world.clients[0];
    Load::of(&start_load(client, 50, 500, &[])?)?.flawless(10)?;
    let ports = listening_ports(client)?;
    ensure!(!ports.is_empty(), "the agent listens in the pod");
    world.agents[0].kill()?;
    // Its sockets outlive it by a moment.
    eventually("the agent's ports are free", SOON, || {
        ensure!(listening_ports(client)?.is_empty(), "somebody listens");
        Ok(())
    })?;
    for port in ports {
        let listen = format!("127.0.0.1:{port}");
        let thief =
            client.spawn(&Spawn::testbed(["echo-server", "--listen", &listen, "--name", "thief"])?)?;
        thief.wait_stdout(|text| text.contains("listening"), SOON)?;
    }
    Load::of(&start_load(client, 100, 1_000, &["--churn", "20"])?)?.flawless(50)?;
    world.fabric.close()
}
