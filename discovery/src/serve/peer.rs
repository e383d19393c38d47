// SPDX-License-Identifier: Apache-2.0
//! Who is at the other end of a connection.
//!
//! What must always be true: a client that does not read for [`PATIENCE`] is noticed, whichever of its ADS streams waits.
//! Deliberately not here: what is done about it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Extensions;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpConnectInfo;

use super::MAX_STREAMS_PER_CONNECTION;
use crate::registry::{Reading, Registration};

/// How long a client may not read what is there for it, and how often that is looked at.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_secs(15);

/// Who is at the other end. In the extensions of every request that tonic serves.
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
    pub(super) async fn does_not_read(&self) {
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

    fn streams(&self) -> MutexGuard<'_, Vec<Reading>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
