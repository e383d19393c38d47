// SPDX-License-Identifier: Apache-2.0
//! Simulated requests per second of CPU time, for the plain scenario: P2C over 100 endpoints in three zones, 10 nodes, network
//! latency, 70 % utilisation. `cargo run --release -p evenkeel-sim --example speed [REQUESTS]`.

use std::{sync::Arc, time::Duration};

use evenkeel_balance::picker::Strategy;
use evenkeel_sim::model::{
    Arrivals, Clients, Discovery, Failures, Group, Network, Policy, Process, Scenario, Service, ServiceTime,
    Zone,
};

const MS: Duration = Duration::from_millis(1);

fn scenario(requests: f64) -> Scenario {
    let group = |zone: usize, count| Group {
        name: format!("g{zone}"),
        zone,
        count,
        concurrency: 4,
        queue: None,
        service_time: ServiceTime::Exponential { mean: 5 * MS },
        speed: 1.0,
        weight: 1,
        pauses: None,
        failures: Failures::default(),
        cold: None,
    };
    let rate = 0.7 * 100.0 * 4.0 * 200.0;
    Scenario {
        name: "plain".into(),
        question: String::new(),
        answer: String::new(),
        seed: 1,
        duration: Duration::from_secs_f64(requests / rate),
        warm_up: Duration::ZERO,
        zones: [4, 3, 3]
            .iter()
            .enumerate()
            .map(|(i, nodes)| Zone { name: format!("z{i}"), nodes: *nodes })
            .collect(),
        network: Network::uniform(3, MS / 5, MS, 0.01),
        services: vec![Service {
            name: "s".into(),
            groups: vec![group(0, 34), group(1, 33), group(2, 33)],
            timeout: None,
            request_bytes: 1_000,
            response_bytes: 10_000,
            keys: 0,
        }],
        clients: vec![Clients {
            name: "c".into(),
            zone: None,
            count: 100,
            service: 0,
            connections: 1,
            connection_age: None,
        }],
        arrivals: vec![Arrivals { clients: 0, process: Process::Poisson { rate }, cost: 1.0 }],
        trace: Arc::new([]),
        events: Vec::new(),
        discovery: Discovery::default(),
    }
}

/// User and system time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    // The kernel shows ticks of a hundredth of a second on all architectures.
    ticks as f64 / 100.0
}

fn main() {
    let requests = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(10e6);
    let policy = Policy::plain("p2c", Strategy::LeastRequest);
    let before = cpu_seconds();
    match evenkeel_sim::run(&scenario(requests), &policy, 1, &mut |_| {}) {
        Ok(outcome) => {
            let seconds = cpu_seconds() - before;
            let arrived = outcome.balance.arrived;
            println!(
                "{arrived} requests in {seconds} s of CPU time: {:.0} per second",
                arrived as f64 / seconds.max(0.01)
            );
        }
        Err(error) => eprintln!("{error}"),
    }
}
