// SPDX-License-Identifier: Apache-2.0
//! One `LoadStatsRequest` into checked entries.
//!
//! What must always be true: every number that leaves here is finite, not negative, and small enough that a lifetime of
//! reports cannot overflow; every part that is left out is counted once, by reason.

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Locality;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
use evenkeel_xds::ClusterName;

use super::{Counts, INTERVAL, MAX_CLUSTERS, MAX_LOCALITIES};

/// More requests than any client makes between two reports. A larger number is not a count.
const MAX_COUNT: u64 = 1 << 40;
/// An endpoint cannot be this busy: 1.0 is full, and some tell per cent.
const MAX_UTILIZATION: f64 = 1_000.0;
/// The longest time that a report may claim to cover.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// Longest name of a zone. Kubernetes allows 63 in a label's value; regions of fallback clusters are put in front.
const MAX_ZONE_BYTES: usize = 128;

/// Why a part of a report is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ignored {
    /// It is about a cluster that is not served here.
    UnknownCluster,
    /// A number that cannot be: NaN, negative, or too large.
    Nonsense,
    /// More clusters or localities than a report may have.
    TooMany,
    /// There is no room for another combination of port and zones.
    Full,
}

impl Ignored {
    /// All reasons, so that a metric can say zero.
    pub const ALL: [Self; 4] = [Self::UnknownCluster, Self::Nonsense, Self::TooMany, Self::Full];

    /// The metric label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCluster => "unknown_cluster",
            Self::Nonsense => "nonsense",
            Self::TooMany => "too_many",
            Self::Full => "full",
        }
    }
}

/// Traffic of one cluster to one zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The cluster's name, as served.
    pub cluster: String,
    /// The endpoints' zone, `REGION/ZONE` where there is a region; empty for what never got as far as an endpoint.
    pub zone: String,
    /// What was counted.
    pub counts: Counts,
}

/// A report that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What is usable of it.
    pub entries: Vec<Entry>,
    /// What is not.
    pub ignored: BTreeMap<Ignored, u64>,
}

/// Reads a report. `served` tells whether a cluster of this name is served.
#[must_use]
pub fn read(request: &LoadStatsRequest, served: impl Fn(&str) -> bool) -> Report {
    let mut report = Report::default();
    report.leave_out(Ignored::TooMany, request.cluster_stats.len().saturating_sub(MAX_CLUSTERS));
    for stats in request.cluster_stats.iter().take(MAX_CLUSTERS) {
        // Envoy may call the cluster what it likes; what it asks endpoints by is ours.
        let name = [&stats.cluster_service_name, &stats.cluster_name]
            .into_iter()
            .find(|name| name.parse::<ClusterName>().is_ok() && served(name));
        match name {
            Some(name) => report.cluster(name, stats),
            None => report.leave_out(Ignored::UnknownCluster, 1),
        }
    }
    report
}

/// The name under which a locality's traffic is kept.
pub(super) fn zone_name(locality: &Locality) -> Option<String> {
    let Locality { region, zone, .. } = locality;
    let name = if region.is_empty() { zone.clone() } else { format!("{region}/{zone}") };
    (name.len() <= MAX_ZONE_BYTES && !name.contains(char::is_control)).then_some(name)
}

// === impl Report ===

impl Report {
    fn leave_out(&mut self, why: Ignored, parts: usize) {
        if parts > 0 {
            *self.ignored.entry(why).or_default() += parts as u64;
        }
    }

    fn cluster(&mut self, name: &str, stats: &ClusterStats) {
        let covered = match covered(stats) {
            Some(covered) => covered,
            None => {
                self.leave_out(Ignored::Nonsense, 1);
                INTERVAL
            }
        };
        let localities = &stats.upstream_locality_stats;
        self.leave_out(Ignored::TooMany, localities.len().saturating_sub(MAX_LOCALITIES));
        for stats in localities.iter().take(MAX_LOCALITIES) {
            let zone = zone_name(&stats.locality.clone().unwrap_or_default());
            match zone.zip(self.counts(stats, covered)) {
                Some((zone, counts)) => self.push(name, zone, counts),
                None => self.leave_out(Ignored::Nonsense, 1),
            }
        }
        // The total counts what the categories of `dropped_requests` do.
        match stats.total_dropped_requests {
            dropped @ 0..=MAX_COUNT => {
                self.push(name, String::new(), Counts { dropped, ..Counts::default() });
            }
            _ => self.leave_out(Ignored::Nonsense, 1),
        }
    }

    fn push(&mut self, cluster: &str, zone: String, counts: Counts) {
        if !counts.is_zero() {
            self.entries.push(Entry { cluster: cluster.to_owned(), zone, counts });
        }
    }

    /// `None`: a number that cannot be.
    fn counts(&mut self, stats: &UpstreamLocalityStats, covered: Duration) -> Option<Counts> {
        let [issued, succeeded, failed, in_progress] = [
            stats.total_issued_requests,
            stats.total_successful_requests,
            stats.total_error_requests,
            stats.total_requests_in_progress,
        ];
        if [issued, succeeded, failed, in_progress].iter().any(|count| *count > MAX_COUNT) {
            return None;
        }
        let (told, utilization) = self.utilization(stats);
        let busy = in_progress as f64 * covered.as_secs_f64();
        Some(Counts { issued, succeeded, failed, dropped: 0, busy, told, utilization })
    }

    /// How many answers told their endpoint's utilization, and the sum. Of the application where it is told, else of the CPU
    /// (gRFC A85).
    fn utilization(&mut self, stats: &UpstreamLocalityStats) -> (u64, f64) {
        let told = [&stats.application_utilization, &stats.cpu_utilization].into_iter().flatten();
        let Some(metric) = told.into_iter().find(|metric| metric.num_requests_finished_with_metric > 0)
        else {
            return (0, 0.0);
        };
        let (count, sum) = (metric.num_requests_finished_with_metric, metric.total_metric_value);
        // NaN is in no range.
        if count <= MAX_COUNT && (0.0..=MAX_UTILIZATION * count as f64).contains(&sum) {
            return (count, sum);
        }
        self.leave_out(Ignored::Nonsense, 1);
        (0, 0.0)
    }
}

/// The time that a cluster's figures are of; a client that does not say is taken to follow what it was asked. `None`: it
/// says nonsense.
fn covered(stats: &ClusterStats) -> Option<Duration> {
    let Some(interval) = stats.load_report_interval else { return Some(INTERVAL) };
    let seconds = u64::try_from(interval.seconds).ok()?;
    let nanos = u32::try_from(interval.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    let covered = Duration::new(seconds, nanos);
    (covered <= MAX_INTERVAL).then_some(covered)
}
