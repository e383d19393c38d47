// SPDX-License-Identifier: Apache-2.0
//! Requests that the simulator gets through per second of CPU time, in the plain P2C scenario: one zone, one node,
//! 100 servers at 70 % of their capacity, Poisson arrivals, exponential service times, `least-request` per request
//! and nothing else.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use evenkeel_balance::picker::Strategy;
use evenkeel_sim::model::{
    Arrivals, Clients, Discovery, Failures, Group, Network, Policy, Process, Scenario, Service, ServiceTime,
    Zone,
};

use crate::clock;

const SERVERS: u32 = 100;
const SERVICE_TIME: Duration = Duration::from_millis(10);
const UTILIZATION: f64 = 0.7;
/// Simulated time: 1.05 million requests.
const DURATION: Duration = Duration::from_secs(150);
const ROUNDS: usize = 3;

/// Requests per second of CPU time.
pub(super) fn measure() -> Result<f64> {
    let (scenario, policy) = (plain(), Policy::plain("p2c", Strategy::LeastRequest));
    let mut outcome = None;
    let took = clock::best(ROUNDS, || outcome = Some(evenkeel_sim::run(&scenario, &policy, 1, &mut |_| {})))?;
    let outcome = outcome.context("nothing was simulated")??;
    // A simulator that lost requests would be fast.
    let balance = outcome.balance;
    ensure!(
        balance.failed == 0 && balance.arrived == balance.completed + balance.in_flight,
        "the plain scenario lost requests: {balance:?}"
    );
    Ok(balance.arrived as f64 / took.as_secs_f64())
}

fn plain() -> Scenario {
    Scenario {
        name: "plain-p2c".to_owned(),
        question: "How fast is the simulator?".to_owned(),
        answer: String::new(),
        seed: 1,
        duration: DURATION,
        warm_up: Duration::ZERO,
        zones: vec![Zone { name: "a".to_owned(), nodes: 1 }],
        network: Network::uniform(1, Duration::from_micros(100), Duration::ZERO, 0.0),
        services: vec![service()],
        clients: vec![Clients {
            name: "clients".to_owned(),
            zone: None,
            count: 1,
            service: 0,
            connections: 1,
            connection_age: None,
        }],
        arrivals: vec![Arrivals {
            clients: 0,
            process: Process::Poisson { rate: UTILIZATION * f64::from(SERVERS) / SERVICE_TIME.as_secs_f64() },
            cost: 1.0,
        }],
        trace: Arc::new([]),
        events: Vec::new(),
        discovery: Discovery::default(),
    }
}

fn service() -> Service {
    Service {
        name: "service".to_owned(),
        groups: vec![Group {
            name: "servers".to_owned(),
            zone: 0,
            count: SERVERS,
            concurrency: 1,
            queue: None,
            service_time: ServiceTime::Exponential { mean: SERVICE_TIME },
            speed: 1.0,
            weight: 1,
            pauses: None,
            failures: Failures::default(),
            cold: None,
        }],
        timeout: None,
        request_bytes: 0,
        response_bytes: 0,
        keys: 0,
    }
}
