// SPDX-License-Identifier: Apache-2.0
//! The facts of the running agent: each read from where it is kept, when it is asked for.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use evenkeel_abi::maps;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    discovery::Discovery,
    holder::{Holder, Unheld},
    publish::Published,
};
use crate::{
    admin::facts::{
        ConnectionFacts, DiscoveryFacts, Facts, Identity, KernelFacts, PodFacts, Pressure, Readiness,
        RequestPathFacts, Requests,
    },
    clock::monotonic_ns,
    kernel::{Counters, ExitHook, Heartbeat, Listeners, Loads, Pods},
    pods::{self, Phase, Role},
    proxy::Proxy,
    store::{EndpointLoad, ServiceName, Snapshot, Store},
};

/// Handles on everything that can be asked.
pub(super) struct Live {
    pub(super) node: String,
    pub(super) zone: String,
    pub(super) generation: u64,
    pub(super) started: Instant,
    pub(super) pins: PathBuf,
    pub(super) cgroup: PathBuf,
    pub(super) stale_after: Duration,
    pub(super) stand_aside_after: Duration,
    pub(super) store: Store,
    pub(super) counters: Counters,
    pub(super) loads: Loads,
    pub(super) heartbeat: Heartbeat,
    pub(super) exit_hook: Option<ExitHook>,
    pub(super) holder: Result<Holder, Unheld>,
    pub(super) listeners: Listeners,
    pub(super) registered: Pods,
    pub(super) proxy: Proxy,
    pub(super) pods: pods::Handle,
    pub(super) discovery: Discovery,
    pub(super) role: watch::Receiver<Role>,
    pub(super) published: Arc<Mutex<Published>>,
    pub(super) draining: AtomicBool,
}

impl Live {
    fn heartbeat_age(&self) -> Option<Duration> {
        self.heartbeat.age().ok().flatten()
    }

    fn pressure(&self) -> Vec<Pressure> {
        let (services, backends) = {
            let published = self.published.lock();
            (published.services, published.backends)
        };
        let count = |entries: Option<usize>| entries.unwrap_or_default() as u64;
        let row = |map, used, capacity: u32| Pressure { map, used, capacity: capacity.into() };
        vec![
            row(maps::SERVICES, services as u64, maps::SERVICES_LEN),
            row(maps::BACKENDS, backends as u64, maps::BACKENDS_LEN),
            row(maps::PODS, count(self.registered.list().ok().map(|all| all.len())), maps::PODS_LEN),
            row(maps::LISTENERS, count(self.listeners.list().ok().map(|all| all.len())), maps::LISTENERS_LEN),
        ]
    }
}

impl Facts for Live {
    fn identity(&self) -> Identity {
        Identity {
            version: env!("CARGO_PKG_VERSION"),
            node: self.node.clone(),
            zone: self.zone.clone(),
            generation: self.generation,
            uptime: self.started.elapsed(),
        }
    }

    fn readiness(&self) -> Readiness {
        let age = self.heartbeat_age();
        Readiness {
            // An agent that could not attach has ended.
            attached: true,
            snapshot: self.published.lock().publications.count > 0,
            namespaces: self.pods.is_scanned(),
            heartbeat: *self.role.borrow() != Role::Standby && age.is_some_and(|age| age < self.stale_after),
            draining: self.draining.load(Relaxed),
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.current()
    }

    fn discovery(&self) -> DiscoveryFacts {
        self.discovery.facts(self.started)
    }

    fn kernel(&self) -> KernelFacts {
        let counters = self.counters.read().unwrap_or_default();
        KernelFacts {
            pins: self.pins.clone(),
            cgroup: self.cgroup.clone(),
            heartbeat_age: self.heartbeat_age(),
            stale_after: self.stale_after,
            stand_aside_after: self.stand_aside_after,
            counters: counters.into_iter().map(|(_, name, value)| (name, value)).collect(),
            maps: self.pressure(),
            publications: self.published.lock().publications,
        }
    }

    fn request_path(&self) -> RequestPathFacts {
        let stats = self.proxy.stats().snapshot();
        RequestPathFacts {
            client_connections: stats.client_connections,
            upstream_connections: stats.upstream_connections,
            in_flight: stats.requests_in_flight,
            requests: stats.requests,
            failures: stats.failures,
        }
    }

    fn pods(&self) -> Vec<PodFacts> {
        self.pods.status().into_iter().map(pod).collect()
    }

    fn connections(&self) -> Vec<ConnectionFacts> {
        let row = |row: crate::proxy::ConnectionRow| ConnectionFacts {
            pod: row.pod.to_string(),
            service: row.service,
            client: row.client.to_string(),
            endpoint: row.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
            application: if row.http2 { "http2" } else { "spliced" },
            requests: row.requests,
            in_flight: row.requests_in_flight,
            age: row.age,
        };
        self.proxy.connections().into_iter().map(row).collect()
    }

    fn open_sockets(&self) -> HashMap<(SocketAddr, u8), u64> {
        let loads = self.loads.all();
        loads.into_iter().map(|(address, protocol, open)| ((address, protocol), open)).collect()
    }

    fn backing_off(&self, load: &EndpointLoad) -> bool {
        load.backing_off(monotonic_ns())
    }

    fn service_requests(&self) -> Vec<(ServiceName, Requests)> {
        self.published.lock().ledger.totals()
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.published.lock().faults.clone();
        faults.extend(self.discovery.faults());
        faults.extend(self.exit_hook.is_none().then(|| ExitHook::MISSING.to_owned()));
        faults.extend(self.holder.and_then(Holder::check).err().map(|unheld| unheld.to_string()));
        faults
    }
}

/// A pod's phase in terms of what a connect finds there.
fn pod(status: pods::Status) -> PodFacts {
    let registered = status.phase == Phase::Registered;
    PodFacts {
        name: status.name.to_string(),
        listens_v4: registered,
        listens_v6: registered && status.v6.is_some(),
        fault: match status.phase {
            Phase::Failed(sentence) => Some(sentence),
            _ => None,
        },
    }
}
