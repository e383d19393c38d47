// SPDX-License-Identifier: Apache-2.0
//! One consistent view of everything discovery has said, and the indices into it.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use super::{Cluster, Port, Protocol, Service, ServiceName};

/// What a client dials: an address, a port, a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// The Service address.
    pub address: IpAddr,
    /// Host byte order.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows by one with each publication; zero is the empty snapshot of the start.
    pub revision: u64,
    /// Services by name.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    pub(super) frontends: HashMap<Frontend, (Arc<Service>, usize)>,
    pub(super) faults: Vec<String>,
}

impl Snapshot {
    /// The Service, port and cluster behind an address, if it is one of ours.
    #[must_use]
    pub fn frontend(&self, frontend: &Frontend) -> Option<(&Arc<Service>, &Port, &Arc<Cluster>)> {
        let (service, port) = self.frontends.get(frontend)?;
        Some((service, service.spec.ports.get(*port)?, service.clusters.get(*port)?))
    }

    /// All frontends with what is behind them, in no particular order.
    pub fn frontends(&self) -> impl Iterator<Item = (&Frontend, &Arc<Service>, &Port, &Arc<Cluster>)> {
        self.frontends
            .iter()
            .map(|(f, (service, i))| (f, service, &service.spec.ports[*i], &service.clusters[*i]))
    }

    /// What is wrong with Services, as (name, sentence), and what is wrong between them.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        let own = self
            .services
            .values()
            .flat_map(|s| s.faults.iter().map(move |f| format!("{}: {f}", s.spec.name)));
        own.chain(self.faults.iter().cloned())
    }

    /// Number of distinct endpoints over all Services.
    #[must_use]
    pub fn endpoint_count(&self) -> usize {
        let all = self.services.values().flat_map(|s| &s.clusters).flat_map(|c| &c.endpoints);
        all.map(|e| e.spec.address).collect::<std::collections::HashSet<_>>().len()
    }
}
