// SPDX-License-Identifier: Apache-2.0
//! One HTTP/2 connection, from its first byte to its last.
//!
//! A connection and all of its streams are one task: what a stream wants to tell is on its way when the task rests, and
//! what thousands of connections cost per change is mostly how often each of them is scheduled and how much of its memory
//! is looked at. So HTTP/2 is nghttp2's (`evenkeel_http2`), which keeps little and has neither tasks nor buffers.
//!
//! What must always be true: a connection that is sent away is told by GOAWAY (RFC 9113, 6.8), its streams end with
//! UNAVAILABLE after their last whole message, and only what then still hangs is cut, after [`GRACE`]. One whose client
//! does not read for [`PATIENCE`] is cut: what waits for it would pin old resources. Nothing is read or made for a
//! client faster than it reads what was made before.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use evenkeel_http2::{Session, Settings};
use hyper::body::Bytes;
use prost::bytes::Buf as _;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::exchange::Scene;
use super::gated::Gated;
use super::io::Io;
use super::methods::Methods;
use super::peer::{PATIENCE, Peer};
use super::streams::Streams;
use super::{MAX_STREAMS_PER_CONNECTION, scratch};
use crate::auth::Gate;
use crate::metrics::TransportMetrics;

/// How long a client may take to open its first stream. gRPC clients connect because they have something to ask.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a connection may take to close after it was sent away. Clients are told at once, so this is for those that hang.
const GRACE: Duration = Duration::from_secs(5);
const SETTINGS: Settings = Settings {
    max_streams: MAX_STREAMS_PER_CONNECTION,
    // A first request names everything that a client holds: a round trip for each of these.
    window: 1 << 20,
    // A token has 1 to 2 kB, of the other headers nobody needs as much.
    max_header_bytes: 32 << 10,
};

/// What all connections on a thread share.
pub(super) struct Shared {
    pub(super) methods: Methods,
    pub(super) bell: Bell,
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) metrics: TransportMetrics,
}

/// What becomes of a connection.
enum Event {
    Ended(Result<(), Broken>),
    /// We end it, for this reason.
    Close(&'static str),
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http2(#[from] evenkeel_http2::Error),
}

/// A connection with its streams.
struct Connection {
    io: Io,
    session: Session,
    streams: Streams,
    /// What the socket has not taken yet.
    rest: Bytes,
    /// Whether what it has taken may still be in a buffer of TLS.
    unflushed: bool,
}

/// Serves a connection until it ends, or until `turn`, when it is sent away.
pub(super) async fn serve(
    io: Io,
    address: Option<SocketAddr>,
    shared: Arc<Shared>,
    turn: impl Future<Output = ()> + Send,
) {
    let (peer, asked) = (Peer::new(address), CancellationToken::new());
    let scene = Scene { shared: shared.clone(), peer: peer.clone(), leaving: false };
    let mut connection = match Connection::new(io, Streams::new(scene, asked.clone())) {
        Ok(connection) => connection,
        Err(error) => return told(address, Err(error)),
    };
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
    peer.leave.cancel();
    if let Err(error) = connection.leave() {
        return told(address, Err(error));
    }
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

/// A client that breaks off is its own business.
fn told(peer: Option<SocketAddr>, ended: Result<(), Broken>) {
    if let Err(error) = ended {
        tracing::debug!(?peer, %error, "connection ended");
    }
}

// === impl Shared ===

impl Shared {
    /// With a bell of its own, which [`Shared::follow`] rings.
    pub(super) fn new(methods: Methods, gate: Option<Arc<Gate>>, metrics: TransportMetrics) -> Self {
        Self { methods, bell: Bell::default(), gate, metrics }
    }

    /// Tells the connections of snapshots, as long as there are any.
    pub(super) fn follow(&self) -> impl Future<Output = ()> + use<> {
        self.bell.clone().follow(self.methods.snapshots().clone())
    }
}

// === impl Connection ===

impl Connection {
    fn new(io: Io, streams: Streams) -> Result<Self, Broken> {
        Ok(Self { io, session: Session::server(&SETTINGS)?, streams, rest: Bytes::new(), unflushed: false })
    }

    /// Sends the client away; what remains to be said is said while it runs.
    fn leave(&mut self) -> Result<(), Broken> {
        self.streams.leave();
        Ok(self.session.shut_down()?)
    }

    /// Runs until the connection ends or there is a reason to end it.
    async fn run(&mut self, reason: impl Future<Output = &'static str>) -> Event {
        let reason = pin!(reason);
        let mut reason = Gated::new(reason);
        std::future::poll_fn(|context| {
            if let Poll::Ready(ended) = self.poll(context) {
                return Poll::Ready(Event::Ended(ended));
            }
            reason.poll(context, |reason, context| reason.as_mut().poll(context)).map(Event::Close)
        })
        .await
    }

    /// Reads, works and writes until there is nothing to do. Sockets see to it that others have their turn: they are not
    /// ready for ever (`tokio::task::coop`).
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        // Whatever this was woken for.
        let mut work = true;
        let mut readable = true;
        loop {
            if readable {
                match self.poll_read(context)? {
                    Poll::Ready(0) => return Poll::Ready(Ok(())),
                    Poll::Ready(_) => {}
                    Poll::Pending => readable = false,
                }
            }
            if work || self.streams.is_touched() {
                self.streams.work(context, &mut self.session)?;
            }
            work = false;
            let written = self.poll_write(context)?;
            if readable || self.streams.is_touched() {
                continue;
            }
            if written.is_ready() && self.session.is_over() {
                return Pin::new(&mut self.io).poll_shutdown(context).map_err(Broken::from);
            }
            return Poll::Pending;
        }
    }

    /// Reads once; how many bytes, none at the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        scratch::reading(|bytes| {
            let mut bytes = ReadBuf::new(bytes);
            ready!(Pin::new(&mut self.io).poll_read(context, &mut bytes))?;
            self.session.receive(bytes.filled(), &mut self.streams)?;
            Poll::Ready(Ok(bytes.filled().len()))
        })
    }

    /// Ready: all that there was to write has been written.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            while !self.rest.is_empty() {
                match ready!(Pin::new(&mut self.io).poll_write(context, &self.rest))? {
                    0 => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                    count => self.rest.advance(count),
                }
                if self.rest.is_empty() {
                    // It would keep its buffer.
                    self.rest = Bytes::new();
                }
            }
            if !self.session.wants_to_transmit() || !self.write_some(context)? {
                break;
            }
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(context))?;
            self.unflushed = false;
            self.io.expect_answer();
        }
        Poll::Ready(Ok(()))
    }

    /// Gathers some frames and writes them; what the socket does not take is the rest. Whether there was anything.
    fn write_some(&mut self, context: &mut Context<'_>) -> Result<bool, Broken> {
        scratch::writing(|bytes| {
            self.session.transmit(&mut self.streams, bytes)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let written = match Pin::new(&mut self.io).poll_write(context, bytes)? {
                Poll::Ready(count) => count,
                Poll::Pending => 0,
            };
            if let Some(rest @ [_, ..]) = bytes.get(written..) {
                self.rest = Bytes::copy_from_slice(rest);
            }
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests;
