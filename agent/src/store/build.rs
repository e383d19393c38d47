// SPDX-License-Identifier: Apache-2.0
//! The single writer: batches in, snapshots out.
//!
//! Built off the readers' path: a batch changes the writer's own tables, then one snapshot is assembled and swapped in. A
//! cluster is rebuilt (plan, picker) only when its list or its strategy changed. Two Services that claim one address and port:
//! the one whose name sorts first keeps it, the other gets a fault.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use evenkeel_balance::{
    picker::{Endpoints, Needs, Strategy},
    priority,
};
use tokio::sync::watch;

use super::{
    Cluster, ClusterSpec, Endpoint, EndpointLoad, Frontend, Service, ServiceName, ServiceSpec, Snapshot,
};

/// The readers' end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    current: Arc<ArcSwap<Snapshot>>,
    revision: watch::Receiver<u64>,
}

impl Store {
    /// A store and its only writer. `seed` varies where rotating pickers start.
    #[must_use]
    pub fn new(seed: u64) -> (Self, StoreWriter) {
        let current = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let (published, revision) = watch::channel(0);
        let writer = StoreWriter {
            current: current.clone(),
            published,
            seed,
            services: BTreeMap::new(),
            clusters: HashMap::new(),
            loads: HashMap::new(),
        };
        (Self { current, revision }, writer)
    }

    /// The snapshot in force.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Wakes with the revision of each publication (the latest only).
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.clone()
    }
}

/// Accepted changes that belong together: one message of discovery, or a whole last-good file.
#[derive(Debug, Default)]
pub struct Batch {
    /// Services new or changed.
    pub services: Vec<ServiceSpec>,
    /// Services gone.
    pub services_removed: Vec<ServiceName>,
    /// Clusters new or changed, by name.
    pub clusters: Vec<(Arc<str>, ClusterSpec)>,
    /// Clusters gone.
    pub clusters_removed: Vec<Arc<str>>,
}

/// See the module.
#[derive(Debug)]
pub struct StoreWriter {
    current: Arc<ArcSwap<Snapshot>>,
    published: watch::Sender<u64>,
    seed: u64,
    services: BTreeMap<ServiceName, ServiceSpec>,
    clusters: HashMap<Arc<str>, ClusterSpec>,
    /// Weak, so that the load of an address lives exactly as long as a snapshot or a request needs it.
    loads: HashMap<SocketAddr, Weak<EndpointLoad>>,
}

impl StoreWriter {
    /// Applies a batch and publishes one snapshot. Returns its revision.
    pub fn apply(&mut self, batch: Batch) -> u64 {
        for name in batch.services_removed {
            self.services.remove(&name);
        }
        for spec in batch.services {
            self.services.insert(spec.name.clone(), spec);
        }
        for name in batch.clusters_removed {
            self.clusters.remove(&name);
        }
        self.clusters.extend(batch.clusters);
        self.publish()
    }

    /// Names of the clusters that the Services in force refer to, sorted.
    #[must_use]
    pub fn wanted_clusters(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> =
            self.services.values().flat_map(|s| &s.ports).map(|p| p.cluster.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn publish(&mut self) -> u64 {
        let old = self.current.load_full();
        let mut next = Snapshot { revision: old.revision + 1, ..Snapshot::default() };
        let specs: Vec<ServiceSpec> = self.services.values().cloned().collect();
        for spec in specs {
            let service = Arc::new(self.service(spec, &old));
            claim_frontends(&service, &mut next);
            next.services.insert(service.spec.name.clone(), service);
        }
        let revision = next.revision;
        self.current.store(Arc::new(next));
        drop(old);
        self.loads.retain(|_, load| load.strong_count() > 0);
        self.published.send_replace(revision);
        revision
    }

    fn service(&mut self, spec: ServiceSpec, old: &Snapshot) -> Service {
        let mut faults = spec.faults.clone();
        // A strategy without what it needs to know would be another one under its name.
        let fed = |strategy: &Strategy| strategy.needs() == Needs::NONE;
        let strategy = Strategy::by_name(&spec.strategy).filter(fed).unwrap_or_else(|| {
            faults.push(format!(
                "strategy {} is not available in this agent; least-request is used",
                spec.strategy
            ));
            Strategy::LeastRequest
        });
        let before = old.services.get(&spec.name);
        let clusters = spec
            .ports
            .iter()
            .map(|port| {
                let last = before.and_then(|s| s.clusters.iter().find(|c| c.name == port.cluster));
                self.cluster(&port.cluster, strategy, last)
            })
            .collect();
        Service { spec, strategy, clusters, faults }
    }

    fn cluster(&mut self, name: &Arc<str>, strategy: Strategy, last: Option<&Arc<Cluster>>) -> Arc<Cluster> {
        let spec = self.clusters.get(name).cloned().unwrap_or_default();
        if let Some(last) = last
            && last.strategy == strategy
            && last.endpoints.iter().map(|e| &e.spec).eq(spec.endpoints.iter())
        {
            return last.clone();
        }
        let plan = priority::plan(&spec.endpoints.iter().map(|e| (e.priority, e.health)).collect::<Vec<_>>());
        let active = || plan.active.iter().map(|i| &spec.endpoints[*i]);
        let weights: Vec<u32> = active().map(|e| e.weight.get()).collect();
        let ids: Vec<u64> = active().map(|e| identity(e.address)).collect();
        // Another for each build, or every change of the list would begin a rotation at the same place.
        self.seed = self.seed.wrapping_add(1);
        let picker = strategy.build(Endpoints { weights: &weights, ids: &ids, seed: self.seed });
        let endpoints =
            spec.endpoints.into_iter().map(|spec| Endpoint { load: self.load(spec.address), spec }).collect();
        Arc::new(Cluster { name: name.clone(), endpoints, plan, picker, strategy })
    }

    fn load(&mut self, address: SocketAddr) -> Arc<EndpointLoad> {
        if let Some(load) = self.loads.get(&address).and_then(Weak::upgrade) {
            return load;
        }
        let load = Arc::new(EndpointLoad::default());
        self.loads.insert(address, Arc::downgrade(&load));
        load
    }
}

/// The same number for an address on every node: FNV-1a (Fowler, Noll, Vo) over the address as IPv6 and the port.
fn identity(address: SocketAddr) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let bytes = ip.octets().into_iter().chain(address.port().to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Enters the Service's addresses and ports into the index of `next`, unless another Service has them.
fn claim_frontends(service: &Arc<Service>, next: &mut Snapshot) {
    for address in &service.spec.addresses {
        for (i, port) in service.spec.ports.iter().enumerate() {
            let frontend = Frontend { address: *address, port: port.number, protocol: port.protocol };
            match next.frontends.get(&frontend) {
                Some((owner, _)) => next.faults.push(format!(
                    "{}: {address}:{} belongs to {} already and is not balanced for this Service",
                    service.spec.name, port.number, owner.spec.name
                )),
                None => _ = next.frontends.insert(frontend, (service.clone(), i)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
