// SPDX-License-Identifier: Apache-2.0
//! Tier 3 (namespaced): gRPC that balances by itself (`xds:///`), by what discovery tells it, and reports its load.

mod stock;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::eventually;
use serde_json::json;
use stock::load::THREADS;
use stock::{
    CHURNED, Counts, DISCOVERY, FAR, Load, NEAR, SOON, WEIGHTED, World, ZONED, draining, kill, ready, start,
    stop,
};

/// So many that two percentage points are more than five standard deviations of a fair draw at nine to one.
const MANY: u64 = 6_000;

/// Where gRPC's xDS client finds discovery, and who it is.
fn bootstrap() -> serde_json::Value {
    let (host, port) = DISCOVERY;
    json!({
        "xds_servers": [{
            "server_uri": format!("{host}:{port}"),
            "channel_creds": [{ "type": "insecure" }],
            "server_features": ["xds_v3"],
        }],
        "node": { "id": "proxyless", "locality": { "zone": NEAR } },
    })
}

fn load(world: &World, service: &str, rate: u32) -> Result<Load> {
    world.told(Load::start(&world.client, &format!("xds:///{service}"), None, rate, &bootstrap()))
}

#[test]
fn proxyless_grpc_survives_restarts_of_discovery() -> Result<()> {
    let mut world = World::new(2, 2)?;
    let load = load(&world, ZONED, 300)?;
    world.restart_discovery_under(&load)?;
    world.nothing_was_rejected()?;
    world.told(load.finish()?.flawless(200))?;
    world.fabric.close()
}

#[test]
fn a_thousand_endpoint_changes_cost_proxyless_grpc_no_request() -> Result<()> {
    let mut world = World::new(CHURNED, 0)?;
    let load = load(&world, ZONED, 300)?;
    world.change_a_thousand_times_under(&load)?;
    world.nothing_was_rejected()?;
    world.told(load.finish()?.flawless(400))?;
    world.fabric.close()
}

#[test]
fn proxyless_grpc_follows_locality_weights_within_two_percentage_points_and_reports_its_load() -> Result<()> {
    let world = World::new(2, 2)?;
    world.weigh(9, 1)?;
    // More than it can do.
    let load = load(&world, WEIGHTED, 10_000)?;
    let used = |counts: &Counts| counts.pods.len() == 4;
    let before = world.told(load.until("all servers are connected", &Counts::default(), used))?;
    let counts = load.until("many calls", &before, |since| since.answered() >= MANY)?;
    let share = counts.since(&before).share(NEAR);
    ensure!((share - 0.9).abs() <= 0.02, "{:.1} % instead of 90 % went to the client's zone", share * 100.0);
    let reported = reported(&world, &counts)?;
    world.nothing_was_rejected()?;
    let all = load.finish()?;
    world.told(all.flawless(MANY))?;
    for (zone, requests) in reported {
        ensure!(requests <= all.zones[zone], "{requests} calls to {zone} are reported, of {:?}", all.zones);
    }
    world.fabric.close()
}

/// Waits until all that the client had `counted` has reached discovery in its reports; what they say by zone.
fn reported(world: &World, counted: &Counts) -> Result<Vec<(&'static str, u64)>> {
    let told = eventually("the client's calls are in its load reports", SOON * 2, || {
        let load = world.discovery()?.json(&["load", "demo/weighted"])?;
        ensure!(load["reporters"] == 1, "{load}");
        let zone = |zone: &'static str| {
            let flows = load["flows"].as_array().into_iter().flatten();
            let mut flows = flows.filter(|flow| flow["from"] == NEAR && flow["to"] == zone);
            let flow = flows.next().with_context(|| format!("nothing is reported to {zone}: {load}"))?;
            let requests = flow["requests"].as_u64().context("requests")?;
            ensure!(requests >= counted.zones[zone], "{zone}: less than {counted:?}: {load}");
            ensure!(flow["errors"] == 0, "{load}");
            Ok((zone, requests))
        };
        [NEAR, FAR].into_iter().map(zone).collect()
    });
    world.told(told)
}

#[test]
fn proxyless_grpc_fails_over_to_the_next_priority_and_back() -> Result<()> {
    let mut world = World::new(2, 2)?;
    let load = load(&world, ZONED, 300)?;
    let near = world.told(load.until_only("the client's zone answers", &world.near))?;
    ensure!(near.share(NEAR) == 1.0 && near.failed() == 0, "calls have left the zone: {near:?}");

    // Discovery does not tell: the client has to see it.
    kill(&mut world.near)?;
    let moved = world.told(load.until_only("the zone is dead: the other answers", &world.far))?;
    let lost = moved.since(&near).failed();
    ensure!(lost <= THREADS * 2, "more were lost than two servers can have had: {moved:?}");
    start(&mut world.near)?;
    world.told(load.until_only("the zone is back and answers", &world.near))?;

    // Discovery tells: nothing needs to fail.
    world.publish(&[draining(&world.near), ready(&world.far)].concat())?;
    world.told(load.until_only("the zone drains: the other answers", &world.far))?;
    stop(&mut world.near)?;
    start(&mut world.near)?;
    world.publish(&[ready(&world.near), ready(&world.far)].concat())?;
    world.told(load.until_only("the zone serves again", &world.near))?;

    world.nothing_was_rejected()?;
    let later = load.finish()?.since(&moved);
    world.told(later.flawless(100))?;
    world.fabric.close()
}
