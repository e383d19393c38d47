// SPDX-License-Identifier: Apache-2.0
//! What all connections share: the [`Proxy`] and the [`Pod`] whose namespace a connection belongs to.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evenkeel_abi::{Origin, OriginKey};
use evenkeel_balance::rng::{Rng as _, SplitMix64};
use parking_lot::Mutex;
use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    accept,
    pool::Pool,
    stats::{ConnectionRow, Connections, Gauge, ProxyStats},
    upstream::Sockets,
};
use crate::{clock::monotonic_ns, store::Store};

/// How often idle upstream connections are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// Endpoint changes closer together than this lead to one sweep: a rollout changes the list many times a second.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// The record of original destinations, as the kernel programs write it.
pub trait Origins: Send + Sync + 'static {
    /// Where the connection of this key wanted to go.
    fn origin(&self, key: &OriginKey) -> Option<Origin>;
}

/// What a proxy is made of.
pub struct Config {
    /// Services and endpoints.
    pub store: Store,
    /// Original destinations.
    pub origins: Arc<dyn Origins>,
    /// Cancelled once when the agent drains: sessions say GOAWAY and end with their last stream.
    pub drain: CancellationToken,
    /// Seed of the random choices.
    pub seed: u64,
}

/// The request path of this node. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) origins: Arc<dyn Origins>,
    pub(super) drain: CancellationToken,
    pub(super) stats: Arc<ProxyStats>,
    pub(super) connections: Connections,
    random: AtomicU64,
    pods: Mutex<Vec<Weak<Pod>>>,
}

/// A pod as the proxy knows it: its name, its namespace and its upstream connections.
pub struct Pod {
    /// Name of its namespace on the node.
    pub name: Arc<str>,
    /// Cookie of its namespace.
    pub netns_cookie: u64,
    pub(super) sockets: Box<dyn Sockets>,
    /// Cancelled when the pod is gone: every socket of it is reset at once, since each one keeps its namespace alive.
    pub(super) abort: CancellationToken,
    pub(super) pool: Pool,
    /// Local ports of connections that this proxy itself makes to Service addresses, so that one that the kernel hands
    /// back is not followed in a circle.
    pub(super) own_ports: Mutex<HashSet<u16>>,
}

// === impl Proxy ===

impl Proxy {
    /// A proxy. Spawns its housekeeping, which ends with the last clone: needs a tokio runtime.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let shared = Arc::new(Shared {
            store: config.store,
            origins: config.origins,
            drain: config.drain,
            stats: Arc::new(ProxyStats::default()),
            connections: Connections::default(),
            random: AtomicU64::new(config.seed),
            pods: Mutex::default(),
        });
        tokio::spawn(housekeeping(Arc::downgrade(&shared), shared.store.changes()));
        Self { shared }
    }

    /// A pod whose connections will be handed in. `abort` is cancelled when it is gone.
    #[must_use]
    pub fn pod(
        &self,
        name: &str,
        netns_cookie: u64,
        sockets: Box<dyn Sockets>,
        abort: CancellationToken,
    ) -> Arc<Pod> {
        let pod = Arc::new(Pod {
            name: name.into(),
            netns_cookie,
            sockets,
            abort,
            pool: Pool::new(self.shared.stats.clone()),
            own_ports: Mutex::default(),
        });
        let mut pods = self.shared.pods.lock();
        pods.retain(|p| p.strong_count() > 0);
        pods.push(Arc::downgrade(&pod));
        pod
    }

    /// Serves a socket accepted in the pod's namespace, in a task of its own on the current runtime. It counts as open from here
    /// on: a drain that looks before the task has begun must not find nothing to wait for.
    pub fn accept(&self, pod: &Arc<Pod>, stream: TcpStream, peer: SocketAddr) {
        let open = Gauge::new(&self.shared.stats, |s| &s.client_connections);
        tokio::spawn(accept::serve(self.shared.clone(), pod.clone(), stream, peer, open));
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> &ProxyStats {
        &self.shared.stats
    }

    /// The clients' connections that are open now.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionRow> {
        self.shared.connections.rows()
    }

    /// Clients' connections that are open now.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.shared.stats.snapshot().client_connections
    }
}

// === impl Shared ===

impl Shared {
    /// A generator for one decision. The sequence of seeds is SplitMix64's own, shared by all threads without a lock.
    pub(super) fn rng(&self) -> SplitMix64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        SplitMix64::new(SplitMix64::new(self.random.fetch_add(GOLDEN, Relaxed)).next_u64())
    }

    fn sweep(&self) {
        let pods: Vec<Arc<Pod>> = self.pods.lock().iter().filter_map(Weak::upgrade).collect();
        if pods.iter().all(|pod| pod.pool.is_empty()) {
            return;
        }
        let snapshot = self.store.current();
        let clusters = snapshot.services.values().flat_map(|service| &service.clusters);
        let listed: HashSet<SocketAddr> =
            clusters.flat_map(|c| &c.endpoints).map(|endpoint| endpoint.spec.address).collect();
        for pod in pods {
            pod.pool.sweep(&listed, monotonic_ns());
        }
    }
}

/// Closes what no longer serves: after each change of the endpoints, and now and then for idle connections.
async fn housekeeping(shared: Weak<Shared>, mut changes: tokio::sync::watch::Receiver<u64>) {
    let mut next = Instant::now() + SWEEP_EVERY;
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                // No writer any more: the list is final, idle connections are still to be closed.
                tokio::time::sleep_until(next).await;
            },
            () = tokio::time::sleep_until(next) => {}
        }
        let Some(shared) = shared.upgrade() else { return };
        shared.sweep();
        drop(shared);
        next = Instant::now() + SWEEP_EVERY;
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}
