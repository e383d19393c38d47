//! Tier 3 (namespaced): pods that come and go under a running agent.
// SPDX-License-Identifier: Apache-2.0

mod world;

use std::time::Duration;

use anyhow::{Result, ensure};
use evenkeel_testbed::eventually;
use world::{ECHO_VIP, Load, Plan, SOON, World, await_pods, counter, start_load, start_probe};

const ONE: Plan = Plan { nodes: &[("a1", "zone-a")], servers: 2, agent_args: &[] };
/// A real runtime needs at least 150 ms from the end of CNI to a container's first instruction.
const BEFORE_THE_FIRST_PROCESS: Duration = Duration::from_millis(150);

#[test]
fn a_new_pods_first_connect_is_redirected() -> Result<()> {
    let world = World::new(&ONE)?;
    let (node, agent) = (&world.nodes[0], &world.agents[0]);
    await_pods(agent, node.pods().len(), SOON)?;
    let missed = counter(agent, "no_listener")?;
    for n in 0..5 {
        let pod = node.add_pod(&format!("young-{n}"))?;
        await_pods(agent, node.pods().len(), BEFORE_THE_FIRST_PROCESS)?;
        Load::of(&start_load(&pod, 50, 300, &[])?)?.flawless(5)?;
    }
    ensure!(counter(agent, "no_listener")? == missed, "a connect found no listener");
    world.fabric.close()
}

#[test]
fn a_deleted_pods_namespace_and_veth_are_gone_within_a_second() -> Result<()> {
    let world = World::new(&ONE)?;
    let (node, agent) = (&world.nodes[0], &world.agents[0]);
    let before = node.pods().len();
    let pod = node.add_pod("brief")?;
    await_pods(agent, before + 1, SOON)?;
    let holder = start_probe(&pod, ECHO_VIP, &["--count", "10", "--hold"])?;
    holder.wait_stdout(|text| text.ends_with('\n'), SOON)?;
    let _load = start_load(&pod, 100, 60_000, &[])?;
    eventually("load of the pod runs", SOON, || {
        let status = agent.status()?;
        ensure!(
            status["request_path"]["client_connections"].as_u64() > Some(0),
            "{}",
            status["request_path"]
        );
        Ok(())
    })?;
    let link = pod.veth();
    pod.delete()?;
    eventually("the veth is gone", Duration::from_secs(1), || {
        ensure!(node.exec(&["ip", "link", "show", &link]).is_err(), "{link} is still there");
        Ok(())
    })?;
    await_pods(agent, before, Duration::from_secs(1))?;
    world.fabric.close()
}

#[test]
fn pods_that_come_and_go_leave_nothing_in_the_agent() -> Result<()> {
    let world = World::new(&ONE)?;
    let (node, agent) = (&world.nodes[0], &world.agents[0]);
    let before = node.pods().len();
    await_pods(agent, before, SOON)?;
    let open = || -> Result<usize> { Ok(std::fs::read_dir(format!("/proc/{}/fd", agent.pid()))?.count()) };
    let descriptors = open()?;
    for n in 0..20 {
        let pod = node.add_pod(&format!("fly-{n}"))?;
        await_pods(agent, before + 1, SOON)?;
        pod.delete()?;
        await_pods(agent, before, SOON)?;
    }
    eventually("descriptors are as many as before", SOON, || {
        // The admin connection of the question itself may still be open.
        ensure!(open()? <= descriptors + 2, "{} against {descriptors}", open()?);
        Ok(())
    })?;
    world.fabric.close()
}

#[test]
fn pods_that_were_there_before_the_agent_are_served() -> Result<()> {
    let mut world = World::without_agents(&ONE)?;
    world.start_discovery()?;
    world.start_agents()?;
    await_pods(&world.agents[0], world.nodes[0].pods().len(), SOON)?;
    Load::of(&start_load(&world.clients[0], 50, 500, &[])?)?.flawless(10)?;
    ensure!(counter(&world.agents[0], "handed_over")? > 0);
    world.fabric.close()
}
