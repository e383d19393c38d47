// SPDX-License-Identifier: Apache-2.0
//! Opening an HTTP/2 connection, and keeping one open for as long as the client runs.
//!
//! A connection counts as open when the peer has answered a PING: `connect` alone is answered by the kernel even if the
//! process that should accept hangs. A [`Slot`] always tries to have a connection: one that is closed, refuses new
//! streams (GOAWAY) or leaves a keepalive PING unanswered is replaced at once. What must always be true: a planned
//! replacement loses no request, because the old connection serves until the new one is open, and then finishes its
//! streams.
//!
//! Deliberately not here: what is sent on the connections.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::peer::messages::NewConnectionErrorKind as Kind;

/// How often a PING is sent. gRPC clients that are set to notice dead peers use seconds.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
/// Between failed attempts: a refused connect must show up in the figures, not in the load.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// An open connection.
pub(super) struct Open {
    pub(super) sender: SendRequest<Bytes>,
    pings: PingPong,
    driver: JoinHandle<()>,
}

/// Why a connection could not be opened.
pub(super) type OpenError = (Kind, String);

/// Connects and waits until the peer has answered in HTTP/2, all within `limit`.
pub(super) async fn open(target: SocketAddr, limit: Duration) -> Result<Open, OpenError> {
    let deadline = Instant::now() + limit;
    let socket = match timeout_at(deadline, TcpStream::connect(target)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err((not_connected(&error), error.to_string())),
        Err(_) => return Err((Kind::ConnectTimeout, format!("no connection in {limit:?}"))),
    };
    let _no_harm_if_refused = socket.set_nodelay(true);
    let cut_off = |error: h2::Error| (Kind::HandshakeReset, error.to_string());
    let (sender, mut connection) = h2::client::handshake(socket).await.map_err(cut_off)?;
    let Some(mut pings) = connection.ping_pong() else {
        return Err((Kind::HandshakeReset, "no ping handle".to_owned()));
    };
    let driver = spawn_local(async move {
        // Its end is all that matters; requests see the cause themselves.
        let _cause = connection.await;
    });
    match timeout_at(deadline, pings.ping(Ping::opaque())).await {
        Ok(Ok(_)) => Ok(Open { sender, pings, driver }),
        Ok(Err(error)) => Err(cut_off(error)),
        Err(_) => {
            driver.abort();
            Err((Kind::HandshakeTimeout, format!("connected, but no answer in {limit:?}")))
        }
    }
}

/// A reset in answer to a SYN is reported as "refused". "Reset" means that the connection stood: a connect that does not
/// block learns of both at once, when it looks.
fn not_connected(error: &std::io::Error) -> Kind {
    if error.kind() == std::io::ErrorKind::ConnectionReset { Kind::HandshakeReset } else { Kind::Connect }
}

/// A place for one long-lived connection.
#[derive(Debug, Default)]
pub(super) struct Slot {
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Counts connections; tells a request whether the one it saw fail has been replaced already.
    epoch: Cell<u64>,
    /// Signalled when `sender` has changed.
    changed: Notify,
    /// Asks for a new connection.
    replace: Notify,
    /// The pods that have answered on this slot in the current interval.
    pub(super) pods: RefCell<BTreeSet<String>>,
}

impl Slot {
    /// A handle on the connection and its epoch; waits while there is none.
    pub(super) async fn sender(&self) -> (SendRequest<Bytes>, u64) {
        loop {
            let changed = self.changed.notified();
            if let Some(sender) = &*self.sender.borrow() {
                return (sender.clone(), self.epoch.get());
            }
            changed.await;
        }
    }

    /// The connection of `epoch` takes no more streams: withdraw it and open another.
    pub(super) fn refuses(&self, epoch: u64) {
        if self.epoch.get() == epoch && self.sender.borrow_mut().take().is_some() {
            self.replace.notify_one();
        }
    }

    /// Opens a new connection while the old one goes on, and waits until it serves.
    pub(super) async fn renew(&self) {
        let before = self.epoch.get();
        self.replace.notify_one();
        while self.epoch.get() == before || self.sender.borrow().is_none() {
            self.changed.notified().await;
        }
    }

    fn publish(&self, sender: SendRequest<Bytes>) {
        // The old sender goes here; its connection closes itself when its last stream has ended.
        *self.sender.borrow_mut() = Some(sender);
        self.epoch.set(self.epoch.get() + 1);
        // Whoever has asked for a new connection until now has got it.
        let _granted = self.replace.notified().now_or_never();
        self.changed.notify_waiters();
    }
}

/// Keeps a connection in `slot` for ever: opened within `limit`, given up when a PING is not answered in `keepalive`.
/// `opened` hears of every attempt with the time it began.
pub(super) async fn keep(
    slot: &Slot,
    target: SocketAddr,
    limit: Duration,
    keepalive: Duration,
    opened: impl Fn(Instant, Result<(), OpenError>),
) {
    loop {
        let began = Instant::now();
        match open(target, limit).await {
            Ok(connection) => {
                opened(began, Ok(()));
                slot.publish(connection.sender);
                watch(slot, connection.pings, connection.driver, keepalive).await;
            }
            Err(error) => {
                opened(began, Err(error));
                sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Returns when the connection has to be replaced.
async fn watch(slot: &Slot, mut pings: PingPong, mut driver: JoinHandle<()>, keepalive: Duration) {
    let unanswered = pin!(async {
        loop {
            sleep(KEEPALIVE_EVERY).await;
            if !matches!(timeout(keepalive, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
                return;
            }
        }
    });
    tokio::select! {
        // Before the others: on a broken connection all of them may be ready.
        biased;
        _ended = &mut driver => drop(slot.sender.borrow_mut().take()),
        () = slot.replace.notified() => {}
        () = unanswered => {
            drop(slot.sender.borrow_mut().take());
            // Nothing will come of its streams: let their requests fail now, as a client library does.
            driver.abort();
        }
    }
}
