// SPDX-License-Identifier: Apache-2.0
//! Metrics that are read from what is there when they are scraped: open streams, and the load that clients reported.
//!
//! What must always be true: labels are names of Services that are served and of zones, and there are at most
//! [`MAX_SERIES`] of them; what does not fit is counted.

use std::collections::BTreeMap;
use std::fmt::Error;

use evenkeel_xds::ClusterName;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::load::{Counts, Ignored, Reading};
use crate::registry::Registry;
use crate::serve::Loads;

/// Combinations of Service, client zone and endpoint zone that are exported, the busiest first.
const MAX_SERIES: usize = 5_000;

/// Reads them.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) registry: Registry,
    pub(super) loads: Loads,
}

/// What is exported of the load.
struct Exported {
    flows: Vec<((String, String, String), Counts)>,
    left_out: usize,
    reports: u64,
    ignored: Vec<(&'static str, u64)>,
}

impl Collector for Watched {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), Error> {
        let mut out = Out(encoder);
        let clients = self.registry.count().into_iter().map(|((kind, variant), count)| {
            let labels = [("kind", kind.as_str()), ("variant", variant)];
            (labels, ConstGauge::new(count as u64))
        });
        out.all("clients", "Clients with an open ADS stream", clients)?;
        let behind = self.registry.clients().iter().filter(|c| c.progress.behind_since.is_some()).count();
        out.one("clients_not_in_sync", "Clients that have not acknowledged everything", behind as u64)?;
        out.one("load_reporters", "Streams that report load", self.loads.reporters())?;
        let Exported { flows, left_out, reports, ignored } = exported(&self.loads.reading());
        out.one("load_series_left_out", "Flows that are not among the exported", left_out as u64)?;
        out.one_counter("load_reports", "Load reports read", reports)?;
        let ignored = ignored.into_iter().map(|(why, n)| ([("reason", why)], ConstCounter::new(n)));
        out.all("load_ignored", "Parts of load reports that were left out", ignored)?;
        let requests = flows.iter().flat_map(|((service, from, to), counts)| {
            let outcomes = [
                ("issued", counts.issued),
                ("succeeded", counts.succeeded),
                ("failed", counts.failed),
                ("dropped", counts.dropped),
            ];
            outcomes.map(|(outcome, count)| {
                let labels = [
                    ("service", service.as_str()),
                    ("from", from.as_str()),
                    ("to", to.as_str()),
                    ("outcome", outcome),
                ];
                (labels, ConstCounter::new(count))
            })
        });
        out.all("load_requests", "Requests that clients reported, by zones and outcome", requests)
    }
}

/// Ports of a Service are added up: a metric is for trends, the admin API for details.
fn exported(reading: &Reading) -> Exported {
    let mut sums: BTreeMap<(String, String, String), Counts> = BTreeMap::new();
    for flow in &reading.flows {
        let Ok(ClusterName { namespace, service, .. }) = flow.cluster.parse() else { continue };
        let key = (format!("{namespace}/{service}"), flow.from.to_string(), flow.to.to_string());
        sums.entry(key).or_default().add(&flow.total);
    }
    let mut flows: Vec<_> = sums.into_iter().collect();
    let left_out = flows.len().saturating_sub(MAX_SERIES);
    if left_out > 0 {
        flows.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.issued));
        flows.truncate(MAX_SERIES);
    }
    let totals = &reading.totals;
    let ignored = Ignored::ALL.iter().map(|why| (why.as_str(), totals.ignored.get(why).copied()));
    Exported {
        flows,
        left_out,
        reports: totals.reports,
        ignored: ignored.map(|(why, count)| (why, count.unwrap_or_default())).collect(),
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn one(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let metric = ConstGauge::new(value);
        let encoder = self.0.encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn one_counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let metric = ConstCounter::new(value);
        let encoder = self.0.encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn all<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, M)>,
    ) -> Result<(), Error> {
        let mut series = series.into_iter().peekable();
        let Some((_, first)) = series.peek() else { return Ok(()) };
        let mut encoder = self.0.encode_descriptor(name, help, None, first.metric_type())?;
        for (labels, metric) in series {
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
