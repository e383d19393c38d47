// SPDX-License-Identifier: Apache-2.0
//! Faults in a scenario are named by their path.

use super::*;
use evenkeel_balance::picker::Strategy;

fn sound() -> Scenario {
    Scenario {
        name: "sound".into(),
        question: String::new(),
        answer: String::new(),
        seed: 1,
        duration: Duration::from_secs(10),
        warm_up: Duration::from_secs(1),
        zones: vec![Zone { name: "a".into(), nodes: 1 }],
        network: Network::uniform(1, Duration::ZERO, Duration::ZERO, 0.0),
        services: vec![Service {
            name: "s".into(),
            groups: vec![Group {
                name: "g".into(),
                zone: 0,
                count: 2,
                concurrency: 1,
                queue: None,
                service_time: ServiceTime::Exponential { mean: Duration::from_millis(1) },
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
        }],
        clients: vec![Clients {
            name: "c".into(),
            zone: None,
            count: 1,
            service: 0,
            connections: 1,
            connection_age: None,
        }],
        arrivals: vec![Arrivals { clients: 0, process: Process::Poisson { rate: 100.0 }, cost: 1.0 }],
        trace: Arc::new([]),
        events: Vec::new(),
        discovery: Discovery::default(),
    }
}

fn fault(change: impl FnOnce(&mut Scenario)) -> String {
    let mut scenario = sound();
    change(&mut scenario);
    scenario.check().expect_err("a fault").path
}

#[test]
fn a_sound_scenario_passes() {
    assert_eq!(sound().check(), Ok(()));
}

#[test]
fn numbers_that_are_none_or_out_of_range_are_named() {
    for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        assert_eq!(fault(|s| s.services[0].groups[0].speed = bad), "services[0].groups[0].speed");
        assert_eq!(fault(|s| s.arrivals[0].cost = bad), "arrivals[0].cost");
        let process = Process::Poisson { rate: bad };
        assert_eq!(fault(|s| s.arrivals[0].process = process), "arrivals[0].rate");
    }
    assert_eq!(fault(|s| s.network.price_per_gib[0][0] = f64::NAN), "network.price_per_gib[0][0]");
    let failures = Failures { fast: 0.7, slow: 0.7, ..Failures::default() };
    assert_eq!(
        fault(|s| s.services[0].groups[0].failures = failures),
        "services[0].groups[0].failures.fast + slow"
    );
    assert_eq!(fault(|s| s.duration = Duration::MAX), "duration");
    assert_eq!(fault(|s| s.services[0].groups[0].concurrency = 0), "services[0].groups[0].concurrency");
}

#[test]
fn indices_that_lead_nowhere_are_named() {
    assert_eq!(fault(|s| s.services[0].groups[0].zone = 1), "services[0].groups[0].zone");
    assert_eq!(fault(|s| s.clients[0].service = 9), "clients[0].service");
    assert_eq!(fault(|s| s.arrivals[0].clients = 1), "arrivals[0].clients");
    let pods = Pods { service: 0, group: Some(3), first: 0, count: 1 };
    let event = Event { at: Duration::ZERO, action: Action::Weight { pods, weight: 1 } };
    assert_eq!(fault(|s| s.events.push(event)), "events[0].group");
}

#[test]
fn a_trace_out_of_order_is_named_by_its_row() {
    let row = |at| TraceRequest { at: Duration::from_millis(at), zone: 0, service: 0, cost: 1.0 };
    assert_eq!(fault(|s| s.trace = Arc::new([row(5), row(4)])), "trace[1].at");
    assert_eq!(fault(|s| s.trace = Arc::new([row(10_000)])), "trace[0].at");
}

#[test]
fn a_policy_out_of_range_is_named() {
    let mut policy = Policy::plain("p", Strategy::Random);
    assert_eq!(policy.check(), Ok(()));
    policy.panic_below = f64::NAN;
    assert_eq!(policy.check().unwrap_err().path, "panic_below");
    policy.panic_below = 0.0;
    policy.choices = 1;
    assert_eq!(policy.check().unwrap_err().path, "choices");
    policy.choices = 2;
    policy.outlier = Some(Outlier { interval: Some(Duration::ZERO), ..Outlier::default() });
    assert_eq!(policy.check().unwrap_err().path, "outlier.interval");
}
