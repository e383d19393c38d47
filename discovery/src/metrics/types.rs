// SPDX-License-Identifier: Apache-2.0
//! What is counted of ADS streams by the type of what they carry. In a piece of its own, because every stream holds it.

use std::sync::Arc;

use evenkeel_xds::{Response, type_url};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Types by URL and what they are called here. The last stands for all others.
const TYPES: [(&str, &str); 6] = [
    (type_url::SERVICE, "service"),
    (type_url::CLUSTER, "cluster"),
    (type_url::CLUSTER_LOAD_ASSIGNMENT, "endpoints"),
    (type_url::LISTENER, "listener"),
    (type_url::ROUTE_CONFIGURATION, "route"),
    ("", "other"),
];

/// The counters of all types. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct PerType(Arc<[TypeCounters]>);

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

// === impl PerType ===

impl PerType {
    /// Registers all types.
    pub(super) fn register(registry: &mut Registry) -> Self {
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
        let of = |(type_url, resource)| TypeCounters {
            type_url,
            resource,
            requests: requests(resource),
            responses: responses(resource),
            resources: resources(resource),
            removals: removals(resource),
            rejections: rejections(resource),
        };
        Self(TYPES.into_iter().map(of).collect())
    }

    /// What is counted of a type's messages.
    ///
    /// # Panics
    /// Never: there is one for types that are not known.
    pub fn of(&self, type_url: &str) -> &TypeCounters {
        let known = self.0.iter().find(|counters| counters.type_url == type_url);
        known.unwrap_or_else(|| &self.0[TYPES.len() - 1])
    }
}

// === impl TypeCounters ===

impl TypeCounters {
    /// A response was made.
    pub fn told(&self, response: &Response) {
        self.responses.inc();
        self.resources.inc_by(response.resources.len() as u64);
        // Nearly never, and the counters are everybody's.
        if !response.removed.is_empty() {
            self.removals.inc_by(response.removed.len() as u64);
        }
    }
}
