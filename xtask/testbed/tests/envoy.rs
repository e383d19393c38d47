// SPDX-License-Identifier: Apache-2.0
//! Tier 3 (namespaced): stock Envoy as a gateway. Its configuration is where discovery is and where to listen; listener,
//! routes, clusters and endpoints come from discovery, once as state of the world and once as delta.

mod stock;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::{Process, Spawn, eventually};
use serde_json::{Value, json};
use stock::{CHURNED, Counts, DISCOVERY, Load, NEAR, SOON, WEIGHTED, World, ZONED, program};

const LISTEN: &str = "127.0.0.1:8080";
const ADMIN: (&str, u16) = ("127.0.0.1", 9901);
const STATE_OF_THE_WORLD: Variant = Variant { envoys: "GRPC", ours: "sotw" };
const DELTA: Variant = Variant { envoys: "DELTA_GRPC", ours: "delta" };

/// A variant of xDS, by the names that Envoy and discovery have for it.
struct Variant {
    envoys: &'static str,
    ours: &'static str,
}

/// Envoy, in the client's pod.
struct Gateway {
    world: World,
    envoy: Process,
    variant: Variant,
}

impl Gateway {
    fn start(world: World, variant: Variant) -> Result<Self> {
        let config = world.fabric.run_dir().join("envoy.json");
        std::fs::write(&config, configuration(variant.envoys).to_string())?;
        let spawn = Spawn::new(program("EVENKEEL_ENVOY")?)
            .args(["--config-path", &config.to_string_lossy(), "--log-level", "warning"])
            // One worker, which is enough; and no second Envoy to hand over to.
            .args(["--concurrency", "1", "--disable-hot-restart"]);
        let envoy = world.client.spawn(&spawn)?;
        let gateway = Self { world, envoy, variant };
        let listens = eventually("Envoy has its listener", SOON, || {
            let active = gateway.statistic("listener_manager.total_listeners_active")?;
            ensure!(active == 1, "{active} are active");
            Ok(())
        });
        gateway.told(listens)?;
        Ok(gateway)
    }

    /// Calls of one of the Services through Envoy.
    fn load(&self, service: &str, rate: u32) -> Result<Load> {
        self.told(Load::start(&self.world.client, LISTEN, Some(service), rate, &Value::Null))
    }

    /// One of Envoy's own counters.
    fn statistic(&self, name: &str) -> Result<u64> {
        let text = self.world.client.in_netns(|| get(&format!("/stats?filter=^{name}$")))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok());
        value.with_context(|| format!("Envoy has no statistic {name}: {text}"))
    }

    /// Neither end knows of a rejection.
    fn nothing_was_rejected(&self) -> Result<()> {
        let cluster = format!("cluster.{}.update_rejected", ZONED.replace(':', "_"));
        let routes = "http.evenkeel.rds.evenkeel.update_rejected";
        let managers = ["cluster_manager.cds.update_rejected", "listener_manager.lds.update_rejected"];
        for name in managers.into_iter().chain([routes, &cluster]) {
            let count = self.statistic(name)?;
            ensure!(count == 0, "{name} is {count}\n{}", self.envoy.tail());
        }
        let client = self.world.nothing_was_rejected()?;
        ensure!(client["kind"] == "envoy" && client["variant"] == self.variant.ours, "{client}");
        Ok(())
    }

    /// Adds what Envoy and discovery wrote last to a failure.
    fn told<T>(&self, result: Result<T>) -> Result<T> {
        self.world.told(result.with_context(|| self.envoy.tail()))
    }
}

fn get(path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(ADMIN)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// All that an operator writes.
fn configuration(variant: &str) -> Value {
    let socket =
        |(host, port): (&str, u16)| json!({ "socket_address": { "address": host, "port_value": port } });
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let http2 = json!({
        "@type": format!("type.googleapis.com/{options}"),
        "explicit_http_config": { "http2_protocol_options": {} },
    });
    let ads = json!({ "ads": {}, "resource_api_version": "V3" });
    json!({
        "node": {
            "id": "gateway", "cluster": "gateways", "locality": { "zone": NEAR },
            "metadata": { "evenkeel.io/listen": LISTEN },
        },
        "admin": { "address": socket(ADMIN) },
        "dynamic_resources": {
            "ads_config": {
                "api_type": variant, "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "discovery" } }],
            },
            "cds_config": ads, "lds_config": ads,
        },
        "static_resources": { "clusters": [{
            "name": "discovery",
            "typed_extension_protocol_options": { options: http2 },
            "load_assignment": {
                "cluster_name": "discovery",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(DISCOVERY) } }] }],
            },
        }] },
    })
}

fn is_served_by_zone_and_by_weight(variant: Variant) -> Result<()> {
    let gateway = Gateway::start(World::new(2, 2)?, variant)?;
    let load = gateway.load(ZONED, 400)?;
    let all = |counts: &Counts| counts.answered() >= 200 && counts.pods.len() == 2;
    let counts = gateway.told(load.until("the client's zone answers", &Counts::default(), all))?;
    ensure!(counts.share(NEAR) == 1.0, "calls have left the zone: {counts:?}");
    load.finish()?.flawless(200)?;
    // Two endpoints in each zone.
    for (near, far, share) in [(9, 1, 0.9), (1, 3, 0.25)] {
        gateway.world.weigh(near, far)?;
        gateway.nothing_was_rejected()?;
        let load = gateway.load(WEIGHTED, 1_000)?;
        let before = load.counts()?;
        let told = load.until("a thousand calls", &before, |since| since.answered() >= 1_000);
        let since = gateway.told(told)?.since(&before);
        ensure!((since.share(NEAR) - share).abs() <= 0.02, "not {share} to the client's zone: {since:?}");
        load.finish()?.flawless(1_000)?;
    }
    gateway.nothing_was_rejected()?;
    gateway.world.fabric.close()
}

fn survives_restarts(variant: Variant) -> Result<()> {
    let mut gateway = Gateway::start(World::new(2, 2)?, variant)?;
    let load = gateway.load(ZONED, 300)?;
    let done = gateway.world.restart_discovery_under(&load);
    gateway.told(done)?;
    gateway.told(load.finish()?.flawless(200))?;
    gateway.nothing_was_rejected()?;
    gateway.world.fabric.close()
}

fn follows_a_thousand_changes(variant: Variant) -> Result<()> {
    let mut gateway = Gateway::start(World::new(CHURNED, 0)?, variant)?;
    let load = gateway.load(ZONED, 300)?;
    let done = gateway.world.change_a_thousand_times_under(&load);
    gateway.told(done)?;
    gateway.told(load.finish()?.flawless(400))?;
    gateway.nothing_was_rejected()?;
    gateway.world.fabric.close()
}

#[test]
fn stock_envoy_with_state_of_the_world_is_served_by_zone_and_by_weight() -> Result<()> {
    is_served_by_zone_and_by_weight(STATE_OF_THE_WORLD)
}

#[test]
fn stock_envoy_with_delta_is_served_by_zone_and_by_weight() -> Result<()> {
    is_served_by_zone_and_by_weight(DELTA)
}

#[test]
fn stock_envoy_with_state_of_the_world_survives_restarts_of_discovery() -> Result<()> {
    survives_restarts(STATE_OF_THE_WORLD)
}

#[test]
fn stock_envoy_with_delta_survives_restarts_of_discovery() -> Result<()> {
    survives_restarts(DELTA)
}

#[test]
fn a_thousand_endpoint_changes_cost_stock_envoy_with_state_of_the_world_no_request() -> Result<()> {
    follows_a_thousand_changes(STATE_OF_THE_WORLD)
}

#[test]
fn a_thousand_endpoint_changes_cost_stock_envoy_with_delta_no_request() -> Result<()> {
    follows_a_thousand_changes(DELTA)
}
