// SPDX-License-Identifier: Apache-2.0
//! What is served: one immutable snapshot per revision.
//!
//! A snapshot shares everything that has not changed with the one before it, including resources that have been encoded
//! already: a change to one Service encodes that Service only. A cluster is encoded when the first client of an
//! [`Audience`] asks, then shared. Snapshots remember what the last revisions changed, so that a stream that is up to
//! date looks at those names only.
//!
//! Deliberately not here: who is connected, and what they hold (`evenkeel-xds`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use evenkeel_proto::discovery::ZonePolicy;
use evenkeel_xds::{ClusterName, EncodedResource, ResourceSource, type_url};

use crate::source::ObjectKey;
use crate::translate::{self, Audience};
use crate::view::{PortView, ServiceView};

/// How many revisions a stream may be behind and still be told only what changed. A stream falls behind when its client
/// is slow; comparing everything is then no worse than telling it of hundreds of revisions.
const REMEMBERED: usize = 64;

/// All that is served, at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    revision: u64,
    services: BTreeMap<Arc<str>, Arc<Published>>,
    /// Newest last; each revision's changed names.
    recent: VecDeque<Arc<Changed>>,
}

/// What one revision changed.
#[derive(Debug, Default)]
pub struct Changed {
    revision: u64,
    /// Names of Service resources: changed, new or gone.
    services: BTreeSet<Arc<str>>,
    /// Names of clusters: changed, new or gone.
    clusters: BTreeSet<Arc<str>>,
}

/// Names to look at, by type.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Service resources.
    pub services: Vec<Arc<str>>,
    /// Clusters.
    pub clusters: Vec<Arc<str>>,
}

/// One Service: its resource and its clusters.
#[derive(Debug)]
struct Published {
    resource: EncodedResource,
    clusters: Vec<Arc<Cluster>>,
}

/// One cluster and the variants of it that have been asked for.
#[derive(Debug)]
struct Cluster {
    name: Arc<str>,
    policy: ZonePolicy,
    view: PortView,
    encoded: Mutex<Vec<(Audience, EncodedResource)>>,
}

/// A snapshot as clients in one zone see it.
#[derive(Clone, Debug)]
pub struct ZoneView {
    snapshot: Arc<Snapshot>,
    zone: Arc<str>,
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

    /// The next revision, with these Services replaced (`None`: gone). `None` if nothing would differ.
    #[must_use]
    pub fn with(&self, updates: impl IntoIterator<Item = (ObjectKey, Option<ServiceView>)>) -> Option<Self> {
        let mut services = self.services.clone();
        let mut changed = Changed { revision: self.revision + 1, ..Changed::default() };
        for (key, view) in updates {
            let name: Arc<str> = key.to_string().into();
            let old = services.get(&name).cloned();
            let new = view.map(|view| Arc::new(Published::new(&view, old.as_deref())));
            changed.note(&name, old.as_deref(), new.as_deref());
            match new {
                Some(new) => services.insert(name, new),
                None => services.remove(&name),
            };
        }
        if changed.services.is_empty() && changed.clusters.is_empty() {
            return None;
        }
        let skip = (self.recent.len() + 1).saturating_sub(REMEMBERED);
        let mut recent: VecDeque<_> = self.recent.iter().skip(skip).cloned().collect();
        recent.push_back(Arc::new(changed));
        Some(Self { revision: self.revision + 1, services, recent })
    }

    /// Names that changed after `revision`. `None`: too long ago to know, look at everything.
    pub fn changed_since(&self, revision: u64) -> Option<Names> {
        let behind = usize::try_from(self.revision.saturating_sub(revision)).ok()?;
        if behind > self.recent.len() {
            return None;
        }
        let newer = || self.recent.iter().filter(|changed| changed.revision > revision);
        let services: BTreeSet<_> = newer().flat_map(|changed| changed.services.iter().cloned()).collect();
        let clusters: BTreeSet<_> = newer().flat_map(|changed| changed.clusters.iter().cloned()).collect();
        Some(Names { services: services.into_iter().collect(), clusters: clusters.into_iter().collect() })
    }

    fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        let parsed: ClusterName = name.parse().ok()?;
        let service = ObjectKey::new(parsed.namespace, parsed.service).to_string();
        self.services.get(service.as_str())?.clusters.iter().find(|cluster| &*cluster.name == name)
    }
}

// === impl Changed ===

impl Changed {
    fn note(&mut self, name: &Arc<str>, old: Option<&Published>, new: Option<&Published>) {
        if old.map(|old| &old.resource) != new.map(|new| &new.resource) {
            self.services.insert(name.clone());
        }
        let of = |published: Option<&Published>| -> BTreeMap<Arc<str>, Arc<Cluster>> {
            let clusters = published.into_iter().flat_map(|published| &published.clusters);
            clusters.map(|cluster| (cluster.name.clone(), cluster.clone())).collect()
        };
        let (old, new) = (of(old), of(new));
        for name in old.keys().chain(new.keys()) {
            let same =
                matches!((old.get(name), new.get(name)), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
            if !same {
                self.clusters.insert(name.clone());
            }
        }
    }
}

// === impl Published ===

impl Published {
    /// Takes over from `old` what is equal, encoded variants included.
    fn new(view: &ServiceView, old: Option<&Self>) -> Self {
        let policy = view.options.zone;
        let cluster = |port: &PortView| {
            let same = |cluster: &&Arc<Cluster>| cluster.policy == policy && cluster.view == *port;
            match old.and_then(|old| old.clusters.iter().find(same)) {
                Some(old) => old.clone(),
                None => Arc::new(Cluster {
                    name: port.port.cluster.as_str().into(),
                    policy,
                    view: port.clone(),
                    encoded: Mutex::default(),
                }),
            }
        };
        Self { resource: translate::service(view), clusters: view.ports.iter().map(cluster).collect() }
    }
}

// === impl Cluster ===

impl Cluster {
    fn resource(&self, zone: &Arc<str>) -> EncodedResource {
        let audience = translate::audience(self.policy, zone, &self.view.endpoints);
        // A panic while encoding cannot leave the list half written, so poisoning means nothing here.
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, resource)) = encoded.iter().find(|(known, _)| *known == audience) {
            return resource.clone();
        }
        let resource = translate::assignment(&self.view, &audience);
        encoded.push((audience, resource.clone()));
        resource
    }
}

// === impl ZoneView ===

impl ZoneView {
    /// The snapshot as clients in `zone` (empty: unknown) see it.
    pub fn new(snapshot: Arc<Snapshot>, zone: Arc<str>) -> Self {
        Self { snapshot, zone }
    }

    /// The snapshot behind the view.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl ResourceSource for ZoneView {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        match type_url {
            type_url::SERVICE => Some(self.snapshot.services.get(name)?.resource.clone()),
            type_url::CLUSTER_LOAD_ASSIGNMENT => Some(self.snapshot.cluster(name)?.resource(&self.zone)),
            _ => None,
        }
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        let services = self.snapshot.services.values();
        match type_url {
            type_url::SERVICE => services.for_each(|published| visit(&published.resource)),
            type_url::CLUSTER_LOAD_ASSIGNMENT => services
                .flat_map(|published| &published.clusters)
                .for_each(|cluster| visit(&cluster.resource(&self.zone))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
