// SPDX-License-Identifier: Apache-2.0
//! The comparison as one JSON object on one line, for programs: keys in a fixed order, times in nanoseconds, shares from 0 to 1.
//!
//! Always true: equal comparisons give equal bytes. Keys are only ever added. Of the series there are
//! the zones' flows; the drawings have the others.

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

/// Figures as they are: a new one needs no line here.
#[derive(Serialize)]
struct Policy<'a> {
    policy: &'a str,
    #[serde(flatten)]
    figures: Figures,
    all: Balance,
    zones: &'a [String],
    flows: &'a [Vec<u64>],
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
    Policy {
        policy: &outcome.policy,
        figures: outcome.figures,
        all: outcome.balance,
        zones: &outcome.series.zones,
        flows: &outcome.series.flows,
    }
}
