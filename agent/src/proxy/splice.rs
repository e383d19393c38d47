// SPDX-License-Identifier: Apache-2.0
//! Bytes both ways: for what is not HTTP/2, and for Services that are not balanced any more.
//!
//! The endpoint is picked once per connection, and the connection counts as in flight there while it lives. An end of
//! stream is passed on as such (half-close); a reset on one side becomes a reset on the other.

use tokio::io::copy_bidirectional_with_sizes;

use super::{
    accept::Accepted,
    pick::{Choice, Target, Tried, pick},
    socket::Socket,
    stats::count,
    upstream::{self, OwnPort},
};
use crate::store::{InFlight, Outcome};

/// Copy buffer of each direction. Larger ones save system calls on bulk traffic, and cost memory per connection.
const BUFFER: usize = 32 * 1024;

/// The other end of a spliced connection.
pub(super) struct Upstream {
    pub(super) socket: Socket,
    /// The endpoint; `None` for the Service address itself.
    pub(super) target: Option<Target>,
    own_port: Option<OwnPort>,
}

/// Dials an endpoint for a connection, another one where that fails. `None` when nobody took it.
pub(super) async fn connect(accepted: &Accepted) -> Option<Upstream> {
    let stats = &accepted.shared.stats;
    let mut tried = Tried::default();
    while !tried.exhausted() {
        let target = match pick(&accepted.shared, &accepted.frontend, &tried) {
            Choice::Endpoint(target) => target,
            Choice::NotOurs => return connect_past(accepted).await,
            Choice::Nobody(reason) => {
                tracing::debug!(pod = %accepted.pod.name, %reason, "a connection could not be placed");
                break;
            }
        };
        tried.add(target.address);
        match upstream::dial(&accepted.pod, target.address, accepted.inherit, &target.load).await {
            Ok(socket) => return Some(Upstream { socket, target: Some(target), own_port: None }),
            Err(error) => tracing::debug!(pod = %accepted.pod.name, %error, "trying another endpoint"),
        }
        count(&stats.retries);
    }
    count(&stats.unserved);
    None
}

async fn connect_past(accepted: &Accepted) -> Option<Upstream> {
    let address = accepted.destination();
    match upstream::dial_past(&accepted.pod, address, accepted.inherit).await {
        Ok((socket, own_port)) => Some(Upstream { socket, target: None, own_port: Some(own_port) }),
        Err(error) => {
            tracing::debug!(pod = %accepted.pod.name, %error, "passing a connection on failed");
            count(&accepted.shared.stats.unserved);
            None
        }
    }
}

/// Copies until both directions have ended.
pub(super) async fn run(accepted: &Accepted, mut client: Socket, upstream: Option<Upstream>) {
    count(&accepted.shared.stats.spliced);
    let upstream = match upstream {
        Some(upstream) => Some(upstream),
        None => connect(accepted).await,
    };
    let Some(Upstream { mut socket, target, own_port }) = upstream else {
        client.reset_on_close();
        return;
    };
    let mut guard: Option<InFlight> = target.as_ref().map(|target| target.load.begin());
    let _listed = accepted.list(target.as_ref().map(|t| t.address), false);
    let outcome = match copy_bidirectional_with_sizes(&mut client, &mut socket, BUFFER, BUFFER).await {
        Ok(_) => Outcome::Success,
        // Which side failed is not told; a client that resets is as likely as a server that does.
        Err(_) => Outcome::Cancelled,
    };
    if outcome != Outcome::Success {
        client.reset_on_close();
        socket.reset_on_close();
    }
    if let Some(guard) = &mut guard {
        guard.finish(outcome);
    }
    drop(own_port);
}
