// SPDX-License-Identifier: Apache-2.0
//! What is served: one immutable snapshot per revision.
//!
//! A snapshot shares everything that has not changed with the one before it, including resources that have been encoded
//! already: a change to one Service costs what that Service has, however many there are, and encodes that Service only.
//! A resource is encoded when the first client that sees it asks, then shared. Snapshots remember what the last
//! revisions changed, so that a stream that is up to date looks at those names only; what is different about them is found
//! once for each zone.
//!
//! Deliberately not here: who is connected, and what they hold (`evenkeel-xds`).

mod changed;
mod client;
mod news;
mod published;
mod zone;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use evenkeel_xds::EncodedResource;
use imbl::OrdMap;

pub use self::changed::Names;
pub use self::client::ClientView;
pub use self::news::News;

use self::changed::Changed;
use self::published::{Cluster, Published};
use self::zone::ZoneViews;
use crate::source::ObjectKey;
use crate::translate;
use crate::view::{PortView, ServiceView, Zones};

/// How many revisions a stream may be behind and still be told only what changed. A stream falls behind when its client
/// is slow; comparing everything is then no worse than telling it of hundreds of revisions.
const REMEMBERED: usize = 64;

/// All that is served, at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    revision: u64,
    /// By `NAMESPACE/NAME`.
    services: OrdMap<Arc<str>, Arc<Published>>,
    /// The clusters of all Services by their names.
    clusters: OrdMap<Arc<str>, Arc<Cluster>>,
    zones: Zones,
    /// The gateway's routes, once somebody has asked for them. Shared until a port comes or goes.
    gateway: Arc<OnceLock<EncodedResource>>,
    /// Newest last; each revision's changed names.
    recent: VecDeque<Arc<Changed>>,
    zone_views: ZoneViews,
}

// === impl Snapshot ===

impl Snapshot {
    /// Counts up with each change, from 1.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many Services are served.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether no Service is served.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// The zone of a Node; `None`: it is not known, or has none.
    pub fn zone_of_node(&self, node: &str) -> Option<&Arc<str>> {
        self.zones.get(node)
    }

    /// Whether all Nodes are in the zones in which they are in `other`. It may say no although they are.
    pub fn has_zones_of(&self, other: &Self) -> bool {
        self.zones.ptr_eq(&other.zones)
    }

    /// Names of all Services and their `Service` resources, in order.
    pub fn services(&self) -> impl Iterator<Item = (&Arc<str>, &EncodedResource)> {
        self.services.iter().map(|(name, published)| (name, &published.resource))
    }

    /// The ports of a Service (`NAMESPACE/NAME`) with their endpoints; empty if it is not served.
    pub fn ports(&self, service: &str) -> impl Iterator<Item = &PortView> {
        let published = self.services.get(service).into_iter();
        published.flat_map(|published| published.clusters.iter().map(|cluster| &cluster.view))
    }

    /// Whether a cluster of this name is served.
    pub fn serves(&self, cluster: &str) -> bool {
        self.clusters.contains_key(cluster)
    }

    /// The next revision, with these Services replaced (`None`: gone) and Nodes in these zones. `None` if nothing would
    /// differ. Costs what the updates cost; the rest is shared.
    #[must_use]
    pub fn with(
        &self,
        updates: impl IntoIterator<Item = (ObjectKey, Option<ServiceView>)>,
        zones: &Zones,
    ) -> Option<Self> {
        let (mut services, mut clusters) = (self.services.clone(), self.clusters.clone());
        let mut changed = Changed::default();
        for (key, view) in updates {
            let name: Arc<str> = key.path().into();
            let old = services.get(&name).cloned();
            let new = view.map(|view| Arc::new(Published::new(view, old.as_deref())));
            changed.note(&name, old.as_deref(), new.as_deref());
            let of = |published: &Option<Arc<Published>>, name: &str| {
                published.as_ref().and_then(|published| published.cluster(name)).map(Arc::as_ptr)
            };
            for cluster in old.iter().flat_map(|old| &old.clusters) {
                if of(&new, &cluster.name).is_none() {
                    clusters.remove(&cluster.name);
                }
            }
            for cluster in new.iter().flat_map(|new| &new.clusters) {
                if of(&old, &cluster.name) != Some(Arc::as_ptr(cluster)) {
                    clusters.insert(cluster.name.clone(), cluster.clone());
                }
            }
            match new {
                Some(new) => services.insert(name, new),
                None => services.remove(&name),
            };
        }
        if changed.is_empty() && (self.zones.ptr_eq(zones) || self.zones == *zones) {
            return None;
        }
        let gateway = if changed.gateway { Arc::default() } else { self.gateway.clone() };
        let skip = (self.recent.len() + 1).saturating_sub(REMEMBERED);
        let mut recent = VecDeque::with_capacity(self.recent.len() + 1 - skip);
        recent.extend(self.recent.iter().skip(skip).cloned());
        recent.push_back(Arc::new(changed));
        Some(Self {
            revision: self.revision + 1,
            services,
            clusters,
            zones: zones.clone(),
            gateway,
            recent,
            zone_views: ZoneViews::default(),
        })
    }

    /// Names that changed after `revision`. `None`: too long ago to know, look at everything.
    pub fn changed_since(&self, revision: u64) -> Option<Arc<Names>> {
        let behind = usize::try_from(self.revision.saturating_sub(revision)).ok()?;
        let newer = self.recent.range(self.recent.len().checked_sub(behind)?..);
        Some(match behind {
            // As for nearly every stream and change: the same list for all.
            1 => newer.map(|changed| changed.names()).next()?.clone(),
            _ => Arc::new(Names::of(newer.map(|changed| &**changed))),
        })
    }

    fn gateway_routes(&self) -> EncodedResource {
        let routes = || self.services.values().flat_map(|published| &published.routes);
        self.gateway.get_or_init(|| translate::gateway_routes(routes())).clone()
    }
}

#[cfg(test)]
mod tests;
