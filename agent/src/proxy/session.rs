// SPDX-License-Identifier: Apache-2.0
//! One HTTP/2 connection of a client.
//!
//! All its requests run in the connection's own task: a wake-up then polls the requests that have something to do and
//! flushes their frames in one write, where a task per request would cost a schedule and often a write each.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use h2::server::{Builder, Connection};
use tokio::time::{Sleep, sleep};

use super::{
    pool::{CONNECTION_WINDOW, HEADER_LIST, SEND_BUFFER, STREAM_WINDOW},
    request::{self, RequestGauge},
    socket::Socket,
    state::{Pod, Shared},
    stats::{Listed, count},
    upstream::Inherit,
};
use crate::store::Frontend;

/// Streams a client may have open. Envoy and most gRPC servers allow 100 to 1 000; a client that wants more opens another
/// connection. Bounds the memory that one connection can take.
const STREAMS: u32 = 1_024;
/// Streams reset by the client that still wait to be taken up: beyond it the connection is closed (rapid reset,
/// CVE-2023-44487). A client that cancels a burst of requests at once stays below.
const PENDING_RESETS: usize = 256;
/// Remembered locally reset streams, so that frames under way for them are not a connection error.
const LOCAL_RESETS: usize = 256;

/// How long a client may take from connecting to its first request before it is told to leave. A GOAWAY on a connection that
/// has just been opened takes the request away from under a client that is about to send it, and one that opens a connection
/// per request has no other.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(1);

/// What the requests of a connection share.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Arc<Pod>,
    /// The Service address that was dialled, for the look-up.
    pub(super) frontend: Frontend,
    /// The same, to be dialled.
    pub(super) destination: SocketAddr,
    pub(super) inherit: Inherit,
    pub(super) listed: Listed,
    retired: AtomicBool,
}

impl Session {
    pub(super) fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        frontend: Frontend,
        inherit: Inherit,
        listed: Listed,
    ) -> Self {
        let destination = SocketAddr::new(frontend.address, frontend.port);
        Self { shared, pod, frontend, destination, inherit, listed, retired: AtomicBool::new(false) }
    }

    /// Counts a request in.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGauge {
        count(&self.shared.stats.requests);
        count(&self.listed.connection.requests);
        RequestGauge::new(self)
    }

    /// Asks the client, by GOAWAY, to take a new connection for its next requests.
    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// Serves the connection until it ends. When the agent drains, or the session is retired, it says GOAWAY, not before its
    /// first request or [`FIRST_REQUEST_WITHIN`], and ends with its last stream.
    pub(super) async fn run(self: Arc<Self>, socket: Socket) -> Result<(), h2::Error> {
        let mut connection: Connection<Socket, Bytes> = engine().handshake(socket).await?;
        let mut requests = FuturesUnordered::new();
        let drain = self.shared.drain.clone();
        let mut drained = pin!(drain.cancelled());
        let mut newcomer = Some(pin!(sleep(FIRST_REQUEST_WITHIN)));
        let mut leaving = false;
        poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some(())) = requests.poll_next_unpin(cx) {}
                if !leaving
                    && (self.retired.load(Relaxed) || drained.as_mut().poll(cx).is_ready())
                    && !is_new(&mut newcomer, cx)
                {
                    leaving = true;
                    connection.graceful_shutdown();
                }
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        newcomer = None;
                        requests.push(request::serve(self.clone(), request, respond));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// Whether the first request may still come. Polled only once there is a reason to leave: until then nobody is woken for it.
fn is_new(newcomer: &mut Option<Pin<&mut Sleep>>, cx: &mut Context<'_>) -> bool {
    newcomer.as_mut().is_some_and(|wait| wait.as_mut().poll(cx).is_pending())
}

fn engine() -> Builder {
    let mut engine = Builder::new();
    engine
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_concurrent_reset_streams(LOCAL_RESETS);
    engine
}
