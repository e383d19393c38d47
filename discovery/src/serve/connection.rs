// SPDX-License-Identifier: Apache-2.0
//! One HTTP/2 connection, from its first byte to its last.
//!
//! hyper is driven here, not by tonic's server, because that one sends GOAWAY to all connections in one instant; a replica
//! that drains lets go of them one by one ([`super::drain`]).
//!
//! A connection and all of its streams are one task: what a stream wants to tell is on its way when the task rests, and
//! what thousands of connections cost per change is mostly how often each of them is scheduled.
//!
//! What must always be true: a connection that is sent away is told by GOAWAY (RFC 9113, 6.8), its streams end with
//! UNAVAILABLE after their last whole message, and only what then still hangs is cut, after [`GRACE`]. One whose client
//! does not read for [`PATIENCE`] is cut: what waits for it would pin old resources.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Extensions, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;

use super::MAX_STREAMS_PER_CONNECTION;
use super::gated::{Gated, Quiet};
use super::methods::{Answer, Methods, refused};
use super::streams::{NewStreams, Streams};
use crate::auth::Gate;
use crate::metrics::TransportMetrics;
use crate::registry::{Reading, Registration};

/// How long a client may take to open its first stream. gRPC clients connect because they have something to ask.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a connection may take to close after it was sent away. Clients are told at once, so this is for those that hang.
const GRACE: Duration = Duration::from_secs(5);
/// How long a client may not read what is there for it, and how often that is looked at.
const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_secs(15);
/// How often a connection and its streams may wake each other before others have their turn.
const TURNS: usize = 8;
/// A token has 1 to 2 kB, of the other headers nobody needs as much.
const MAX_HEADER_BYTES: u32 = 32 << 10;
/// Bytes of responses that wait in a connection for its client to read; hyper's own limit is 400 KiB, and there are
/// thousands of connections.
const SEND_BUFFER: usize = 64 << 10;
/// Health is asked by probes, which have no tokens, and tells nothing about endpoints.
const OPEN_TO_ALL: &str = "/grpc.health.v1.Health/";

/// Bytes in both directions; boxed, so that HTTP/2 is compiled once for all kinds of sockets.
pub(super) type Io = Box<dyn Duplex>;

/// See [`Io`].
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Who is at the other end. In the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address; `None` for a unix socket.
    pub address: Option<SocketAddr>,
    /// The user whose token opened the stream; `None` where no tokens are asked for.
    pub user: Option<Arc<str>>,
    /// Cancelled when the connection is sent away: its streams then end with UNAVAILABLE.
    pub leave: CancellationToken,
    /// Its ADS streams, those that have ended may be among them.
    streams: Arc<Mutex<Vec<Reading>>>,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) methods: Methods,
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) metrics: TransportMetrics,
}

/// What becomes of a connection.
enum Event {
    Ended(hyper::Result<()>),
    /// We end it, for this reason.
    Close(&'static str),
}

/// A connection with its streams.
struct Connection<C> {
    http: Gated<Pin<Box<C>>>,
    streams: Streams,
}

// === impl Peer ===

impl Peer {
    pub(super) fn new(address: Option<SocketAddr>) -> Self {
        Self { address, user: None, leave: CancellationToken::new(), streams: Arc::default() }
    }

    /// When the stream that began with this request shall end; never, for a request that came another way.
    pub fn leave(extensions: &Extensions) -> CancellationToken {
        extensions.get::<Self>().map(|peer| peer.leave.clone()).unwrap_or_default()
    }

    /// For those that look at a request's extensions.
    pub(super) fn introduce(self, extensions: &mut Extensions) {
        // Where tonic's own `Request::remote_addr` looks.
        extensions.insert(TcpConnectInfo { local_addr: None, remote_addr: self.address });
        extensions.insert(self);
    }

    /// Has an ADS stream of this connection looked after.
    pub(super) fn watch(&self, entry: &Registration) {
        let mut streams = self.streams();
        if streams.len() >= MAX_STREAMS_PER_CONNECTION as usize {
            // A client may open many, one after the other.
            streams.retain(|stream| stream.blocked_for().is_some());
        }
        streams.push(entry.reading());
    }

    /// Returns when the client has not read for [`PATIENCE`].
    async fn does_not_read(&self) {
        loop {
            tokio::time::sleep(GLANCE).await;
            let mut late = false;
            self.streams().retain(|stream| match stream.blocked_for() {
                Some(time) => {
                    late |= time >= PATIENCE;
                    true
                }
                None => false,
            });
            if late {
                return;
            }
        }
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Vec<Reading>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a connection until it ends, or until `turn`, when it is sent away.
pub(super) async fn serve(
    io: Io,
    address: Option<SocketAddr>,
    shared: Arc<Shared>,
    turn: impl Future<Output = ()> + Send,
) {
    let peer = Peer::new(address);
    let asked = CancellationToken::new();
    let service = {
        let (peer, asked, shared) = (peer.clone(), asked.clone(), shared.clone());
        service_fn(move |request| {
            asked.cancel();
            answer(request, peer.clone(), shared.clone())
        })
    };
    let streams = Streams::default();
    let http = builder(streams.entry()).serve_connection(TokioIo::new(io), service);
    let mut connection = Connection::new(http, streams);
    let reasons = async {
        tokio::select! {
            () = silent(asked) => "silent",
            () = turn => "drained",
            () = peer.does_not_read() => "slow",
        }
    };
    let reason = match connection.run(reasons).await {
        Event::Ended(ended) => return told(address, ended),
        Event::Close(reason) => reason,
    };
    shared.metrics.close(reason);
    if reason == "slow" {
        tracing::warn!(peer = ?address, "given up: it has not read for {} s", PATIENCE.as_secs());
        return;
    }
    connection.http.touch().as_mut().graceful_shutdown();
    peer.leave.cancel();
    let late = async {
        tokio::time::sleep(GRACE).await;
        "hung"
    };
    match connection.run(late).await {
        Event::Ended(ended) => told(address, ended),
        Event::Close(reason) => {
            shared.metrics.close(reason);
            tracing::warn!(peer = ?address, "a connection did not close within {} s and was cut", GRACE.as_secs());
        }
    }
}

/// Returns if the client opens no stream in time.
async fn silent(asked: CancellationToken) {
    if tokio::time::timeout(FIRST_REQUEST, asked.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

// === impl Connection ===

impl<C: Future<Output = hyper::Result<()>>> Connection<C> {
    fn new(http: C, streams: Streams) -> Self {
        Self { http: Gated::new(Box::pin(http)), streams }
    }

    /// Runs until the connection ends or there is a reason to end it.
    async fn run(&mut self, reason: impl Future<Output = &'static str>) -> Event {
        let reason = pin!(reason);
        let mut reason = Gated::new(reason);
        let mut quiet = Quiet::default();
        std::future::poll_fn(|context| {
            let turn =
                |(connection, reason): &mut (&mut Self, &mut Gated<Pin<&mut _>>),
                 context: &mut Context<'_>| { connection.turn(reason, context) };
            let is_woken = |(connection, reason): &(&mut Self, &mut Gated<_>)| {
                connection.http.is_woken() || connection.streams.is_woken() || reason.is_woken()
            };
            quiet.run(context, TURNS, &mut (&mut *self, &mut reason), turn, is_woken)
        })
        .await
    }

    /// Streams first: what they have to say goes out with the connection's turn.
    fn turn<F: Future<Output = &'static str>>(
        &mut self,
        reason: &mut Gated<Pin<&mut F>>,
        context: &mut Context<'_>,
    ) -> Poll<Event> {
        self.streams.poll(context);
        if self.http.is_woken() {
            let ended = self.http.poll(context, |http, context| http.as_mut().poll(context));
            self.streams.take_new();
            if let Poll::Ready(ended) = ended {
                return Poll::Ready(Event::Ended(ended));
            }
        }
        reason.poll(context, |reason, context| reason.as_mut().poll(context)).map(Event::Close)
    }
}

fn builder(streams: NewStreams) -> http2::Builder<NewStreams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        // Nobody reads it.
        .auto_date_header(false);
    builder
}

/// A client that breaks off is its own business.
fn told(peer: Option<SocketAddr>, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(?peer, %error, "connection ended");
    }
}

async fn answer(
    request: Request<Incoming>,
    mut peer: Peer,
    shared: Arc<Shared>,
) -> Result<Response<Answer>, Infallible> {
    if let Some(gate) = &shared.gate
        && !request.uri().path().starts_with(OPEN_TO_ALL)
    {
        match gate.admit(request.headers()).await {
            Ok(user) => peer.user = Some(user),
            Err(status) => {
                tracing::info!(peer = ?peer.address, reason = status.message(), "stream refused");
                return Ok(refused(status));
            }
        }
    }
    Ok(shared.methods.call(request, peer).await)
}

#[cfg(test)]
mod tests;
