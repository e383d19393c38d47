// SPDX-License-Identifier: Apache-2.0
//! A small world to start from: one zone, one node, one service.
#![allow(dead_code, reason = "each test binary uses another part")]

use std::{sync::Arc, time::Duration};

use evenkeel_balance::picker::Strategy;
use evenkeel_sim::{
    model::{
        Arrivals, Clients, Discovery, Failures, Group, Knowledge, Network, Policy, Process, Scenario,
        Service, ServiceTime, Zone,
    },
    outcome::Outcome,
    run,
};

pub(crate) const MS: Duration = Duration::from_millis(1);

/// Requests of a mean of 1 ms come as a Poisson stream to `servers` alike, over no distance.
pub(crate) fn world(servers: u32, concurrency: u32, utilization: f64, requests: u64) -> Scenario {
    let rate = utilization * f64::from(servers) * f64::from(concurrency) * 1_000.0;
    let seconds = requests as f64 / rate;
    Scenario {
        name: "test".into(),
        question: String::new(),
        answer: String::new(),
        seed: 1,
        duration: Duration::from_secs_f64(seconds),
        warm_up: Duration::from_secs_f64(seconds / 20.0),
        zones: vec![Zone { name: "a".into(), nodes: 1 }],
        network: Network::uniform(1, Duration::ZERO, Duration::ZERO, 0.0),
        services: vec![service("s", vec![group("g", 0, servers, concurrency)])],
        clients: vec![clients("c", None, 10)],
        arrivals: vec![Arrivals { clients: 0, process: Process::Poisson { rate }, cost: 1.0 }],
        trace: Arc::new([]),
        events: Vec::new(),
        discovery: Discovery::default(),
    }
}

/// The same in `zones` zones with two nodes each, servers spread evenly, 0.2 ms within a zone and 1 ms between zones.
pub(crate) fn zoned(zones: usize, servers_per_zone: u32, utilization: f64, requests: u64) -> Scenario {
    let mut scenario = world(servers_per_zone * zones as u32, 2, utilization, requests);
    scenario.zones = (0..zones).map(|z| Zone { name: format!("z{z}"), nodes: 2 }).collect();
    scenario.network = Network::uniform(zones, MS / 5, MS, 0.02);
    let groups = (0..zones).map(|z| group(&format!("g{z}"), z, servers_per_zone, 2)).collect();
    scenario.services = vec![Service { request_bytes: 1_000, response_bytes: 4_000, ..service("s", groups) }];
    scenario.clients = (0..zones).map(|z| clients(&format!("c{z}"), Some(z), 10)).collect();
    let Process::Poisson { rate } = scenario.arrivals[0].process else { unreachable!() };
    let process = Process::Poisson { rate: rate / zones as f64 };
    scenario.arrivals = (0..zones).map(|clients| Arrivals { clients, process, cost: 1.0 }).collect();
    scenario
}

pub(crate) fn service(name: &str, groups: Vec<Group>) -> Service {
    Service { name: name.into(), groups, timeout: None, request_bytes: 0, response_bytes: 0, keys: 0 }
}

pub(crate) fn group(name: &str, zone: usize, count: u32, concurrency: u32) -> Group {
    Group {
        name: name.into(),
        zone,
        count,
        concurrency,
        queue: None,
        service_time: ServiceTime::Exponential { mean: MS },
        speed: 1.0,
        weight: 1,
        pauses: None,
        failures: Failures::default(),
        cold: None,
    }
}

pub(crate) fn clients(name: &str, zone: Option<usize>, count: u32) -> Clients {
    Clients { name: name.into(), zone, count, service: 0, connections: 4, connection_age: None }
}

pub(crate) fn policy(strategy: Strategy) -> Policy {
    Policy::plain(strategy.name(), strategy)
}

/// Everybody knows everything: what textbooks assume.
pub(crate) fn informed(strategy: Strategy) -> Policy {
    Policy { knowledge: Knowledge::Global, ..policy(strategy) }
}

/// Runs, and checks what is true of every run.
pub(crate) fn outcome(scenario: &Scenario, policy: &Policy, seed: u64) -> Outcome {
    let outcome = run(scenario, policy, seed, &mut |_| {}).expect("a scenario that can be run");
    let balance = outcome.balance;
    assert_eq!(balance.arrived, balance.completed + balance.failed + balance.in_flight, "{balance:?}");
    outcome
}
