//! Tier 3 (namespaced): two agents overlap on a node, as a rolling update with `maxSurge: 1` makes them.
// SPDX-License-Identifier: Apache-2.0

mod world;

use anyhow::{Result, ensure};
use evenkeel_testbed::eventually;
use evenkeel_testbed::probe::connect::Report;
use world::{
    ECHO_VIP, LOAD_END, Load, Plan, SOON, World, all_well, await_endpoints, counter, start_load, start_probe,
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
    let missed = counter(old, "no_listener")? + counter(old, "stale")?;
    let new = world.nodes[0].start_agent(&world.options.clone().surge())?;
    new.wait_ready(SOON)?;
    await_endpoints(&new, "demo/grpc", world.servers.len())?;
    ensure!(
        new.status()?["generation"].as_u64() > old.status()?["generation"].as_u64(),
        "the newer takes over"
    );
    // The runtime asks the old one to go once the new one is ready, which is after the old one has noticed by itself.
    eventually("the old agent drains", SOON, || {
        ensure!(old.stderr().contains("a newer agent owns the node"), "{}", old.tail());
        Ok(())
    })?;
    old.terminate()?;
    let exit = old.wait(SOON)?;
    ensure!(exit.success(), "{exit:?}\n{}", old.tail());
    // A pod that is born after the old agent's end belongs to the new one.
    let young = world.nodes[0].add_pod("young")?;
    eventually("the new agent serves the new pod", SOON, || {
        let status = new.status()?;
        ensure!(status["request_path"]["pods"] == world.nodes[0].pods().len(), "{}", status["request_path"]);
        Ok(())
    })?;
    Load::of(&start_load(&young, 50, 500, &[])?)?.flawless(10)?;
    all_well(&Report::last(&connection.finish(LOAD_END)?)?, client)?;
    Load::of(&request)?.flawless(1_200)?;
    ensure!(
        counter(&new, "no_listener")? + counter(&new, "stale")? == missed,
        "a connect fell to the kernel"
    );
    world.fabric.close()
}
