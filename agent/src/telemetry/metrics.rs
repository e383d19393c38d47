// SPDX-License-Identifier: Apache-2.0
//! The facts as Prometheus metrics. One collector reads them when it is scraped.

use std::{
    fmt::{Debug, Error, Formatter},
    sync::Arc,
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::admin::facts::{Facts, stance_word};

/// Metrics of an agent, ready to be encoded.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Metrics read from `facts`.
    #[must_use]
    pub fn new(facts: Arc<dyn Facts>) -> Self {
        let mut registry = Registry::with_prefix("evenkeel");
        registry.register_collector(Box::new(FactsCollector(facts)));
        Self { registry }
    }

    /// OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

struct FactsCollector(Arc<dyn Facts>);

impl Debug for FactsCollector {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("FactsCollector")
    }
}

impl Collector for FactsCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), Error> {
        let facts = &*self.0;
        let mut out = Out(encoder);
        agent(&mut out, facts)?;
        kernel(&mut out, facts)?;
        discovery(&mut out, facts)?;
        request_path(&mut out, facts)
    }
}

fn agent(out: &mut Out<'_>, facts: &dyn Facts) -> Result<(), Error> {
    let (identity, snapshot) = (facts.identity(), facts.snapshot());
    let labels = [("version", identity.version), ("node", &identity.node), ("zone", &identity.zone)];
    out.gauges("build_info", "The agent: version, node and zone", [(labels, 1)])?;
    out.gauge("ready", "1 when the agent is ready", u8::from(facts.readiness().missing().is_empty()))?;
    out.gauge_f("uptime_seconds", "Time since the start", identity.uptime)?;
    out.gauge("store_revision", "Revision of the newest snapshot: what this agent knows", snapshot.revision)?;
    out.gauge("services", "Services that opted in", snapshot.services.len() as u64)?;
    out.gauge("endpoints", "Distinct endpoints", snapshot.endpoint_count() as u64)?;
    let services: Vec<_> = snapshot.services.values().map(|of| (of.spec.name.to_string(), of)).collect();
    let counts = services.iter().map(|(name, of)| {
        let count: usize = of.clusters.iter().map(|cluster| cluster.endpoints.len()).sum();
        ([("service", name.as_str())], count as u64)
    });
    out.gauges("service_endpoints", "Endpoints by Service, summed over its ports", counts)?;
    out.gauge("service_faults", "Faults of Services", snapshot.faults().count() as u64)?;
    let pods = facts.pods();
    let deaf = pods.iter().filter(|pod| pod.fault.is_some()).count();
    out.gauge("pods", "Pods' namespaces found on this node", pods.len() as u64)?;
    out.gauge("pods_faulty", "Pods whose namespace could not be served", deaf as u64)
}

fn kernel(out: &mut Out<'_>, facts: &dyn Facts) -> Result<(), Error> {
    // Asked after the snapshot, so that it is behind only when the maps are.
    let kernel = facts.kernel();
    let revision = kernel.publications.revision;
    out.gauge("map_revision", "Revision of the newest snapshot of which all is in the maps", revision)?;
    let outcomes = kernel.counters.iter().map(|(name, value)| ([("outcome", *name)], *value));
    out.counters("kernel_events", "Connects and sockets by outcome, counted by the programs", outcomes)?;
    let of = |pick: fn(&crate::admin::facts::Pressure) -> u64| {
        kernel.maps.iter().map(move |map| ([("map", map.map)], pick(map)))
    };
    out.gauges("map_entries", "Entries in use by map", of(|map| map.used))?;
    out.gauges("map_capacity", "Entries there are by map", of(|map| map.capacity))?;
    if let Some(age) = kernel.heartbeat_age {
        out.gauge_f("heartbeat_age_seconds", "Time since the heart has beaten", age)?;
    }
    let stance = stance_word(kernel.stance());
    let stances = ["serve", "kernel", "aside"].map(|word| ([("stance", word)], u64::from(word == stance)));
    out.gauges("kernel_stance", "1 for what the age of the heartbeat makes the programs do", stances)?;
    let publications = kernel.publications;
    out.counter("publications", "Snapshots brought into the maps", publications.count)?;
    out.counter_f("publications_seconds", "Time that took, all together", publications.total)?;
    out.gauge_f("publication_last_seconds", "Time that the last one took", publications.last)?;
    out.counter("map_operations_failed", "Operations on maps that failed", publications.failed_operations)
}

fn discovery(out: &mut Out<'_>, facts: &dyn Facts) -> Result<(), Error> {
    let discovery = facts.discovery();
    out.gauge("xds_connected", "1 while a stream to discovery is open", u8::from(discovery.connected))?;
    out.counter("xds_streams_opened", "Streams opened to discovery", discovery.streams_opened)?;
    let failures = discovery.failures.iter().map(|(reason, count)| ([("reason", *reason)], *count));
    out.counters("xds_stream_failures", "Streams to discovery that ended or could not be opened", failures)?;
    out.gauge("xds_resources_rejected", "Resources rejected now", discovery.resources_rejected)?;
    out.gauge_f(
        "xds_last_message_age_seconds",
        "Time since the last message of discovery",
        discovery.last_message,
    )
}

fn request_path(out: &mut Out<'_>, facts: &dyn Facts) -> Result<(), Error> {
    let path = facts.request_path();
    out.gauge("client_connections", "Client connections in the request path", path.client_connections)?;
    out.gauge("upstream_connections", "Connections to endpoints", path.upstream_connections)?;
    out.gauge("requests_in_flight", "Requests in flight", path.in_flight)?;
    out.counter("requests", "Requests begun", path.requests)?;
    out.counter("request_failures", "Requests that failed", path.failures)?;
    let services: Vec<_> =
        facts.service_requests().into_iter().map(|(name, of)| (name.to_string(), of)).collect();
    let requests = services.iter().map(|(name, of)| ([("service", name.as_str())], of.requests));
    out.counters("service_requests", "Requests begun by Service", requests)?;
    let failures = services.iter().map(|(name, of)| ([("service", name.as_str())], of.failures));
    out.counters("service_request_failures", "Requests that failed by Service", failures)
}

/// Short names for what the encoder can do.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> Result<(), Error> {
        let encoder = self.0.encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Into<u64>) -> Result<(), Error> {
        self.metric(name, help, &ConstGauge::new(signed(value.into())))
    }

    fn gauge_f(&mut self, name: &str, help: &str, time: Duration) -> Result<(), Error> {
        self.metric(name, help, &ConstGauge::new(time.as_secs_f64()))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        self.metric(name, help, &ConstCounter::new(value))
    }

    fn counter_f(&mut self, name: &str, help: &str, time: Duration) -> Result<(), Error> {
        self.metric(name, help, &ConstCounter::new(time.as_secs_f64()))
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, u64)>,
    ) -> Result<(), Error> {
        let rows = rows.into_iter().map(|(labels, value)| (labels, ConstGauge::new(signed(value))));
        self.family(name, help, rows)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, u64)>,
    ) -> Result<(), Error> {
        self.family(name, help, rows.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value))))
    }

    fn family<L: EncodeLabelSet, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, M)>,
    ) -> Result<(), Error> {
        let mut rows = rows.peekable();
        let Some((_, first)) = rows.peek() else { return Ok(()) };
        let mut encoder = self.0.encode_descriptor(name, help, None, first.metric_type())?;
        rows.try_for_each(|(labels, metric)| metric.encode(encoder.encode_family(&labels)?))
    }
}

/// Gauges are signed in this library.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
