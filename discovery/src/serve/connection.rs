// SPDX-License-Identifier: Apache-2.0
//! One HTTP/2 connection, from its first byte to its last.
//!
//! hyper is driven here, not by tonic's server, because that one sends GOAWAY to all connections in one instant; a replica
//! that drains lets go of them one by one ([`super::drain`]).
//!
//! What must always be true: a connection that is sent away is told by GOAWAY (RFC 9113, 6.8), its streams end with
//! UNAVAILABLE after their last whole message, and only what then still hangs is cut, after [`GRACE`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tower::Service;

use super::{KEEPALIVE, KEEPALIVE_ANSWER, MAX_STREAMS_PER_CONNECTION};
use crate::auth::Gate;
use crate::metrics::TransportMetrics;

/// How long a client may take to open its first stream. gRPC clients connect because they have something to ask.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a connection may take to close after it was sent away. Clients are told at once, so this is for those that hang.
const GRACE: Duration = Duration::from_secs(5);
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
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) routes: Routes,
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) metrics: TransportMetrics,
}

// === impl Peer ===

impl Peer {
    /// When the stream that began with this request shall end; never, for a request that came another way.
    pub fn leave(extensions: &Extensions) -> CancellationToken {
        extensions.get::<Self>().map(|peer| peer.leave.clone()).unwrap_or_default()
    }
}

/// Serves a connection until it ends, or until `turn`, when it is sent away.
pub(super) async fn serve(
    io: Io,
    address: Option<SocketAddr>,
    shared: Arc<Shared>,
    turn: impl Future<Output = ()>,
) {
    let peer = Peer { address, user: None, leave: CancellationToken::new() };
    let asked = CancellationToken::new();
    let service = {
        let (peer, asked, shared) = (peer.clone(), asked.clone(), shared.clone());
        service_fn(move |request| {
            asked.cancel();
            answer(request, peer.clone(), shared.clone())
        })
    };
    let mut connection = pin!(builder().serve_connection(TokioIo::new(io), service));
    let silent = async {
        if tokio::time::timeout(FIRST_REQUEST, asked.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = connection.as_mut() => return told(address, ended),
        () = silent => shared.metrics.close("silent"),
        () = turn => shared.metrics.close("drained"),
    }
    connection.as_mut().graceful_shutdown();
    peer.leave.cancel();
    match tokio::time::timeout(GRACE, connection).await {
        Ok(ended) => told(address, ended),
        Err(_) => {
            shared.metrics.close("hung");
            tracing::warn!(peer = ?address, "a connection did not close within {} s and was cut", GRACE.as_secs());
        }
    }
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER);
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
) -> Result<Response<Body>, Infallible> {
    if let Some(gate) = &shared.gate
        && !request.uri().path().starts_with(OPEN_TO_ALL)
    {
        match gate.admit(request.headers()).await {
            Ok(user) => peer.user = Some(user),
            Err(status) => {
                tracing::info!(peer = ?peer.address, reason = status.message(), "stream refused");
                return Ok(status.into_http());
            }
        }
    }
    let mut request = request.map(Body::new);
    // Where tonic's own `Request::remote_addr` looks.
    request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: peer.address });
    request.extensions_mut().insert(peer);
    // Routes are always ready.
    shared.routes.clone().call(request).await
}
