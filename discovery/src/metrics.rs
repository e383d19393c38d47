// SPDX-License-Identifier: Apache-2.0
//! What the service counts about itself.
//!
//! Registered once; the parts get label-bound handles. What must always be true: labels have few values that we choose,
//! never a client's or a user's words, except for names of Services and zones, of which there is a bound (`watched`).

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry as MetricRegistry, Unit};

use crate::fault::{FaultCounts, FaultKind};
use crate::link::Link;
use crate::registry::Registry;
use crate::serve::Loads;

mod transport;
mod types;
mod watched;

pub use self::transport::TransportMetrics;
pub use self::types::{PerType, TypeCounters};
use self::watched::Watched;

/// All metrics and the registry that prints them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<MetricRegistry>,
    /// Objects in the index.
    objects: Family<KindLabel, Gauge>,
    faults: Family<KindLabel, Gauge>,
    /// Whether the source is there.
    pub link: Link,
    /// The revision that is served.
    pub revision: Gauge,
    /// From a batch of changes to the snapshot that holds them, in seconds.
    pub publish_seconds: Histogram,
    /// ADS streams open now.
    pub streams: Gauge,
    /// What ADS streams are asked and tell.
    pub types: PerType,
    /// Connections, TLS and tokens.
    pub transport: TransportMetrics,
}

/// A label with a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// The kind.
    pub kind: &'static str,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything, for a service without clients.
    pub fn new() -> Self {
        Self::watching(Registry::default(), Loads::default())
    }

    /// Registers everything; who is connected and what they report is read when metrics are.
    pub fn watching(clients: Registry, loads: Loads) -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            objects: Family::default(),
            faults: Family::default(),
            link: Link::default(),
            revision: Gauge::default(),
            // 0.1 ms to 3.3 s: the target is that a change is published within milliseconds.
            publish_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            streams: Gauge::default(),
            types: PerType::default(),
            transport: TransportMetrics::default(),
        };
        let mut registry = MetricRegistry::with_prefix("evenkeel_discovery");
        registry.register_collector(Box::new(Watched { registry: clients, loads }));
        registry.register("objects", "Objects in the index", metrics.objects.clone());
        registry.register("faults", "Faults in the input that stand now", metrics.faults.clone());
        registry.register("revision", "Revision of the snapshot that is served", metrics.revision.clone());
        registry.register_with_unit(
            "publish",
            "From a batch of changes to the published snapshot",
            Unit::Seconds,
            metrics.publish_seconds.clone(),
        );
        registry.register("streams", "ADS streams open now", metrics.streams.clone());
        metrics.types = PerType::register(&mut registry);
        metrics.transport.register(&mut registry);
        registry.register_collector(Box::new(metrics.link.clone()));
        metrics.registry = Arc::new(registry);
        metrics.set_faults(FaultCounts::default());
        metrics
    }

    /// How many faults of each kind stand ([`FaultBook::counts`](crate::fault::FaultBook::counts)).
    pub fn set_faults(&self, counts: FaultCounts) {
        for (kind, count) in FaultKind::ALL.into_iter().zip(counts) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.faults.get_or_create(&KindLabel { kind: kind.as_str() }).set(count);
        }
    }

    /// How many objects of each kind there are.
    pub fn set_objects(&self, counts: impl IntoIterator<Item = (&'static str, usize)>) {
        for (kind, count) in counts {
            self.objects.get_or_create(&KindLabel { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Everything as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a String cannot fail; a collector that fails is a programming error worth seeing.
            Err(error) => format!("# error: {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, FaultBook, Origin};

    #[test]
    fn faults_are_counted_by_kind_and_return_to_zero() {
        let (metrics, book) = (Metrics::new(), FaultBook::default());
        book.replace(Origin::File("a".into()), vec![Fault::new(FaultKind::Syntax, "x")]);
        metrics.set_faults(book.counts());
        assert!(metrics.render().contains("evenkeel_discovery_faults{kind=\"syntax\"} 1"));
        book.replace(Origin::File("a".into()), vec![]);
        metrics.set_faults(book.counts());
        assert!(metrics.render().contains("evenkeel_discovery_faults{kind=\"syntax\"} 0"));
    }
}
