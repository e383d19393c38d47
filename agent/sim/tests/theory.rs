// SPDX-License-Identifier: Apache-2.0
//! Tier 2. The simulator against what is known by theory, before it is believed.
//!
//! Sources: Kleinrock, "Queueing Systems", volume 1 (M/M/1, M/M/c with Erlang's C formula, Pollaczek-Khinchine); Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001 (mean time of the supermarket model, longest queue);
//! Winston, "Optimality of the Shortest Line Discipline", 1977 (join the shortest queue is best).

mod world;

use std::time::Duration;

use evenkeel_balance::picker::Strategy;
use evenkeel_sim::model::{Policy, ServiceTime};
use world::{MS, informed, outcome, policy, world};

/// Mean time in the system, in milliseconds.
fn mean_ms(servers: u32, concurrency: u32, utilization: f64, policy: &Policy) -> f64 {
    let scenario = world(servers, concurrency, utilization, 1_500_000);
    outcome(&scenario, policy, 11).figures.mean_ns / 1e6
}

fn near(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!((got / want - 1.0).abs() < tolerance, "{what}: {got} instead of {want}");
}

/// The chance that a request waits in M/M/c.
fn erlang_c(c: u32, utilization: f64) -> f64 {
    let a = utilization * f64::from(c);
    // Erlang's B by its recursion, then C.
    let b = (1..=c).fold(1.0, |b, k| a * b / (f64::from(k) + a * b));
    b / (1.0 - utilization * (1.0 - b))
}

#[test]
fn one_server_is_an_mm1_queue() {
    for utilization in [0.3, 0.6, 0.8] {
        let got = mean_ms(1, 1, utilization, &policy(Strategy::Random));
        near(got, 1.0 / (1.0 - utilization), 0.03, &format!("M/M/1 at {utilization}"));
    }
}

#[test]
fn the_time_in_an_mm1_queue_is_exponential() {
    let figures = outcome(&world(1, 1, 0.5, 1_500_000), &policy(Strategy::Random), 3).figures;
    // Mean 2 ms, so quantile p lies at -2 ms × ln(1 − p).
    for (got, p) in [(figures.p50_ns, 0.5f64), (figures.p90_ns, 0.9), (figures.p99_ns, 0.99)] {
        near(got as f64 / 1e6, -2.0 * (1.0 - p).ln(), 0.04, &format!("p{p}"));
    }
}

#[test]
fn one_server_with_places_is_an_mmc_queue() {
    for (c, utilization) in [(2, 0.7), (8, 0.8), (32, 0.9)] {
        let wait = erlang_c(c, utilization) / (f64::from(c) * (1.0 - utilization));
        let got = mean_ms(1, c, utilization, &policy(Strategy::Random));
        near(got, 1.0 + wait, 0.03, &format!("M/M/{c} at {utilization}"));
    }
}

#[test]
fn waiting_grows_with_the_variance_of_the_work() {
    // Pollaczek-Khinchine: wait = rho (1 + cv²) / 2 (1 − rho), with the squared coefficient of variation of the work.
    let sigma = 1.0f64;
    let times = [
        (ServiceTime::Fixed(MS), 0.0),
        (ServiceTime::Lognormal { mean: MS, sigma }, sigma.powi(2).exp() - 1.0),
        (
            ServiceTime::Bimodal { short: MS / 2, long: MS * 11 / 2, long_share: 0.1 },
            0.9 * 0.25 + 0.1 * 30.25 - 1.0,
        ),
    ];
    for (service_time, variation) in times {
        let mut scenario = world(1, 1, 0.6, 2_000_000);
        scenario.services[0].groups[0].service_time = service_time;
        let got = outcome(&scenario, &policy(Strategy::Random), 5).figures.mean_ns / 1e6;
        near(got, 1.0 + 0.6 * (1.0 + variation) / (2.0 * 0.4), 0.04, &format!("{service_time:?}"));
    }
}

#[test]
fn random_over_many_servers_is_as_many_mm1_queues() {
    let got = mean_ms(100, 1, 0.7, &policy(Strategy::Random));
    near(got, 1.0 / 0.3, 0.02, "random");
}

#[test]
fn two_choices_wait_as_the_supermarket_model_says() {
    // With d choices the mean time is the sum over i of rho^((d^i − d) / (d − 1)) (Mitzenmacher, corollary 1).
    for (d, utilization) in [(2u32, 0.7f64), (2, 0.9), (5, 0.9)] {
        let d_f = f64::from(d);
        let want: f64 = (1..12).map(|i| utilization.powf((d_f.powi(i) - d_f) / (d_f - 1.0))).sum();
        let two = Policy { choices: d, ..informed(Strategy::LeastRequest) };
        // The model is of infinitely many servers.
        near(mean_ms(500, 1, utilization, &two), want, 0.03, &format!("{d} choices at {utilization}"));
    }
}

#[test]
fn the_longest_queue_of_two_choices_is_far_shorter_than_that_of_random() {
    let scenario = world(1_000, 1, 0.9, 4_000_000);
    let longest = |policy: &Policy| outcome(&scenario, policy, 1).figures.max_in_endpoint;
    let (random, two) = (longest(&policy(Strategy::Random)), longest(&informed(Strategy::LeastRequest)));
    // log log n / log 2 + O(1) is about 3.3 + O(1); of random the tail is geometric: log n / log (1 / rho) is 65 at an instant.
    assert!(two <= 9, "{two}");
    assert!(random >= 50, "{random}");
}

#[test]
fn the_shortest_queue_beats_two_choices_and_two_choices_beat_random() {
    // Ten choices of ten servers is nearly the shortest queue of all.
    let times = |servers| {
        [
            mean_ms(servers, 1, 0.85, &Policy { choices: 10, ..informed(Strategy::LeastRequest) }),
            mean_ms(servers, 1, 0.85, &informed(Strategy::LeastRequest)),
            mean_ms(servers, 1, 0.85, &policy(Strategy::Random)),
        ]
    };
    let [shortest, two, random] = times(10);
    assert!(shortest < two * 0.9 && two < random * 0.6, "{shortest} {two} {random}");
    // No rule is better than one queue for all.
    let one_queue = 1.0 + erlang_c(10, 0.85) / (10.0 * 0.15);
    assert!(shortest > one_queue, "{shortest} {one_queue}");
}

#[test]
fn what_is_measured_at_the_servers_is_what_was_offered() {
    for utilization in [0.2, 0.55, 0.9] {
        let figures =
            outcome(&world(20, 4, utilization, 1_000_000), &policy(Strategy::LeastRequest), 8).figures;
        near(figures.utilization, utilization, 0.01, "utilisation");
    }
}

#[test]
fn the_mean_number_in_the_system_obeys_littles_law() {
    let scenario = world(50, 1, 0.8, 2_000_000);
    let outcome = outcome(&scenario, &policy(Strategy::Random), 21);
    let steps = &outcome.series.steps[12..];
    let load = steps.iter().map(|s| s.load_mean).sum::<f64>() / steps.len() as f64;
    let rate_per_server = 0.8 / 1e6;
    near(load, rate_per_server * outcome.figures.mean_ns, 0.03, "Little");
}

#[test]
fn pauses_delay_what_they_interrupt_by_their_length() {
    let mut scenario = world(1, 1, 0.0001, 20_000);
    scenario.services[0].groups[0].service_time = ServiceTime::Fixed(MS);
    scenario.services[0].groups[0].pauses =
        Some(evenkeel_sim::model::Pauses { every: 10 * MS, length: Duration::from_millis(5) });
    let figures = outcome(&scenario, &policy(Strategy::Random), 2).figures;
    // A request meets a pause that is on (a third of the time, and 2.5 ms of it are left), and one more in each 10 ms of work.
    near(figures.mean_ns / 1e6, 1.0 + 5.0 / 15.0 * 2.5 + 0.1 * 5.0, 0.04, "pauses");
}
