// SPDX-License-Identifier: Apache-2.0
//! From the clients' reports of one phase to its figures. Pure.
//!
//! What must always be true: every figure comes from what clients and servers counted themselves; what is left out of
//! a figure is said beside it. `skew` is the busiest endpoint's share over the mean share among the endpoints meant to
//! serve; in phases balanced per request the slow pod is left out of it and shown as `slow_share`.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::peer::messages::{Failure, NewConnectionError, Report};

/// The figures of a phase, as `--json` prints them. Fields that a phase does not measure are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    /// The phase.
    pub(super) name: String,
    /// Requests due on the long-lived connections.
    pub(super) requests: u64,
    /// Failed requests that the phase does not account for elsewhere.
    pub(super) errors: u64,
    /// Connections that could not be opened and that the phase does not account for elsewhere.
    pub(super) new_connection_errors: u64,
    /// Busiest endpoint over the mean of those meant to serve.
    pub(super) skew: f64,
    /// Fraction of answered requests that were served in the client's zone.
    pub(super) zone_local: f64,
    /// Median latency from the due time, microseconds.
    pub(super) p50_us: u64,
    /// 99th percentile of it.
    pub(super) p99_us: u64,
    /// Seconds measured.
    pub(super) seconds: f64,
    /// Requests at the slow pod over the mean of the others in the phase's endpoints.
    pub(super) slow_share: f64,
    /// Responses in which the server saw another address than the client pod's.
    pub(super) source_mismatches: u64,
    /// Fraction of the machine's CPU time that was in use, by anything.
    pub(super) cpu_busy: f64,
    /// Largest difference of open connections between two endpoints of a zone, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection_spread: Option<u64>,
    /// Failed requests that were due before discovery had published the outage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errors_before_publication: Option<u64>,
    /// From the end of the zone's pods to the change being in force on every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) publication_ms: Option<f64>,
    /// The two faults of the agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agents: Option<AgentFaults>,
}

/// What an agent killed and another one stopped did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct AgentFaults {
    /// Short-lived connections tried in the phase.
    pub(super) short_lived_connections: u64,
    /// Requests lost on the killed agent's node.
    pub(super) lost_with_killed_agent: u64,
    /// Connections that had been made to the killed agent and ended with it before HTTP/2 was spoken.
    pub(super) connections_cut_by_kill: u64,
    /// Requests lost on the stopped agent's node.
    pub(super) lost_with_hung_agent: u64,
    /// Of these, how many were due after the heartbeat was stale.
    pub(super) lost_with_hung_agent_after_stale: u64,
    /// Connections that hung on the stopped agent, begun before its heartbeat was stale.
    pub(super) new_connection_errors_before_stale: u64,
}

/// The reports of all clients of a phase, added up.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    /// Requests due.
    pub(super) requests: u64,
    /// Answered, by pod.
    pub(super) pods: BTreeMap<String, u64>,
    /// Failures with the client that saw them.
    pub(super) failures: Vec<(String, Failure)>,
    /// Failures beyond those listed.
    pub(super) failures_unlisted: u64,
    /// Connections not opened, with the client that tried.
    pub(super) new_connection_errors: Vec<(String, NewConnectionError)>,
    /// Those beyond the listed ones.
    pub(super) new_connection_errors_unlisted: u64,
    /// Short-lived connections tried.
    pub(super) churned: u64,
    /// Answered with status OK.
    pub(super) answered: u64,
    /// Of these, in the client's zone.
    pub(super) zone_local: u64,
    /// Answered, but to another address.
    pub(super) source_mismatches: u64,
    /// Of all clients.
    pub(super) latencies: Latencies,
    /// The longest client's interval.
    pub(super) longest_ms: u64,
}

impl Sum {
    /// Adds up the reports of one interval.
    pub(super) fn of(reports: &[Report]) -> Self {
        let mut sum = Self::default();
        for report in reports {
            sum.add(report);
        }
        sum
    }

    /// Adds another client.
    fn add(&mut self, report: &Report) {
        self.requests += report.requests;
        self.answered += report.succeeded;
        self.churned += report.churned;
        self.zone_local += report.zones.get(&report.zone).copied().unwrap_or_default();
        self.source_mismatches += report.source_mismatches;
        self.longest_ms = self.longest_ms.max(report.interval_ms);
        for (pod, count) in &report.pods {
            *self.pods.entry(pod.clone()).or_default() += count;
        }
        self.latencies.add(&report.latencies);
        let client = || report.name.clone();
        self.failures.extend(report.failures.iter().map(|failure| (client(), failure.clone())));
        self.failures_unlisted += report.failures_total - report.failures.len() as u64;
        let errors = &report.new_connection_errors;
        self.new_connection_errors.extend(errors.iter().map(|error| (client(), error.clone())));
        self.new_connection_errors_unlisted += report.new_connection_errors_total - errors.len() as u64;
    }

    /// Adds another interval of the same phase.
    pub(super) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.churned += other.churned;
        self.zone_local += other.zone_local;
        self.source_mismatches += other.source_mismatches;
        self.longest_ms += other.longest_ms;
        for (pod, count) in other.pods {
            *self.pods.entry(pod).or_default() += count;
        }
        self.latencies.merge(&other.latencies);
        self.failures.extend(other.failures);
        self.failures_unlisted += other.failures_unlisted;
        self.new_connection_errors.extend(other.new_connection_errors);
        self.new_connection_errors_unlisted += other.new_connection_errors_unlisted;
    }

    /// The figures that every phase has. `serving` are the endpoints meant to serve, `slow` the slow one; per request
    /// the slow one is left out of the skew.
    pub(super) fn figures(&self, name: &str, serving: &[String], slow: &str, per_request: bool) -> Figures {
        let others: Vec<&String> = serving.iter().filter(|pod| *pod != slow).collect();
        let count = |pod: &String| self.pods.get(pod).copied().unwrap_or_default();
        let other_counts: Vec<u64> = others.iter().map(|pod| count(pod)).collect();
        let all_counts: Vec<u64> = serving.iter().map(count).collect();
        Figures {
            name: name.to_owned(),
            requests: self.requests,
            errors: self.failures.len() as u64 + self.failures_unlisted,
            new_connection_errors: self.new_connection_errors.len() as u64
                + self.new_connection_errors_unlisted,
            skew: skew(if per_request { &other_counts } else { &all_counts }),
            zone_local: ratio(self.zone_local, self.answered),
            p50_us: self.latencies.quantile(0.5),
            p99_us: self.latencies.quantile(0.99),
            seconds: self.longest_ms as f64 / 1e3,
            slow_share: count(&slow.to_owned()) as f64 / mean(&other_counts).max(f64::MIN_POSITIVE),
            source_mismatches: self.source_mismatches,
            ..Figures::default()
        }
    }
}

/// Latencies of many clients as one distribution.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // The clients' bounds, so that merging loses nothing.
        Self(Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are valid"))
    }
}

impl Latencies {
    /// Adds (microseconds, how many) pairs.
    pub(super) fn add(&mut self, recorded: &[(u64, u64)]) {
        for (micros, count) in recorded {
            self.0.saturating_record_n(*micros, *count);
        }
    }

    fn merge(&mut self, other: &Self) {
        for value in other.0.iter_recorded() {
            self.0.saturating_record_n(value.value_iterated_to(), value.count_at_value());
        }
    }

    /// Microseconds at a quantile; zero when nothing was recorded.
    pub(super) fn quantile(&self, quantile: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_quantile(quantile) }
    }
}

/// Busiest over mean; zero when nothing was served.
pub(super) fn skew(counts: &[u64]) -> f64 {
    let mean = mean(counts);
    let busiest = counts.iter().max().copied().unwrap_or_default() as f64;
    if mean > 0.0 { busiest / mean } else { 0.0 }
}

/// The largest difference between two endpoints of one zone, over all zones.
pub(super) fn spread_within_zones<'a>(endpoints: impl IntoIterator<Item = (&'a str, u64)>) -> u64 {
    let mut zones: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (zone, count) in endpoints {
        let range = zones.entry(zone).or_insert((count, count));
        *range = (range.0.min(count), range.1.max(count));
    }
    zones.values().map(|(least, most)| most - least).max().unwrap_or_default()
}

fn mean(counts: &[u64]) -> f64 {
    if counts.is_empty() { 0.0 } else { counts.iter().sum::<u64>() as f64 / counts.len() as f64 }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::messages::FailureKind;

    fn report(zone: &str, pods: &[(&str, &str, u64)], latencies: &[(u64, u64)]) -> Report {
        let mut report = Report { zone: zone.into(), latencies: latencies.to_vec(), ..Report::default() };
        for (pod, pod_zone, count) in pods {
            *report.pods.entry((*pod).into()).or_default() += count;
            *report.zones.entry((*pod_zone).into()).or_default() += count;
            report.requests += count;
            report.succeeded += count;
        }
        report
    }

    #[test]
    fn skew_counts_endpoints_that_got_nothing() {
        assert_eq!(skew(&[10, 10, 10]), 1.0);
        assert_eq!(skew(&[30, 0, 0]), 3.0);
        assert_eq!(skew(&[]), 0.0);
        assert_eq!(skew(&[0, 0]), 0.0);
    }

    #[test]
    fn the_slow_pod_is_left_out_of_the_skew_only_per_request() {
        let sum = Sum::of(&[report("z", &[("a", "z", 50), ("b", "z", 100), ("c", "z", 100)], &[])]);
        let serving = ["a", "b", "c"].map(String::from);
        let per_request = sum.figures("request", &serving, "a", true);
        assert_eq!((per_request.skew, per_request.slow_share), (1.0, 0.5));
        let per_connection = sum.figures("connection", &serving, "a", false);
        assert!((per_connection.skew - 1.2).abs() < 1e-9, "{}", per_connection.skew);
    }

    #[test]
    fn zone_local_is_a_fraction_of_all_answers_weighted_by_requests() {
        let here = report("a", &[("p", "a", 300)], &[]);
        let there = report("b", &[("p", "a", 100)], &[]);
        assert_eq!(Sum::of(&[here, there]).figures("x", &["p".into()], "", true).zone_local, 0.75);
    }

    #[test]
    fn quantiles_are_of_the_merged_distribution_and_not_of_the_clients() {
        let fast = report("z", &[("p", "z", 990)], &[(1_000, 990)]);
        let slow = report("z", &[("p", "z", 10)], &[(500_000, 10)]);
        let figures = Sum::of(&[fast.clone(), slow.clone()]).figures("x", &["p".into()], "", true);
        assert_eq!(figures.p50_us, 1_000);
        assert_eq!(figures.p99_us, 1_000);
        let figures = Sum::of(&[fast, slow.clone(), slow]).figures("x", &["p".into()], "", true);
        assert!((499_000..=501_000).contains(&figures.p99_us), "{}", figures.p99_us);
    }

    #[test]
    fn failures_that_are_not_listed_still_count() {
        let mut cut = report("z", &[("p", "z", 1)], &[]);
        cut.failures = vec![Failure { at_us: 1, kind: FailureKind::Reset, churn: false }];
        cut.failures_total = 5;
        cut.new_connection_errors_total = 2;
        let figures = Sum::of(&[cut]).figures("x", &["p".into()], "", true);
        assert_eq!((figures.errors, figures.new_connection_errors), (5, 2));
    }

    #[test]
    fn the_spread_is_within_a_zone_and_not_between_zones() {
        assert_eq!(spread_within_zones([("a", 2), ("a", 3), ("b", 9), ("b", 11)]), 2);
        assert_eq!(spread_within_zones([]), 0);
    }
}
