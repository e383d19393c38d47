// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 connections from one pod to its endpoints.
//!
//! A request takes a [`Lease`] on a connection with room for one more stream. Where there is none, one dial per endpoint is
//! made and all requests that came meanwhile wait for it; it goes on when the request that began it is cancelled. A
//! connection counts as made when the peer's SETTINGS are there: only then is its stream limit known, and only then is it
//! certain that it speaks HTTP/2.
//!
//! A connection is in the pool while it takes new streams. It leaves when it said GOAWAY, when its endpoint is listed no more
//! or when it was idle for long; it is closed when its last stream has ended, because by then nobody holds it.

use std::{
    collections::{HashMap, HashSet},
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use h2::client::{Builder, Connection as Http2, SendRequest};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    socket::Socket,
    state::Pod,
    stats::{Gauge, ProxyStats},
    upstream::{self, DialError, Inherit},
};
use crate::{clock::monotonic_ns, store::EndpointLoad};

/// Flow-control window of a response. A round trip inside a cluster takes well under a millisecond: 256 KiB carry more than
/// 2 Gbit/s on one stream, and bound what a client that does not read can make us hold.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;
/// Window of a whole connection: the engine returns its credit only as streams are forwarded, so that it must hold many
/// stalled streams (32) before these starve the others.
pub(super) const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// What one stream may have waiting for its socket.
pub(super) const SEND_BUFFER: usize = 128 * 1024;
/// Longest header list accepted, as Envoy's default (60 KiB, rounded up).
pub(super) const HEADER_LIST: u32 = 64 * 1024;

/// Connections to one endpoint from one pod. Beyond it requests queue on the least loaded one.
const CONNECTIONS_MAX: usize = 64;
/// An idle connection is closed after this long: below the idle limits that servers set (Go and Envoy: minutes), above the
/// pauses of ordinary traffic.
const IDLE: Duration = Duration::from_secs(90);

/// What connections may be shared between: same endpoint, same socket options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) address: SocketAddr,
    pub(super) inherit: Inherit,
}

/// The pool of one pod.
pub(super) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    stats: Arc<ProxyStats>,
    slots: Mutex<HashMap<Key, Slot>>,
    next_id: AtomicU64,
}

type Dialled = Option<Result<(), DialError>>;

#[derive(Default)]
struct Slot {
    connections: Vec<Arc<Connection>>,
    /// The dial under way.
    dial: Option<watch::Receiver<Dialled>>,
}

struct Connection {
    id: u64,
    sender: SendRequest<Bytes>,
    streams: AtomicUsize,
    /// When the last stream ended, on the clock of [`monotonic_ns`].
    idle_since: AtomicU64,
}

/// Room for one stream, given back when dropped: hold it until the stream has ended.
pub(super) struct Lease(Arc<Connection>);

// === impl Lease ===

impl Lease {
    fn on(connection: &Arc<Connection>) -> Self {
        connection.streams.fetch_add(1, Relaxed);
        Self(connection.clone())
    }

    /// The handle to open the stream with.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.0.sender.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Relaxed) == 1 {
            self.0.idle_since.store(monotonic_ns(), Relaxed);
        }
    }
}

// === impl Connection ===

impl Connection {
    fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }

    fn has_room(&self) -> bool {
        self.streams() < self.sender.current_max_send_streams()
    }
}

// === impl Slot ===

impl Slot {
    /// The first connection with room: few busy connections cost less than many idle ones.
    fn lease(&self) -> Option<Lease> {
        self.connections.iter().find(|c| c.has_room()).map(Lease::on)
    }

    fn least_loaded(&self) -> Option<Lease> {
        self.connections.iter().min_by_key(|c| c.streams()).map(Lease::on)
    }
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(stats: Arc<ProxyStats>) -> Self {
        Self { inner: Arc::new(Inner { stats, slots: Mutex::default(), next_id: AtomicU64::new(0) }) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inner.slots.lock().is_empty()
    }

    /// Room on a connection, dialling where there is none. Cancel safe.
    pub(super) async fn lease(
        &self,
        pod: &Arc<Pod>,
        key: Key,
        load: &Arc<EndpointLoad>,
    ) -> Result<Lease, DialError> {
        loop {
            let mut dial = {
                let mut slots = self.inner.slots.lock();
                let slot = slots.entry(key).or_default();
                if let Some(lease) = slot.lease() {
                    return Ok(lease);
                }
                if slot.connections.len() >= CONNECTIONS_MAX
                    && let Some(lease) = slot.least_loaded()
                {
                    return Ok(lease);
                }
                slot.dial.get_or_insert_with(|| self.start_dial(pod, key, load, None)).clone()
            };
            let dialled = dial.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
            let Some(Err(error)) = dialled else {
                if dialled.is_none() {
                    return Err(DialError::PodGone);
                }
                continue;
            };
            // A server that takes no further connection still has those it has.
            let queued = self.inner.slots.lock().get(&key).and_then(Slot::least_loaded);
            return queued.ok_or(error);
        }
    }

    /// Takes in a connection that was dialled before it was known that it is for HTTP/2, unless there is one already.
    pub(super) fn adopt(&self, pod: &Arc<Pod>, key: Key, load: &Arc<EndpointLoad>, socket: Socket) {
        let mut slots = self.inner.slots.lock();
        let slot = slots.entry(key).or_default();
        if slot.connections.is_empty() && slot.dial.is_none() {
            slot.dial = Some(self.start_dial(pod, key, load, Some(socket)));
        }
    }

    /// Takes a connection out that takes no new streams. Those it has are finished.
    pub(super) fn retire(&self, key: &Key, lease: &Lease) {
        self.inner.remove(key, lease.0.id);
    }

    /// Takes out what is idle and what leads to endpoints that are not `listed`.
    pub(super) fn sweep(&self, listed: &HashSet<SocketAddr>, now_ns: u64) {
        let idle = |c: &Connection| {
            c.streams() == 0 && now_ns.saturating_sub(c.idle_since.load(Relaxed)) > IDLE.as_nanos() as u64
        };
        self.inner.slots.lock().retain(|key, slot| {
            let listed = listed.contains(&key.address);
            slot.connections.retain(|c| listed && !idle(c));
            slot.dial.is_some() || !slot.connections.is_empty()
        });
    }

    fn start_dial(
        &self,
        pod: &Arc<Pod>,
        key: Key,
        load: &Arc<EndpointLoad>,
        socket: Option<Socket>,
    ) -> watch::Receiver<Dialled> {
        let (done, result) = watch::channel(None);
        let (inner, pod, load) = (self.inner.clone(), pod.clone(), load.clone());
        tokio::spawn(async move {
            let abort = pod.abort.clone();
            let dialled = tokio::select! {
                biased;
                () = abort.cancelled() => Err(DialError::PodGone),
                dialled = open(&pod, key, &load, socket) => dialled,
            };
            upstream::report(&dialled, &load);
            let outcome = inner.dial_done(pod, key, dialled);
            done.send_replace(Some(outcome));
        });
        result
    }
}

// === impl Inner ===

impl Inner {
    fn remove(&self, key: &Key, id: u64) {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get_mut(key) {
            slot.connections.retain(|c| c.id != id);
            if slot.connections.is_empty() && slot.dial.is_none() {
                slots.remove(key);
            }
        }
    }

    fn dial_done(
        self: Arc<Self>,
        pod: Arc<Pod>,
        key: Key,
        dialled: Result<Opened, DialError>,
    ) -> Result<(), DialError> {
        let mut slots = self.slots.lock();
        let slot = slots.entry(key).or_default();
        slot.dial = None;
        let opened = match dialled {
            Ok(opened) => opened,
            Err(error) => {
                if slot.connections.is_empty() {
                    slots.remove(&key);
                }
                return Err(error);
            }
        };
        let id = self.next_id.fetch_add(1, Relaxed);
        slot.connections.push(Arc::new(Connection {
            id,
            sender: opened.sender,
            streams: AtomicUsize::new(0),
            idle_since: AtomicU64::new(monotonic_ns()),
        }));
        drop(slots);
        let open = Gauge::new(&self.stats, |s| &s.upstream_connections);
        tokio::spawn(async move {
            let _open = open;
            tokio::select! {
                biased;
                () = pod.abort.cancelled() => {}
                ended = opened.connection => if let Err(error) = ended {
                    tracing::debug!(address = %key.address, %error, "an upstream connection ended");
                }
            }
            self.remove(&key, id);
        });
        Ok(())
    }
}

struct Opened {
    sender: SendRequest<Bytes>,
    connection: Http2<Socket, Bytes>,
}

/// Connects (unless that is done) and shakes hands, both within the connect timeout.
async fn open(pod: &Pod, key: Key, load: &EndpointLoad, socket: Option<Socket>) -> Result<Opened, DialError> {
    let address = key.address;
    let socket = match socket {
        Some(socket) => socket,
        None => upstream::dial(pod, address, key.inherit, load).await?,
    };
    let wrong = |error: h2::Error| DialError::NotHttp2 { address, error: error.to_string().into() };
    upstream::within(address, async {
        let (sender, mut connection) = engine().handshake(socket).await.map_err(wrong)?;
        // Zero until the peer's SETTINGS say more, see `engine`.
        poll_fn(|cx| match Future::poll(std::pin::Pin::new(&mut connection), cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(wrong(error))),
            Poll::Ready(Ok(())) => {
                Poll::Ready(Err(DialError::NotHttp2 { address, error: "closed at once".into() }))
            }
            Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        Ok(Opened { sender, connection })
    })
    .await
}

fn engine() -> Builder {
    let mut engine = Builder::new();
    engine
        .enable_push(false)
        // The mark by which `open` tells that SETTINGS have come.
        .initial_max_send_streams(0)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER);
    engine
}
