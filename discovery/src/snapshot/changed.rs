// SPDX-License-Identifier: Apache-2.0
//! What one revision changed, and what several together did.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use evenkeel_xds::type_url;

use super::published::{Cluster, Published};
use crate::translate::GATEWAY;

/// Names that are changed, new or gone in one revision.
#[derive(Debug, Default)]
pub(super) struct Changed {
    services: BTreeSet<Arc<str>>,
    /// ClusterLoadAssignments.
    endpoints: BTreeSet<Arc<str>>,
    /// Clusters, and the listeners and routes of the same names.
    frontends: BTreeSet<Arc<str>>,
    /// Whether the gateway's routes differ.
    pub(super) gateway: bool,
    /// The same as lists, once a stream has asked for them.
    names: OnceLock<Arc<Names>>,
}

/// Names to look at, by type. Looking at one that has not changed costs time and nothing else.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Service resources.
    pub services: Vec<Arc<str>>,
    /// ClusterLoadAssignments.
    pub endpoints: Vec<Arc<str>>,
    /// Clusters, and listeners of the same names.
    pub frontends: Vec<Arc<str>>,
    /// RouteConfigurations: those of the frontends, and the gateway's.
    pub routes: Vec<Arc<str>>,
}

// === impl Changed ===

impl Changed {
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.endpoints.is_empty() && self.frontends.is_empty() && !self.gateway
    }

    /// The names of this revision alone.
    pub(super) fn names(&self) -> &Arc<Names> {
        self.names.get_or_init(|| Arc::new(Names::of(std::iter::once(self))))
    }

    /// What a Service's change changes.
    pub(super) fn note(&mut self, name: &Arc<str>, old: Option<&Published>, new: Option<&Published>) {
        if old.map(|old| &old.resource) != new.map(|new| &new.resource) {
            self.services.insert(name.clone());
        }
        let none = Vec::new();
        self.gateway |= old.map_or(&none, |old| &old.routes) != new.map_or(&none, |new| &new.routes);
        for cluster in new.into_iter().flat_map(|new| &new.clusters) {
            let before = old.and_then(|old| old.cluster(&cluster.name));
            self.note_cluster(&cluster.name, before, Some(cluster));
        }
        let is_gone = |cluster: &&Arc<Cluster>| new.is_none_or(|new| new.cluster(&cluster.name).is_none());
        for cluster in old.into_iter().flat_map(|old| &old.clusters).filter(is_gone) {
            self.note_cluster(&cluster.name, Some(cluster), None);
        }
    }

    fn note_cluster(&mut self, name: &Arc<str>, old: Option<&Arc<Cluster>>, new: Option<&Arc<Cluster>>) {
        if old.map(Arc::as_ptr) != new.map(Arc::as_ptr) {
            self.endpoints.insert(name.clone());
        }
        let frontend = |cluster: Option<&Arc<Cluster>>| cluster?.front.as_ref().map(Arc::as_ptr);
        if frontend(old) != frontend(new) {
            self.frontends.insert(name.clone());
        }
    }
}

// === impl Names ===

impl Names {
    pub(super) fn of<'a>(changes: impl Iterator<Item = &'a Changed>) -> Self {
        let mut all = Changed::default();
        for changed in changes {
            all.services.extend(changed.services.iter().cloned());
            all.endpoints.extend(changed.endpoints.iter().cloned());
            all.frontends.extend(changed.frontends.iter().cloned());
            all.gateway |= changed.gateway;
        }
        let list = |names: &BTreeSet<Arc<str>>| names.iter().cloned().collect::<Vec<_>>();
        let mut routes = list(&all.frontends);
        routes.extend(all.gateway.then(|| Arc::from(GATEWAY)));
        Self {
            services: list(&all.services),
            endpoints: list(&all.endpoints),
            frontends: list(&all.frontends),
            routes,
        }
    }

    /// The names of a type.
    pub(super) fn of_type(&self, type_url: &str) -> &[Arc<str>] {
        match type_url {
            type_url::SERVICE => &self.services,
            type_url::CLUSTER_LOAD_ASSIGNMENT => &self.endpoints,
            type_url::CLUSTER | type_url::LISTENER => &self.frontends,
            type_url::ROUTE_CONFIGURATION => &self.routes,
            _ => &[],
        }
    }
}
