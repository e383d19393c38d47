// SPDX-License-Identifier: Apache-2.0
//! ADS over gRPC: one task per connection, which serves its streams, of either variant, around `evenkeel_xds::Session`.
//!
//! | file | what it is |
//! |---|---|
//! | `listener`, `shards`, `handshake`, `peers`, `drain` | connections: taken, spread over threads, limited, sent away |
//! | `connection`, `io`, `peer`, `scratch` | one connection, its socket, who is at its other end |
//! | `streams`, `exchange`, `gated` | its streams, in the same task |
//! | `access` | TLS and tokens |
//! | `methods`, `said`, `bridge`, `upload` | what can be called, here and by tonic |
//! | `body`, `requests`, `stream`, `client` | an ADS stream: as the transport sees it, its requests, what it does, who asks |
//! | `bell` | streams learn of snapshots |
//! | `lrs`, `health` | the other methods |
//! | `tidy` | memory after many clients came at once |
//!
//! What must always be true: a stream is answered only once the first sync is complete, so nobody sees an empty world; a
//! slow client makes its own streams wait, never the publisher or another client; a stream whose connection is sent away ends
//! with UNAVAILABLE, which clients treat as "connect again".
//!
//! Deliberately not here: the protocol's rules.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_xds::server::NamePool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::Routes;

use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::snapshot::Snapshot;

mod access;
mod bell;
mod body;
mod bridge;
mod client;
mod connection;
mod drain;
mod exchange;
mod gated;
mod handshake;
mod health;
mod io;
mod listener;
mod lrs;
mod methods;
mod peer;
mod peers;
mod requests;
mod said;
mod scratch;
mod shards;
mod stream;
mod streams;
mod tidy;
mod upload;

pub use self::access::{Access, AccessError};
pub use self::listener::{Listener, serve};
pub use self::lrs::Loads;
use self::lrs::Lrs;
pub use self::methods::Methods;
pub use self::peer::Peer;
use self::tidy::Tidy;

/// Streams that may be open. A node has one; the target is 5 000 nodes.
const MAX_STREAMS: usize = 10_000;
/// Streams on one connection. A client needs one and opens the next before it closes the last.
const MAX_STREAMS_PER_CONNECTION: u32 = 16;
/// The largest request. A first request names everything that a client holds.
const MAX_REQUEST_BYTES: usize = 32 << 20;
/// Bytes of a stream that are credited to its client together; a small part of its window.
const CREDIT: usize = 16 << 10;
/// How often a silent connection is asked whether its client is alive, and how long it has to answer. Half of what
/// middleboxes commonly allow an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);

/// The newest snapshot. `None`: the first sync is not complete.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Ads {
    snapshots: Snapshots,
    metrics: Metrics,
    places: Arc<Semaphore>,
    registry: Registry,
    loads: Loads,
    /// What clients have subscribed to: mostly the same.
    names: NamePool,
    tidy: Tidy,
}

// === impl Ads ===

impl Ads {
    /// A service that serves these snapshots.
    pub fn new(snapshots: Snapshots, metrics: Metrics, registry: Registry, loads: Loads) -> Self {
        let places = Arc::new(Semaphore::new(MAX_STREAMS));
        Self {
            snapshots,
            metrics,
            places,
            registry,
            loads,
            names: NamePool::default(),
            tidy: Tidy::default(),
        }
    }

    /// All that is served to clients: ADS, load reports, health. Health says that nothing is served from `draining` on.
    pub async fn into_methods(self, draining: &CancellationToken) -> Methods {
        let health = health::service(self.snapshots.clone(), draining.clone()).await;
        let others = Routes::new(health).add_service(Lrs::new(&self).into_server());
        Methods::new(self, others)
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        let full =
            |_| Status::resource_exhausted(format!("{MAX_STREAMS} streams are open, which is the limit"));
        self.places.clone().try_acquire_owned().map_err(full)
    }
}
