// SPDX-License-Identifier: Apache-2.0
//! Counters of the request path and the list of its connections. Recorded by guards, so that every end is counted.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters (they only grow) and gauges (open, in flight) since the start.
        #[derive(Debug, Default)]
        pub struct ProxyStats { $(pub(super) $name: AtomicU64,)* }

        /// [`ProxyStats`] at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64,)* }

        impl ProxyStats {
            /// The values now; each is exact, together they are of nearly the same moment.
            #[must_use]
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl Snapshot {
            /// Every value with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

stats! {
    /// Connections accepted in pods.
    accepted,
    /// Connections reset because nobody had redirected them.
    refused,
    /// Clients' connections open now (gauge).
    client_connections,
    /// Connections that were spliced.
    spliced,
    /// HTTP/2 connections to endpoints open now (gauge).
    upstream_connections,
    /// Requests begun.
    requests,
    /// Requests in flight (gauge).
    requests_in_flight,
    /// Requests that failed, as their client saw it, or by a status that means the server failed.
    failures,
    /// Requests that their client cancelled.
    cancelled,
    /// Further attempts made for requests and spliced connections.
    retries,
    /// Requests and connections that no endpoint could take.
    unserved,
}

/// Adds one to a gauge until dropped.
#[derive(Debug)]
pub(super) struct Gauge {
    stats: Arc<ProxyStats>,
    field: fn(&ProxyStats) -> &AtomicU64,
}

impl Gauge {
    pub(super) fn new(stats: &Arc<ProxyStats>, field: fn(&ProxyStats) -> &AtomicU64) -> Self {
        field(stats).fetch_add(1, Relaxed);
        Self { stats: stats.clone(), field }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        (self.field)(&self.stats).fetch_sub(1, Relaxed);
    }
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// A client's connection, for people.
#[derive(Clone, Debug)]
pub struct ConnectionRow {
    /// Name of the pod's namespace.
    pub pod: Arc<str>,
    /// `NAMESPACE/NAME` of the Service; empty when the address is not balanced any more.
    pub service: String,
    /// The client's end.
    pub client: SocketAddr,
    /// The endpoint of a spliced connection; requests of an HTTP/2 connection go to many.
    pub endpoint: Option<SocketAddr>,
    /// Whether its requests are balanced one by one.
    pub http2: bool,
    /// Requests so far.
    pub requests: u64,
    /// Requests in flight.
    pub requests_in_flight: u64,
    /// How long it has been open.
    pub age: Duration,
}

/// What a connection updates while it lives.
#[derive(Debug)]
pub(super) struct Connection {
    pod: Arc<str>,
    service: String,
    client: SocketAddr,
    endpoint: Option<SocketAddr>,
    http2: bool,
    opened: Instant,
    pub(super) requests: AtomicU64,
    pub(super) requests_in_flight: AtomicU64,
}

/// The open connections of all pods. Locked when one opens or closes, never per request.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    rows: HashMap<u64, Arc<Connection>>,
}

/// Takes the row out when dropped.
#[derive(Debug)]
pub(super) struct Listed {
    connections: Connections,
    id: u64,
    pub(super) connection: Arc<Connection>,
}

impl Connections {
    /// Lists a connection while the result lives.
    pub(super) fn list(
        &self,
        pod: &Arc<str>,
        service: String,
        client: SocketAddr,
        endpoint: Option<SocketAddr>,
        http2: bool,
    ) -> Listed {
        let connection = Arc::new(Connection {
            pod: pod.clone(),
            service,
            client,
            endpoint,
            http2,
            opened: Instant::now(),
            requests: AtomicU64::new(0),
            requests_in_flight: AtomicU64::new(0),
        });
        let mut table = self.0.lock();
        let id = table.next;
        table.next += 1;
        table.rows.insert(id, connection.clone());
        Listed { connections: self.clone(), id, connection }
    }

    pub(super) fn rows(&self) -> Vec<ConnectionRow> {
        let all: Vec<Arc<Connection>> = self.0.lock().rows.values().cloned().collect();
        all.iter().map(|c| c.row()).collect()
    }
}

impl Connection {
    fn row(&self) -> ConnectionRow {
        ConnectionRow {
            pod: self.pod.clone(),
            service: self.service.clone(),
            client: self.client,
            endpoint: self.endpoint,
            http2: self.http2,
            requests: self.requests.load(Relaxed),
            requests_in_flight: self.requests_in_flight.load(Relaxed),
            age: self.opened.elapsed(),
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.connections.0.lock().rows.remove(&self.id);
    }
}
