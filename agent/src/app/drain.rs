// SPDX-License-Identifier: Apache-2.0
//! The way out: hand back what was registered, finish what is in flight.
//!
//! First the listeners go out of the maps, so that new connects are balanced in the kernel or by a newer agent; only then
//! clients are told (GOAWAY): told before, they would connect to this agent again. Requests in flight finish, for a limited
//! time. Programs, maps and links stay: connections that the kernel placed never notice, and neither does a connect.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, interval, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    pods::{self, Role},
    proxy::Proxy,
};

/// How often it is looked whether the last connection has closed.
const LOOK: Duration = Duration::from_millis(20);

/// What takes part in it.
pub(super) struct Drain {
    pub(super) role: watch::Sender<Role>,
    /// What this agent becomes: why it goes.
    pub(super) becomes: Role,
    pub(super) pods: pods::Handle,
    pub(super) proxy: Proxy,
    /// Tells the proxy.
    pub(super) go_away: CancellationToken,
    /// How long requests may take.
    pub(super) timeout: Duration,
}

impl Drain {
    /// Drains; returns the number of client connections that were not done in time.
    pub(super) async fn run(self) -> u64 {
        let Self { role, becomes, pods, proxy, go_away, timeout } = self;
        let until = Instant::now() + timeout;
        role.send_replace(becomes);
        // Connects that were handed over before may still have to be accepted.
        if timeout_at(until, pods.drained()).await.is_err() {
            tracing::warn!("pods were still listening at the end of the drain");
        }
        go_away.cancel();
        let mut looks = interval(LOOK);
        while proxy.open_connections() > 0 {
            if timeout_at(until, looks.tick()).await.is_err() {
                break;
            }
        }
        proxy.open_connections()
    }
}
