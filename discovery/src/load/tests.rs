// SPDX-License-Identifier: Apache-2.0
//! Load reports: what is kept, what is left out, and that memory is bounded.

use std::collections::{BTreeMap, HashSet};

use envoy_types::pb::envoy::config::core::v3::Locality;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterStats, UnnamedEndpointLoadMetricStats, UpstreamLocalityStats,
};
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
use envoy_types::pb::google::protobuf::Duration as ProtoDuration;
use proptest::prelude::*;

use super::*;

const WEB: &str = "web.demo.svc.cluster.local:80";

fn locality(zone: &str, issued: u64) -> UpstreamLocalityStats {
    UpstreamLocalityStats {
        locality: Some(Locality { zone: zone.into(), ..Default::default() }),
        total_issued_requests: issued,
        total_successful_requests: issued,
        ..Default::default()
    }
}

fn cluster(name: &str, localities: Vec<UpstreamLocalityStats>) -> ClusterStats {
    ClusterStats { cluster_name: name.into(), upstream_locality_stats: localities, ..Default::default() }
}

fn request(cluster_stats: Vec<ClusterStats>) -> LoadStatsRequest {
    LoadStatsRequest { node: None, cluster_stats }
}

fn read_all(cluster_stats: Vec<ClusterStats>) -> Report {
    read(&request(cluster_stats), |_| true)
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn only(book: &Book) -> Flow {
    let flows: Vec<Flow> = book.flows().collect();
    assert_eq!(flows.len(), 1, "{flows:?}");
    flows[0].clone()
}

#[test]
fn a_report_counts_in_its_interval_and_shows_when_that_is_complete() {
    let mut book = Book::default();
    book.add(&read_all(vec![cluster(WEB, vec![locality("b", 30)])]), "a", at(12));
    book.add(&read_all(vec![cluster(WEB, vec![locality("b", 12)])]), "a", at(19));
    assert!(only(&book).recent.is_zero(), "the interval is not over");
    book.advance(at(20));
    let flow = only(&book);
    assert_eq!((&*flow.from, &*flow.to, flow.recent.issued), ("a", "b", 42));
    assert_eq!(flow.history, [0, 0, 0, 0, 0, 42]);
    book.add(&read_all(vec![cluster(WEB, vec![locality("b", 5)])]), "a", at(45));
    book.advance(at(52));
    assert_eq!(only(&book).history, [0, 0, 42, 0, 0, 5]);
    assert_eq!(only(&book).total.issued, 47);
}

#[test]
fn what_nothing_is_heard_of_is_forgotten_with_its_names() {
    let mut book = Book::default();
    book.add(&read_all(vec![cluster(WEB, vec![locality("b", 1)])]), "a", at(5));
    book.advance(at(5 + 10 * KEPT as u64));
    assert_eq!(only(&book).recent.issued, 1);
    book.advance(at(15 + 10 * KEPT as u64));
    assert_eq!(book.flows().count(), 0);
    // Room for as many zones as there ever was.
    for zone in 0..MAX_ZONES - 1 {
        book.add(&read_all(vec![cluster(WEB, vec![locality(&format!("z{zone}"), 1)])]), "x", at(100));
    }
    assert_eq!(book.totals().ignored, BTreeMap::new());
    assert_eq!(book.totals().counts.issued, MAX_ZONES as u64, "sums outlive what they are of");
}

#[test]
fn requests_in_progress_are_weighed_by_the_time_that_the_report_covers() {
    let mut stats = cluster(WEB, vec![locality("b", 0)]);
    stats.upstream_locality_stats[0].total_requests_in_progress = 3;
    stats.load_report_interval = Some(ProtoDuration { seconds: 2, nanos: 500_000_000 });
    assert_eq!(read_all(vec![stats]).entries[0].counts.busy, 7.5);
}

#[test]
fn a_cluster_that_is_not_served_is_left_out_and_envoys_own_name_does_not_matter() {
    let mut ours = cluster("outbound|80||web", vec![locality("b", 1)]);
    ours.cluster_service_name = WEB.into();
    let others = ["xds_cluster", "gone.demo.svc.cluster.local:80", ""].map(|n| cluster(n, vec![]));
    let report = read(&request([vec![ours], others.to_vec()].concat()), |name| name == WEB);
    assert_eq!(report.entries.iter().map(|e| &*e.cluster).collect::<Vec<_>>(), [WEB]);
    assert_eq!(report.ignored, BTreeMap::from([(Ignored::UnknownCluster, 3)]));
}

#[test]
fn drops_are_kept_though_no_endpoint_was_picked() {
    let stats = ClusterStats { total_dropped_requests: 9, ..cluster(WEB, vec![]) };
    let report = read_all(vec![stats]);
    assert_eq!((&*report.entries[0].zone, report.entries[0].counts.dropped), ("", 9));
}

#[test]
fn nonsense_is_counted_and_the_rest_of_the_report_is_kept() {
    let told = |value| UnnamedEndpointLoadMetricStats {
        num_requests_finished_with_metric: 2,
        total_metric_value: value,
    };
    let mut stats = cluster(WEB, vec![locality("good", 7)]);
    stats.upstream_locality_stats.push(locality("large", u64::MAX));
    for value in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        let utilization = Some(told(value));
        stats
            .upstream_locality_stats
            .push(UpstreamLocalityStats { cpu_utilization: utilization, ..locality("odd", 1) });
    }
    stats.upstream_locality_stats.push(locality(&"long".repeat(100), 1));
    stats.load_report_interval = Some(ProtoDuration { seconds: -4, nanos: 0 });
    let report = read_all(vec![stats]);
    assert_eq!(report.ignored, BTreeMap::from([(Ignored::Nonsense, 7)]));
    assert_eq!(report.entries.iter().map(|entry| entry.counts.issued).collect::<Vec<_>>(), [7, 1, 1, 1, 1]);
    assert!(report.entries.iter().all(|entry| entry.counts.mean_utilization().is_none()));
}

#[test]
fn utilization_is_the_applications_own_where_it_is_told() {
    let told = |count, value| {
        Some(UnnamedEndpointLoadMetricStats {
            num_requests_finished_with_metric: count,
            total_metric_value: value,
        })
    };
    let both = UpstreamLocalityStats {
        application_utilization: told(4, 2.0),
        cpu_utilization: told(4, 4.0),
        ..locality("b", 4)
    };
    let report = read_all(vec![cluster(WEB, vec![both])]);
    assert_eq!(report.entries[0].counts.mean_utilization(), Some(0.5));
}

#[test]
fn a_client_that_invents_clusters_localities_and_zones_costs_bounded_memory() {
    let localities = |n: usize| (0..n).map(|i| locality(&format!("z{i}"), 1)).collect();
    let report = read_all(vec![cluster(WEB, localities(MAX_LOCALITIES + 5))]);
    assert_eq!((report.entries.len(), report.ignored[&Ignored::TooMany]), (MAX_LOCALITIES, 5));
    let many = (0..MAX_CLUSTERS + 3).map(|i| cluster(&format!("s{i}.demo.svc.cluster.local:80"), vec![]));
    assert_eq!(read_all(many.collect()).ignored[&Ignored::TooMany], 3);

    let mut book = Book::default();
    for client in 0..1_000 {
        book.add(&report, &format!("claimed-{client}"), at(1));
    }
    let zones: HashSet<_> = book.flows().flat_map(|flow| [flow.from, flow.to]).collect();
    assert!(zones.len() <= MAX_ZONES, "{}", zones.len());
    assert!(book.totals().ignored[&Ignored::Full] > 0);
    for service in 0..3_000 {
        let name = format!("s{service}.demo.svc.cluster.local:80");
        book.add(&read_all(vec![cluster(&name, localities(MAX_LOCALITIES))]), "claimed-0", at(1));
    }
    assert_eq!(book.flows().count(), MAX_CELLS);
    // What is known goes on being counted.
    let before = book.totals().counts.issued;
    book.add(&report, "claimed-0", at(2));
    assert_eq!(book.totals().counts.issued, before + MAX_LOCALITIES as u64);
}

proptest! {
    #[test]
    fn sums_are_those_of_what_was_reported_whenever_it_came(
        reports in prop::collection::vec((0u64..40, 0u64..1000), 0..60),
    ) {
        let (mut book, mut time, mut sums) = (Book::default(), 0, BTreeMap::<u64, u64>::new());
        for (pause, issued) in reports {
            time += pause;
            book.add(&read_all(vec![cluster(WEB, vec![locality("b", issued)])]), "a", at(time));
            *sums.entry(time / 10).or_default() += issued;
        }
        let now = time / 10;
        let expected: Vec<u64> = (1..=KEPT as u64)
            .rev()
            .map(|age| now.checked_sub(age).and_then(|i| sums.get(&i)).copied().unwrap_or_default())
            .collect();
        let total: u64 = sums.values().sum();
        prop_assert_eq!(book.totals().counts.issued, total);
        for flow in book.flows() {
            prop_assert_eq!(&flow.history, &expected);
        }
        if book.flows().count() == 0 {
            prop_assert_eq!(expected.iter().sum::<u64>(), 0);
        }
    }
}
