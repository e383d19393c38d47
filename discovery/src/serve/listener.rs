// SPDX-License-Identifier: Apache-2.0
//! Sockets for gRPC: TCP or unix, bound before anything else starts, and what comes in through them.
//!
//! What must always be true: accepting waits for nobody. Whatever takes time (handshakes, tokens, streams) is in a task per
//! connection, on the thread that the connection stays on. Total and per address, connections have limits, and one over the
//! limit is closed at once and counted.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_console::socket::{PrivateSocket, SocketFile};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Shared};
use super::handshake::Handshakes;
use super::io::Io;
use super::peers::{Peers, Place};
use super::shards::Shards;
use super::{Access, KEEPALIVE, KEEPALIVE_ANSWER, Methods, drain};
use crate::auth::Gate;
use crate::config::Listen;
use crate::metrics::TransportMetrics;

/// Connections at a time, all together. A node has one; the target is 5 000 nodes.
const MAX_CONNECTIONS: usize = 10_000;
/// How long to wait after accept fails, which it does when file descriptors run out; there is no event to wait for.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Listen,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

// === impl Listener ===

impl Listener {
    /// Binds. A unix socket is for its owner only; a socket file that nobody answers on is replaced.
    ///
    /// # Errors
    /// What the system says; `AddrInUse` also if another process answers on the unix socket.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let socket = TcpListener::bind(address).await?;
                let address = Listen::Tcp(socket.local_addr()?);
                Ok(Self { socket: Socket::Tcp(socket), address })
            }
            Listen::Unix(path) => {
                let socket =
                    PrivateSocket::bind_alone(path, "--listen").await.map_err(|error| error.source)?;
                let (socket, file) = socket.into_parts();
                Ok(Self { socket: Socket::Unix(socket, file), address: listen.clone() })
            }
        }
    }

    /// Where it is bound; the port is the real one.
    pub fn address(&self) -> &Listen {
        &self.address
    }
}

/// A connection as it comes in. It belongs to no runtime until it is served.
enum Accepted {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// A thread for connections, and what those on it share.
struct Shard {
    thread: Handle,
    shared: Arc<Shared>,
}

/// Serves until `draining`: then no connection is accepted any more, those that are open are sent away one by one over the
/// drain time, and this returns when all have closed. Dropped, it cuts them.
pub async fn serve(listener: Listener, methods: Methods, access: Access, draining: CancellationToken) {
    let Access { tls, gate, connections_per_peer, drain_time, metrics } = access;
    let handshakes = tls.map(|config| Arc::new(Handshakes::new(config, metrics.clone())));
    let threads = Shards::start();
    let shards: Vec<_> =
        threads.iter().map(|thread| Shard::new(thread, &methods, gate.as_ref(), &metrics)).collect();
    let (peers, places) = (Peers::new(connections_per_peer), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    // Uniform in [0, 1), so that replicas which drain together do not send theirs away in step.
    #[allow(clippy::cast_precision_loss)]
    let start = (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64;
    let mut connections = JoinSet::new();
    let accept_all = async {
        for (number, shard) in (0..).zip(shards.iter().cycle()) {
            let accepted = listener.socket.next(&mut connections).await;
            let Ok(total) = places.clone().try_acquire_owned() else {
                metrics.close("total_limit");
                continue;
            };
            let Ok(place) = accepted.enter(&peers) else {
                metrics.close("peer_limit");
                continue;
            };
            let (shared, handshakes, draining) = (shard.shared.clone(), handshakes.clone(), draining.clone());
            let open = Open::new(metrics.clone());
            let serve = async move {
                let turn = async {
                    draining.cancelled().await;
                    tokio::time::sleep(drain::turn(number, start, drain_time)).await;
                };
                if let Err(error) = accepted.serve(shared, handshakes, turn).await {
                    tracing::debug!(%error, "a connection cannot be served");
                }
                drop((open, total, place));
            };
            connections.spawn_on(serve, &shard.thread);
        }
    };
    tokio::select! {
        _ = draining.run_until_cancelled(accept_all) => {}
        () = methods.tidy_up() => {}
    }
    // Closes the socket: who connects now is told so by the kernel and goes to another replica.
    drop(listener);
    while connections.join_next().await.is_some() {}
    drop(threads);
}

// === impl Shard ===

impl Shard {
    fn new(thread: &Handle, methods: &Methods, gate: Option<&Arc<Gate>>, metrics: &TransportMetrics) -> Self {
        let shared = Shared::new(methods.clone(), gate.cloned(), metrics.clone());
        thread.spawn(shared.follow());
        Self { thread: thread.clone(), shared: Arc::new(shared) }
    }
}

// === impl Socket ===

impl Socket {
    /// The next connection. Meanwhile, what is left of those that have ended is cleared away.
    async fn next(&self, connections: &mut JoinSet<()>) -> Accepted {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                // Messages are written whole: waiting for more would only delay them. It fails only on a dead socket.
                stream.set_nodelay(true).ok();
                keep_alive(&stream);
                Ok(Accepted::Tcp(stream.into_std()?, address))
            }
            Self::Unix(socket, _file) => Ok(Accepted::Unix(socket.accept().await?.0.into_std()?)),
        }
    }
}

/// Finds out about clients that have gone without a word. The kernel does that for thousands of idle connections without
/// waking us; HTTP/2 could do it with PINGs, which cost as much as a change each.
fn keep_alive(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_ANSWER).with_retries(1);
    // They fail only on a dead socket.
    socket.set_tcp_keepalive(&probes).ok();
    // What was sent and is not acknowledged is no silence: it is not probed.
    socket.set_tcp_user_timeout(Some(KEEPALIVE + KEEPALIVE_ANSWER)).ok();
}

// === impl Accepted ===

impl Accepted {
    /// The place that it takes; a unix socket has no address and needs none.
    fn enter(&self, peers: &Peers) -> Result<Option<Place>, ()> {
        match self {
            Self::Tcp(_, address) => peers.enter(address.ip()).map(Some).ok_or(()),
            Self::Unix(_) => Ok(None),
        }
    }

    async fn serve(
        self,
        shared: Arc<Shared>,
        handshakes: Option<Arc<Handshakes>>,
        turn: impl Future<Output = ()> + Send,
    ) -> io::Result<()> {
        let (io, address): (Io, _) = match (self, handshakes) {
            (Self::Unix(stream), _) => (Box::new(UnixStream::from_std(stream)?), None),
            (Self::Tcp(stream, address), None) => (Box::new(TcpStream::from_std(stream)?), Some(address)),
            (Self::Tcp(stream, address), Some(handshakes)) => {
                let Some(stream) = handshakes.run(TcpStream::from_std(stream)?, address).await else {
                    return Ok(());
                };
                (Box::new(stream), Some(address))
            }
        };
        connection::serve(io, address, shared, turn).await;
        Ok(())
    }
}

// === impl Open ===

/// Counts an open connection until it is dropped, however it ends.
struct Open(TransportMetrics);

impl Open {
    fn new(metrics: TransportMetrics) -> Self {
        metrics.connections.inc();
        Self(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}
