// SPDX-License-Identifier: Apache-2.0
//! A snapshot as one client sees it.
//!
//! What must always be true: two clients that are alike see the same bytes, which are kept once. A wildcard covers the
//! `Service` resources, the clusters and their endpoints, and of the listeners only the one that the client asked for in
//! its metadata: the API listeners of gRPC would be of no use to an Envoy, which refuses them. Routes are only served by
//! name, because that is how both ask for them.

use std::sync::Arc;

use evenkeel_xds::{EncodedResource, ResourceSource, type_url};

use super::published::Front;
use super::zone::ZoneView;
use super::{News, Snapshot};
use crate::translate::GATEWAY;

/// A snapshot as clients in one zone see it.
#[derive(Clone, Debug)]
pub struct ClientView {
    /// Shared by all clients in the zone.
    seen: Arc<ZoneView>,
    gateway: Option<EncodedResource>,
}

// === impl ClientView ===

impl ClientView {
    /// The snapshot as clients in `zone` (empty: unknown) see it. `gateway` is the listener that the client has asked
    /// for ([`crate::translate::gateway_of`]).
    pub fn new(snapshot: Arc<Snapshot>, zone: Arc<str>, gateway: Option<EncodedResource>) -> Self {
        Self { seen: ZoneView::of(snapshot, &zone), gateway }
    }

    /// Another snapshot as the same client sees it, in the same zone.
    #[must_use]
    pub fn on(&self, snapshot: Arc<Snapshot>) -> Self {
        Self { seen: ZoneView::of(snapshot, &self.seen.zone), gateway: self.gateway.clone() }
    }

    /// What is different for clients that have seen `old`. `None`: too much to name it, or they have changed their zone.
    pub fn since(&self, old: &Self) -> Option<Arc<News>> {
        self.seen.since(&old.seen)
    }

    /// The snapshot behind the view.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.seen.snapshot
    }

    /// The zone that the client is in; empty: unknown.
    pub fn zone(&self) -> &Arc<str> {
        &self.seen.zone
    }

    fn front(&self, name: &str) -> Option<&Front> {
        self.seen.snapshot.clusters.get(name)?.front.as_deref()
    }
}

impl ResourceSource for ClientView {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        let ZoneView { snapshot, zone, .. } = &*self.seen;
        match type_url {
            type_url::SERVICE => Some(snapshot.services.get(name)?.resource.clone()),
            type_url::CLUSTER_LOAD_ASSIGNMENT => Some(snapshot.clusters.get(name)?.endpoints(zone)),
            type_url::CLUSTER => Some(self.front(name)?.cluster().clone()),
            type_url::LISTENER if name == GATEWAY => self.gateway.clone(),
            type_url::LISTENER => Some(self.front(name)?.listener().clone()),
            type_url::ROUTE_CONFIGURATION if name == GATEWAY => Some(snapshot.gateway_routes()),
            type_url::ROUTE_CONFIGURATION => Some(self.front(name)?.route().clone()),
            _ => None,
        }
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        let ZoneView { snapshot, zone, .. } = &*self.seen;
        let clusters = snapshot.clusters.values();
        match type_url {
            type_url::SERVICE => {
                snapshot.services.values().for_each(|published| visit(&published.resource));
            }
            type_url::CLUSTER_LOAD_ASSIGNMENT => {
                clusters.for_each(|cluster| visit(&cluster.endpoints(zone)));
            }
            type_url::CLUSTER => {
                clusters
                    .filter_map(|cluster| cluster.front.as_ref())
                    .for_each(|front| visit(front.cluster()));
            }
            type_url::LISTENER => self.gateway.iter().for_each(visit),
            _ => {}
        }
    }

    fn in_wildcard(&self, type_url: &str, name: &str) -> bool {
        match type_url {
            type_url::SERVICE | type_url::CLUSTER_LOAD_ASSIGNMENT | type_url::CLUSTER => true,
            type_url::LISTENER => name == GATEWAY,
            _ => false,
        }
    }
}
