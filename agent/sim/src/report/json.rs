// SPDX-License-Identifier: Apache-2.0
//! The comparison as one JSON object on one line, for programs: keys in a fixed order, times in nanoseconds, shares from 0 to 1.
//!
//! Always true: equal comparisons give equal bytes. Keys are only ever added. Series are left out but for the zones' flows
//!: the drawings have them.

use serde::Serialize;

use super::Comparison;
use crate::outcome::{Balance, Figures, Outcome};

#[derive(Serialize)]
struct Report<'a> {
    scenario: &'a str,
    question: &'a str,
    answer: &'a str,
    seed: u64,
    duration_ns: u64,
    warm_up_ns: u64,
    policies: Vec<Policy<'a>>,
}

#[derive(Serialize)]
struct Policy<'a> {
    policy: &'a str,
    requests: u64,
    errors: u64,
    no_endpoint: u64,
    timeouts: u64,
    mean_ns: f64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
    skew_in_flight: f64,
    skew_utilization: f64,
    utilization: f64,
    cross_zone: f64,
    cost: f64,
    ejections: u64,
    moved: u64,
    reopened: u64,
    remapped: u64,
    max_in_endpoint: u64,
    events: u64,
    all: All,
    zones: &'a [String],
    flows: &'a [Vec<u64>],
}

/// Conservation: `arrived` is the sum of the others, the warm-up included.
#[derive(Serialize)]
struct All {
    arrived: u64,
    completed: u64,
    failed: u64,
    in_flight: u64,
}

/// The comparison as JSON, with a line's end.
#[must_use]
pub fn json(comparison: &Comparison) -> String {
    let scenario = &comparison.scenario;
    let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let report = Report {
        scenario: &scenario.name,
        question: &scenario.question,
        answer: &scenario.answer,
        seed: comparison.seed,
        duration_ns: ns(scenario.duration),
        warm_up_ns: ns(scenario.warm_up),
        policies: comparison.outcomes.iter().map(policy).collect(),
    };
    // Structs of numbers and strings, and figures are finite: nothing in it can fail to serialise.
    let mut text = serde_json::to_string(&report).unwrap_or_default();
    text.push('\n');
    text
}

fn policy(outcome: &Outcome) -> Policy<'_> {
    // Destructured whole, so that a new figure cannot be forgotten here.
    let Figures {
        requests,
        errors,
        no_endpoint,
        timeouts,
        mean_ns,
        p50_ns,
        p90_ns,
        p99_ns,
        p999_ns,
        max_ns,
        skew_in_flight,
        skew_utilization,
        utilization,
        cross_zone,
        cost,
        ejections,
        moved,
        reopened,
        remapped,
        max_in_endpoint,
        events,
    } = outcome.figures;
    let Balance { arrived, completed, failed, in_flight } = outcome.balance;
    Policy {
        policy: &outcome.policy,
        requests,
        errors,
        no_endpoint,
        timeouts,
        mean_ns,
        p50_ns,
        p90_ns,
        p99_ns,
        p999_ns,
        max_ns,
        skew_in_flight,
        skew_utilization,
        utilization,
        cross_zone,
        cost,
        ejections,
        moved,
        reopened,
        remapped,
        max_in_endpoint,
        events,
        all: All { arrived, completed, failed, in_flight },
        zones: &outcome.series.zones,
        flows: &outcome.series.flows,
    }
}
