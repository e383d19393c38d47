//! Tier 3 (namespaced): Services balanced per connection, in the kernel.
// SPDX-License-Identifier: Apache-2.0

mod world;

use anyhow::{Result, ensure};
use evenkeel_testbed::eventually;
use evenkeel_testbed::probe::connect::Report;
use world::{ECHO_VIP, Plan, SOON, World, all_well, await_endpoints, probe, serve, spread, start_probe};

#[test]
fn open_connections_differ_by_at_most_three_within_the_clients_zone() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let (client, local) = (&world.clients[0], world.servers_in("zone-a"));
    let holder = start_probe(client, ECHO_VIP, &["--count", "200", "--hold"])?;
    let text = world.told(holder.wait_stdout(|text| text.ends_with('\n'), SOON))?;
    let report = Report::last(&text)?;
    all_well(&report, client)?;
    ensure!(spread(&report, &local) <= 3, "{report:?}");
    ensure!(
        local.iter().map(|pod| report.servers.get(pod.name()).unwrap_or(&0)).sum::<u64>() == 200,
        "{report:?}"
    );
    // All of them still work, and once closed none is counted as open.
    holder.terminate()?;
    ensure!(Report::last(&holder.finish(SOON)?)?.lost() == 0);
    eventually("the load of closed connections is returned", SOON, || {
        let answer = world.agents[0].json(&["endpoints", "demo/echo"])?;
        let open: u64 = answer["endpoints"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["open_sockets"].as_u64())
            .sum();
        ensure!(open == 0, "open: {answer}");
        Ok(())
    })?;
    world.fabric.close()
}

#[test]
fn a_client_sees_the_address_that_it_dialled_and_its_own() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let client = &world.clients[0];
    let report = probe(client, ECHO_VIP, 20)?;
    all_well(&report, client)?;
    ensure!(report.peer_names.keys().collect::<Vec<_>>() == [ECHO_VIP], "{report:?}");
    ensure!(report.socket_names.keys().all(|name| *name == client.address().to_string()), "{report:?}");
    world.fabric.close()
}

#[test]
fn a_v4_mapped_address_is_balanced_alike() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let client = &world.clients[0];
    let text = start_probe(client, ECHO_VIP, &["--count", "100", "--hold", "--mapped"])?
        .wait_stdout(|text| text.ends_with('\n'), SOON)?;
    let report = Report::last(&text)?;
    all_well(&report, client)?;
    ensure!(spread(&report, &world.servers_in("zone-a")) <= 3, "{report:?}");
    let mapped = format!("[::ffff:{}]:80", world::address(ECHO_VIP).ip());
    ensure!(report.peer_names.keys().all(|name| *name == mapped), "{report:?}");
    world.fabric.close()
}

#[test]
fn a_socket_bound_to_the_pods_address_is_balanced_alike() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let client = &world.clients[0];
    let own = client.address().to_string();
    let text = start_probe(client, ECHO_VIP, &["--count", "100", "--bind", &own])?.finish(SOON)?;
    let report = Report::last(&text)?;
    all_well(&report, client)?;
    ensure!(report.servers.keys().all(|name| name.starts_with("server-a")), "{report:?}");
    world.fabric.close()
}

#[test]
fn a_zone_without_endpoints_is_served_by_another_without_an_error() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let client = &world.clients[0];
    let (local, remote) = (world.servers_in("zone-a"), world.servers_in("zone-b"));
    world.publish(&remote)?;
    await_endpoints(&world.agents[0], "demo/echo", remote.len())?;
    local.iter().try_for_each(|pod| pod.delete())?;
    let report = world.told(probe(client, ECHO_VIP, 100))?;
    all_well(&report, client)?;
    ensure!(report.servers.keys().all(|name| name.starts_with("server-b")), "{report:?}");
    world.fabric.close()
}

#[test]
fn a_new_endpoint_is_used() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let pod = world.nodes[1].add_pod("server-new")?;
    serve(&pod)?;
    let mut servers = world.servers.clone();
    servers.push(pod);
    world.publish(&servers)?;
    await_endpoints(&world.agents[0], "demo/echo", servers.len())?;
    let report = probe(&world.clients[0], ECHO_VIP, 100)?;
    all_well(&report, &world.clients[0])?;
    ensure!(report.servers.contains_key("server-new"), "{report:?}");
    world.fabric.close()
}
