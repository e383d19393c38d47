// SPDX-License-Identifier: Apache-2.0
//! Every shipped scenario runs, and the answer in its file holds. Bounds leave room on both sides of what was found, so that
//! they fail when a claim becomes wrong and not when a figure moves in its last digit.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use evenkeel_sim::{
    outcome::Figures,
    run,
    scenario::{Overrides, load},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// What came out, by policy.
struct Results(BTreeMap<String, Figures>);

impl Results {
    fn of(scenario: &str) -> Self {
        let setup = load(&folder().join(format!("{scenario}.toml")), Overrides::default()).expect(scenario);
        assert!(
            !setup.scenario.question.is_empty() && !setup.scenario.answer.is_empty(),
            "{scenario} says neither"
        );
        let figures = |policy| {
            let outcome = run(&setup.scenario, policy, setup.scenario.seed, &mut |_| ()).expect(scenario);
            let all = outcome.balance;
            assert_eq!(
                all.arrived,
                all.completed + all.failed + all.in_flight,
                "{scenario}: requests got lost"
            );
            (policy.name.clone(), outcome.figures)
        };
        Self(setup.policies.iter().map(figures).collect())
    }

    fn get(&self, policy: &str) -> &Figures {
        self.0.get(policy).unwrap_or_else(|| panic!("there is no policy {policy}"))
    }

    fn p99_ms(&self, policy: &str) -> f64 {
        self.get(policy).p99_ns as f64 / 1e6
    }

    fn mean_ms(&self, policy: &str) -> f64 {
        self.get(policy).mean_ns / 1e6
    }

    /// Share of requests that failed.
    fn failed(&self, policy: &str) -> f64 {
        let figures = self.get(policy);
        figures.errors as f64 / figures.requests as f64
    }

    fn cross_zone(&self, policy: &str) -> f64 {
        self.get(policy).cross_zone
    }
}

/// That `value` lies between two others.
#[track_caller]
fn between(value: f64, low: f64, high: f64) {
    assert!((low..=high).contains(&value), "{value} is not between {low} and {high}");
}

#[test]
fn every_shipped_scenario_has_a_test_here() {
    let shipped: BTreeSet<_> = std::fs::read_dir(folder())
        .expect("the folder of scenarios")
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    let source = include_str!("shipped_scenarios.rs");
    for scenario in &shipped {
        assert!(source.contains(&format!("Results::of(\"{scenario}\")")), "{scenario} has no test");
    }
    assert!(shipped.len() >= 12, "{shipped:?}");
}

#[test]
fn per_request_fails_nothing_where_random_per_connection_overloads_some() {
    let results = Results::of("connection-or-request");
    between(results.failed("kube-proxy"), 0.02, 0.15);
    assert!(results.p99_ms("kube-proxy") > 10.0 * results.p99_ms("p2c per request"));
    assert_eq!(results.get("p2c per request").errors, 0);
    assert!(results.p99_ms("p2c per request") < 0.95 * results.p99_ms("random per request"));
    // Where our default wins nothing: pods that are alike.
    between(results.p99_ms("p2c per request") / results.p99_ms("round-robin per request"), 0.9, 1.1);
    assert_eq!(results.get("evenkeel connection").errors, 0);
    assert!(results.p99_ms("evenkeel connection") < 1.25 * results.p99_ms("evenkeel request"));
    assert!(results.cross_zone("kube-proxy") > 0.6);
    assert!(
        results.cross_zone("evenkeel request") < 0.01 && results.cross_zone("evenkeel connection") < 0.01
    );
}

#[test]
fn a_slow_pod_is_noticed_by_load_and_best_by_latency() {
    let results = Results::of("slow-pod");
    for blind in ["random", "round-robin"] {
        between(results.failed(blind), 0.05, 0.11);
    }
    assert_eq!(results.get("p2c").errors, 0);
    // Our default loses to strategies that look at latency.
    assert!(results.p99_ms("peak-ewma") < 0.6 * results.p99_ms("evenkeel request"));
    assert!(results.p99_ms("prequal") < 0.6 * results.p99_ms("evenkeel request"));
    between(results.failed("weighted-round-robin"), 0.000_01, 0.02);
}

#[test]
fn a_fast_failing_pod_swallows_requests_until_failures_count() {
    let results = Results::of("fast-failing-pod");
    assert!(results.failed("p2c") > 1.2 * results.failed("round-robin"), "least load is a trap");
    assert!(results.failed("prequal") > 1.2 * results.failed("p2c"), "latency and load together even more");
    for safe in ["peak-ewma", "p2c with outlier detection", "evenkeel request"] {
        assert!(results.failed(safe) < 0.005, "{safe}");
    }
    assert!(results.get("evenkeel request").ejections > 0);
}

#[test]
fn unequal_pods_are_found_out_by_all_but_round_robin() {
    let results = Results::of("heterogeneous");
    assert!(results.failed("round-robin") > 0.2);
    for policy in ["p2c", "p2c of 4", "peak-ewma", "weighted-round-robin", "prequal"] {
        assert_eq!(results.get(policy).errors, 0, "{policy}");
    }
    // Our default is the last of those that cope.
    for better in ["p2c of 4", "peak-ewma", "weighted-round-robin", "prequal"] {
        assert!(results.p99_ms(better) < 0.9 * results.p99_ms("evenkeel request"), "{better}");
    }
}

#[test]
fn a_zone_at_70_percent_keeps_its_traffic() {
    let results = Results::of("zone-70");
    between(results.cross_zone("ignore zones"), 0.6, 0.7);
    assert!(results.cross_zone("prefer") < 0.02);
    assert!(results.p99_ms("prefer") <= 1.02 * results.p99_ms("ignore zones"));
    assert_eq!(results.get("prefer").errors, 0);
}

#[test]
fn a_zone_at_100_percent_gives_away_a_part() {
    let results = Results::of("zone-100");
    assert!(results.p99_ms("strict") > 2.0 * results.p99_ms("prefer"));
    between(results.cross_zone("prefer"), 0.03, 0.25);
    assert!(results.p99_ms("prefer") <= 1.05 * results.p99_ms("ignore zones"));
    between(results.failed("evenkeel connection"), 0.005, 0.15);
}

#[test]
fn a_zone_at_130_percent_gives_away_its_excess_and_fails_nothing() {
    let results = Results::of("zone-130");
    between(results.failed("strict"), 0.15, 0.45);
    assert_eq!(results.get("prefer").errors, 0);
    between(results.cross_zone("prefer"), 0.13, 0.33);
    assert!(results.p99_ms("prefer") <= 1.05 * results.p99_ms("ignore zones"));
    // Connections that stay where they were opened cannot spill.
    assert!(results.failed("evenkeel connection") > 0.1);
}

#[test]
fn a_lost_zone_is_no_concern_of_clients_that_stayed_in_theirs() {
    let results = Results::of("zone-lost");
    between(results.failed("p2c, zones ignored"), 0.01, 0.05);
    between(results.failed("kube-proxy"), 0.005, 0.9 * results.failed("p2c, zones ignored"));
    assert!(results.failed("evenkeel request") < 0.002);
    let saved = results.failed("p2c with outlier detection") / results.failed("p2c, zones ignored");
    // The cap on ejections is a tenth of the pods, and a third is lost.
    between(saved, 0.5, 0.95);
}

#[test]
fn a_rolling_update_fails_next_to_nothing_per_request() {
    let results = Results::of("rollout");
    assert!(results.failed("evenkeel request") < 0.000_1);
    assert!(results.failed("kube-proxy") > 0.02);
    between(results.failed("evenkeel connection"), 0.002, 0.05);
    assert!(results.p99_ms("p2c") < 0.9 * results.p99_ms("round-robin"));
}

#[test]
fn cold_pods_need_a_slow_start() {
    let results = Results::of("scale-up-cold");
    assert!(results.failed("round-robin") > results.failed("round-robin, slow start"));
    assert!(results.failed("p2c") > 0.002);
    assert_eq!(results.get("p2c, slow start").errors, 0);
    // Our default has none.
    assert!(results.p99_ms("evenkeel request") > 2.0 * results.p99_ms("p2c, slow start"));
}

#[test]
fn local_knowledge_costs_a_part_of_what_p2c_gains() {
    let results = Results::of("local-knowledge");
    let (random, node, all) =
        (results.mean_ms("random"), results.mean_ms("p2c per node"), results.mean_ms("p2c that knows all"));
    assert!(all < 0.8 * node && node < 0.95 * random, "{all} {node} {random}");
    assert!(results.mean_ms("p2c per client") > node, "a client knows less than its node");
    // Where our default wins nothing: 50 nodes that each know a fiftieth.
    between(results.p99_ms("p2c per node") / results.p99_ms("round-robin per node"), 0.9, 1.1);
    assert!(results.mean_ms("prequal per node") > 1.02 * node, "probes that all nodes believe at once");
}

#[test]
fn a_share_of_a_thousand_pods_balances_better_than_all_of_them() {
    let results = Results::of("thousand-by-thousand");
    assert!(results.p99_ms("kube-proxy") > 5.0 * results.p99_ms("p2c, all pods"));
    between(results.p99_ms("p2c, all pods") / results.p99_ms("random"), 0.7, 1.0);
    assert!(results.p99_ms("p2c, aperture of 20") < 0.7 * results.p99_ms("p2c, all pods"));
    assert!(results.p99_ms("p2c, aperture of 20") < 0.95 * results.p99_ms("evenkeel request"));
    assert!(results.p99_ms("p2c that knows all") < results.p99_ms("p2c, aperture of 20"));
}
