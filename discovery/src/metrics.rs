// SPDX-License-Identifier: Apache-2.0
//! What the service counts about itself.
//!
//! Registered once; the parts get label-bound handles. What must always be true: labels have few values that we choose,
//! never a client's or a user's words, except for names of Services and zones, of which there is a bound (`watched`).

use std::sync::Arc;

use evenkeel_xds::type_url;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry as MetricRegistry, Unit};

use crate::fault::{FaultBook, FaultKind};
use crate::link::Link;
use crate::registry::Registry;
use crate::serve::Loads;

mod transport;
mod watched;

pub use self::transport::TransportMetrics;
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
    types: Arc<[TypeCounters]>,
    /// Connections, TLS and tokens.
    pub transport: TransportMetrics,
}

/// Types by URL and what they are called here. The last stands for all others.
const TYPES: [(&str, &str); 6] = [
    (type_url::SERVICE, "service"),
    (type_url::CLUSTER, "cluster"),
    (type_url::CLUSTER_LOAD_ASSIGNMENT, "endpoints"),
    (type_url::LISTENER, "listener"),
    (type_url::ROUTE_CONFIGURATION, "route"),
    ("", "other"),
];

/// A label with a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// The kind.
    pub kind: &'static str,
}

/// What is counted of ADS streams for one type of resources. Found once per type: streams count with every message.
#[derive(Debug)]
pub struct TypeCounters {
    type_url: &'static str,
    /// Short name of the type; `other` for types that are not served.
    pub resource: &'static str,
    /// Requests read.
    pub requests: Counter,
    /// Responses written.
    pub responses: Counter,
    /// Resources in those responses.
    pub resources: Counter,
    /// Removals in those responses.
    pub removals: Counter,
    /// Requests that rejected something.
    pub rejections: Counter,
}

/// A label with a resource type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    resource: &'static str,
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
            types: Arc::default(),
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
        metrics.types = TypeCounters::register(&mut registry);
        metrics.transport.register(&mut registry);
        registry.register_collector(Box::new(metrics.link.clone()));
        metrics.registry = Arc::new(registry);
        metrics.set_faults(&FaultBook::default());
        metrics
    }

    /// How many faults of each kind stand.
    pub fn set_faults(&self, book: &FaultBook) {
        for kind in FaultKind::ALL {
            let count = i64::try_from(book.count(kind)).unwrap_or(i64::MAX);
            self.faults.get_or_create(&KindLabel { kind: kind.as_str() }).set(count);
        }
    }

    /// How many objects of each kind there are.
    pub fn set_objects(&self, counts: impl IntoIterator<Item = (&'static str, usize)>) {
        for (kind, count) in counts {
            self.objects.get_or_create(&KindLabel { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// What is counted of a type's messages.
    ///
    /// # Panics
    /// Never: there is one for types that are not known.
    pub fn of_type(&self, type_url: &str) -> &TypeCounters {
        let known = self.types.iter().find(|counters| counters.type_url == type_url);
        known.unwrap_or_else(|| &self.types[TYPES.len() - 1])
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

// === impl TypeCounters ===

impl TypeCounters {
    fn register(registry: &mut MetricRegistry) -> Arc<[Self]> {
        let mut family = |name: &str, help: &str| {
            let family = Family::<TypeLabel, Counter>::default();
            registry.register(name, help, family.clone());
            move |resource| family.get_or_create_owned(&TypeLabel { resource })
        };
        let requests = family("requests", "Requests read from ADS streams");
        let responses = family("responses", "Responses written to ADS streams");
        let resources = family("resources_sent", "Resources in responses");
        let removals = family("removals_sent", "Removed names in responses");
        let rejections = family("rejections", "Requests that rejected resources");
        let of = |(type_url, resource)| Self {
            type_url,
            resource,
            requests: requests(resource),
            responses: responses(resource),
            resources: resources(resource),
            removals: removals(resource),
            rejections: rejections(resource),
        };
        TYPES.into_iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Origin};

    #[test]
    fn faults_are_counted_by_kind_and_return_to_zero() {
        let (metrics, book) = (Metrics::new(), FaultBook::default());
        book.replace(Origin::File("a".into()), vec![Fault::new(FaultKind::Syntax, "x")]);
        metrics.set_faults(&book);
        assert!(metrics.render().contains("evenkeel_discovery_faults{kind=\"syntax\"} 1"));
        book.replace(Origin::File("a".into()), vec![]);
        metrics.set_faults(&book);
        assert!(metrics.render().contains("evenkeel_discovery_faults{kind=\"syntax\"} 0"));
    }
}
