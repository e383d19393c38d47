// SPDX-License-Identifier: Apache-2.0
//! Which promises the run has kept, and what it has cost. Pure.
//!
//! What must always be true: a promise of a phase that did not run is not held to be kept; what is worse with Evenkeel
//! than without is said as plainly as what is better.

use super::figures::Figures;
use super::parameters::promise;

/// A promise and whether it was kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Promise {
    /// The phase it is about.
    pub(super) phase: &'static str,
    /// What was promised.
    pub(super) text: String,
    /// What was measured.
    pub(super) measured: String,
    /// Whether it was kept.
    pub(super) kept: bool,
}

/// All promises that the phases allow to judge.
pub(super) fn promises(phases: &[Figures]) -> Vec<Promise> {
    let mut promises = Vec::new();
    let find = |name: &str| phases.iter().find(|phase| phase.name == name);
    if let Some(phase) = find("connection") {
        let spread = phase.connection_spread;
        promises.push(Promise {
            phase: "connection",
            text: format!("open connections differ by at most {} within a zone", promise::CONNECTION_SPREAD),
            measured: spread.map_or_else(|| "not measured".to_owned(), |spread| spread.to_string()),
            kept: spread.is_some_and(|spread| spread <= promise::CONNECTION_SPREAD),
        });
        promises.push(local("connection", phase));
        promises.push(none("connection", "errors", phase.errors));
    }
    if let Some(phase) = find("request") {
        promises.extend(balanced("request", phase));
        if let Some(baseline) = find("kube-proxy") {
            let ratio = phase.p99_us as f64 / (baseline.p99_us as f64).max(1.0);
            promises.push(Promise {
                phase: "request",
                text: format!("p99 at most {} of the baseline's", promise::P99_RATIO),
                measured: format!("{ratio:.3}"),
                kept: ratio <= promise::P99_RATIO,
            });
        }
    }
    if let Some(phase) = find("zone-outage") {
        promises.push(none("zone-outage", "errors after discovery has published", phase.errors));
    }
    if let Some(phase) = find("agent-killed") {
        promises.push(none(
            "agent-killed",
            "failed connects, from the kill on and once the hung agent's heartbeat is stale",
            phase.new_connection_errors,
        ));
        promises.push(none("agent-killed", "errors on nodes whose agent is well", phase.errors));
    }
    if let Some(phase) = find("recovered") {
        promises.extend(balanced("recovered", phase));
    }
    if !phases.is_empty() {
        let mismatches = phases.iter().map(|phase| phase.source_mismatches).sum();
        promises.push(none(
            "every phase",
            "responses to another address than the client pod's own",
            mismatches,
        ));
    }
    promises
}

fn balanced(name: &'static str, phase: &Figures) -> Vec<Promise> {
    vec![
        Promise {
            phase: name,
            text: format!("skew at most {:.2}, slow pod left out", promise::SKEW),
            measured: format!("{:.3}", phase.skew),
            kept: phase.skew > 0.0 && phase.skew <= promise::SKEW,
        },
        Promise {
            phase: name,
            text: format!("the slow pod gets at most {:.2} of the others' mean", promise::SLOW_SHARE),
            measured: format!("{:.3}", phase.slow_share),
            kept: phase.slow_share <= promise::SLOW_SHARE,
        },
        local(name, phase),
        none(name, "errors", phase.errors + phase.new_connection_errors),
    ]
}

fn local(name: &'static str, phase: &Figures) -> Promise {
    Promise {
        phase: name,
        text: format!("at least {} % served in the client's zone", promise::ZONE_LOCAL * 100.0),
        measured: format!("{:.2} %", phase.zone_local * 100.0),
        kept: phase.zone_local >= promise::ZONE_LOCAL,
    }
}

fn none(phase: &'static str, what: &str, count: u64) -> Promise {
    Promise { phase, text: format!("no {what}"), measured: count.to_string(), kept: count == 0 }
}

/// What is not better, or is lost, one sentence each.
pub(super) fn costs(phases: &[Figures]) -> Vec<String> {
    let mut costs = Vec::new();
    let find = |name: &str| phases.iter().find(|phase| phase.name == name);
    if let (Some(baseline), Some(request)) = (find("kube-proxy"), find("request")) {
        let difference = request.p50_us as f64 - baseline.p50_us as f64;
        // What is won at the tail is not won in the middle: there the way through the agent shows.
        costs.push(format!("request: the median is {:+.1} ms against the baseline's", difference / 1e3));
    }
    if let Some(connection) = find("connection") {
        costs.push(format!(
            "connection: the kernel counts connections, not requests: the slow pod gets {:.2} of the others' mean, and p99 is {:.1} ms",
            connection.slow_share,
            connection.p99_us as f64 / 1e3
        ));
    }
    if let Some(outage) = find("zone-outage") {
        costs.push(format!(
            "zone-outage: {} requests were lost before the outage was in force on every node, {:.0} ms after the pods ended",
            outage.errors_before_publication.unwrap_or_default(),
            outage.publication_ms.unwrap_or_default()
        ));
    }
    if let Some(agents) = find("agent-killed").and_then(|phase| phase.agents.as_ref()) {
        costs.push(format!(
            "agent killed: {} requests and {} half-open connections went with it; until it is back its node balances per connection",
            agents.lost_with_killed_agent, agents.connections_cut_by_kill
        ));
        costs.push(format!(
            "agent hung: {} requests and {} new connections of its node hung before the heartbeat was stale, {} requests on old connections after",
            agents.lost_with_hung_agent - agents.lost_with_hung_agent_after_stale,
            agents.new_connection_errors_before_stale,
            agents.lost_with_hung_agent_after_stale
        ));
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &str) -> Figures {
        Figures {
            name: name.into(),
            requests: 1,
            skew: 1.05,
            zone_local: 1.0,
            slow_share: 0.8,
            p99_us: 10,
            ..Figures::default()
        }
    }

    fn run() -> Vec<Figures> {
        let names = ["kube-proxy", "connection", "request", "zone-outage", "agent-killed", "recovered"];
        let mut phases: Vec<Figures> = names.map(phase).into();
        phases[0].p99_us = 20;
        phases[1].connection_spread = Some(3);
        phases
    }

    fn broken(phases: &[Figures]) -> Vec<String> {
        let broken = promises(phases).into_iter().filter(|promise| !promise.kept);
        broken.map(|promise| format!("{}: {}", promise.phase, promise.text)).collect()
    }

    #[test]
    fn a_run_at_the_limits_keeps_every_promise() {
        assert_eq!(broken(&run()), Vec::<String>::new());
    }

    #[test]
    fn each_measured_failure_breaks_exactly_one_promise() {
        type Fault = fn(&mut [Figures]);
        let faults: [(&str, Fault); 10] = [
            ("connection: open connections", |phases| phases[1].connection_spread = Some(4)),
            ("connection: open connections", |phases| phases[1].connection_spread = None),
            ("request: skew", |phases| phases[2].skew = 1.11),
            ("request: the slow pod", |phases| phases[2].slow_share = 0.9),
            ("request: at least", |phases| phases[2].zone_local = 0.98),
            ("request: p99", |phases| phases[2].p99_us = 11),
            ("zone-outage: no errors", |phases| phases[3].errors = 1),
            ("agent-killed: no failed connects", |phases| phases[4].new_connection_errors = 1),
            ("recovered: no errors", |phases| phases[5].errors = 1),
            ("every phase: no responses", |phases| phases[0].source_mismatches = 1),
        ];
        for (expected, fault) in faults {
            let mut phases = run();
            fault(&mut phases);
            let broken = broken(&phases);
            assert!(broken.len() == 1 && broken[0].starts_with(expected), "{expected}: {broken:?}");
        }
    }

    #[test]
    fn nothing_served_is_not_balanced() {
        let mut phases = run();
        phases[2].skew = 0.0;
        assert_eq!(broken(&phases).len(), 1);
    }

    #[test]
    fn the_baseline_may_fail_without_breaking_a_promise() {
        let mut phases = run();
        phases[0].errors = 500;
        phases[0].skew = 3.0;
        assert_eq!(broken(&phases), Vec::<String>::new());
    }
}
