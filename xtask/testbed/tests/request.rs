//! Tier 3 (namespaced): Services balanced per request, by the proxy in the client pod's own network namespace.
// SPDX-License-Identifier: Apache-2.0

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::{EndpointSpec, PortSpec, ServiceSpec, Spawn, eventually};
use world::{
    ECHO, GRPC, Load, Plan, SOON, World, all_well, await_endpoints, counter, listening_ports, probe,
    start_load,
};

#[test]
fn requests_of_few_connections_spread_over_the_zone() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let client = &world.clients[0];
    let load = world.told(Load::of(&start_load(client, 500, 6_000, &[])?))?;
    load.flawless(2_500)?;
    ensure!(load.skew(world.servers_in("zone-a").len()) <= 1.15, "{}", load.0);
    let zones = load.by("zones");
    let local: u64 = zones.iter().filter(|(zone, _)| zone == "zone-a").map(|(_, n)| n).sum();
    ensure!(local as f64 >= 0.99 * load.requests() as f64, "{}", load.0);
    ensure!(counter(&world.agents[0], "handed_over")? > 0, "the proxy served it");
    world.fabric.close()
}

#[test]
fn a_slow_endpoint_gets_less_than_its_share() -> Result<()> {
    let world = World::new(&Plan { nodes: &[("a1", "zone-a")], servers: 3, agent_args: &[] })?;
    let slow = world.nodes[0].add_pod("server-slow")?;
    let listen = format!("0.0.0.0:{GRPC}");
    let arguments = ["server", "--listen", &listen, "--name", "server-slow", "--zone", "zone-a"];
    let server = slow.spawn(&Spawn::testbed(arguments)?.args(["--service-time-us", "50000"]))?;
    server.wait_stdout(|text| text.contains("listening"), SOON)?;
    let mut servers = world.servers.clone();
    servers.push(slow);
    world.publish(&servers)?;
    await_endpoints(&world.agents[0], "demo/grpc", servers.len())?;
    let load = world.told(Load::of(&start_load(&world.clients[0], 300, 5_000, &[])?))?;
    load.flawless(1_000)?;
    let share = |name: &str| load.by("pods").into_iter().find(|(pod, _)| pod == name).map_or(0, |(_, n)| n);
    ensure!(share("server-slow") * 6 < load.requests(), "a quarter would be its share: {}", load.0);
    world.fabric.close()
}

#[test]
fn removed_endpoints_are_left_without_an_error() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let (local, remote) = (world.servers_in("zone-a"), world.servers_in("zone-b"));
    let load = start_load(&world.clients[0], 200, 5_000, &[])?;
    world.publish(&remote)?;
    await_endpoints(&world.agents[0], "demo/grpc", remote.len())?;
    let load = world.told(Load::of(&load))?;
    load.flawless(800)?;
    let late: u64 =
        load.by("pods").iter().filter(|(pod, _)| pod.starts_with("server-b")).map(|(_, n)| n).sum();
    ensure!(late > 0, "nothing moved from {} to {} servers: {}", local.len(), remote.len(), load.0);
    world.fabric.close()
}

#[test]
fn a_server_that_speaks_first_is_not_stalled() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let port = PortSpec::tcp("any", 80, ECHO);
    let service = ServiceSpec::balanced("mixed", "request", "10.96.0.40", vec![port.clone()]);
    world.manifests.service(&service)?;
    let endpoints: Vec<EndpointSpec> = world.servers.iter().map(EndpointSpec::of).collect();
    world.manifests.endpoints("demo", "mixed", &endpoints, &[port])?;
    await_endpoints(&world.agents[0], "demo/mixed", endpoints.len())?;
    let report = world.told(probe(&world.clients[0], "10.96.0.40:80", 50))?;
    all_well(&report, &world.clients[0])?;
    ensure!(report.servers.keys().all(|name| name.starts_with("server-a")), "{report:?}");
    ensure!(report.peer_names.keys().collect::<Vec<_>>() == ["10.96.0.40:80"], "{report:?}");
    world.fabric.close()
}

#[test]
fn the_proxys_listener_answers_nobody_who_was_not_redirected() -> Result<()> {
    let world = World::new(&Plan::default())?;
    let (client, other) = (&world.clients[0], &world.clients[1]);
    Load::of(&start_load(client, 50, 500, &[])?)?.flawless(10)?;
    let ports = listening_ports(client)?;
    ensure!(!ports.is_empty(), "the client pod has a listener");
    let try_from = |address: SocketAddr| -> Result<Option<Vec<u8>>> {
        use std::io::Read as _;
        let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
            return Ok(None);
        };
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut answer = Vec::new();
        // A reset is as good as a close.
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(error).context("the listener keeps the connection")
            }
            _ => Ok(Some(answer)),
        }
    };
    for port in ports {
        let outside = SocketAddr::new(client.address().into(), port);
        ensure!(other.in_netns(|| try_from(outside))?.is_none(), "{outside} is reached from another pod");
        ensure!(
            client.node().in_netns(|| try_from(outside))?.is_none(),
            "{outside} is reached from the node"
        );
        let inside = SocketAddr::from(([127, 0, 0, 1], port));
        let answer = client.in_netns(|| try_from(inside))?;
        ensure!(answer.as_ref().is_none_or(Vec::is_empty), "{inside} answers {answer:?}");
    }
    world.fabric.close()
}

#[test]
fn nothing_of_a_finished_client_stays_in_flight() -> Result<()> {
    let world = World::new(&Plan::default())?;
    Load::of(&start_load(&world.clients[0], 100, 1_000, &[])?)?.flawless(50)?;
    eventually("requests in flight and client connections go to zero", SOON, || {
        let status = world.agents[0].status()?;
        let path = &status["request_path"];
        ensure!(path["requests_in_flight"] == 0 && path["client_connections"] == 0, "{path}");
        Ok(())
    })?;
    world.fabric.close()
}
