// SPDX-License-Identifier: Apache-2.0
//! The choice of an endpoint: the snapshot's picker, seeing what was tried already and what is in back-off.
//!
//! The snapshot is read anew for each choice, so that a second attempt profits from a list that has changed meanwhile.

use std::{net::SocketAddr, sync::Arc};

use evenkeel_balance::picker::View;

use super::state::Shared;
use crate::{
    clock::monotonic_ns,
    store::{Cluster, Endpoint, EndpointLoad, Frontend},
};

/// Most endpoints that one request or connection is tried on. Refusals are fast; with timeouts it bounds the wait.
pub(super) const ATTEMPTS: usize = 5;

/// The endpoints tried so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    addresses: [Option<SocketAddr>; ATTEMPTS],
    count: usize,
}

impl Tried {
    /// Notes an endpoint.
    pub(super) fn add(&mut self, address: SocketAddr) {
        if let Some(slot) = self.addresses.get_mut(self.count) {
            *slot = Some(address);
            self.count += 1;
        }
    }

    /// Whether no further one may be tried.
    pub(super) const fn exhausted(&self) -> bool {
        self.count == ATTEMPTS
    }

    fn contains(&self, address: SocketAddr) -> bool {
        self.addresses[..self.count].contains(&Some(address))
    }
}

/// The endpoint chosen.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its load.
    pub(super) load: Arc<EndpointLoad>,
}

/// What to do with a request or connection to a Service address.
pub(super) enum Choice {
    /// Send it there.
    Endpoint(Target),
    /// The address is not balanced any more.
    NotOurs,
    /// Nobody can take it; the sentence says why.
    Nobody(String),
}

/// Chooses among the endpoints of a Service address, without those tried. Endpoints in back-off are used only when there is
/// no other: a refusal is no worse than not trying.
pub(super) fn pick(shared: &Shared, frontend: &Frontend, tried: &Tried) -> Choice {
    let snapshot = shared.store.current();
    let Some((service, port, cluster)) = snapshot.frontend(frontend) else { return Choice::NotOurs };
    let (mut rng, now) = (shared.rng(), monotonic_ns());
    for even_backing_off in [false, true] {
        let view = Candidates { cluster, tried, now, even_backing_off };
        if let Some(picked) = cluster.picker.pick(&view, &mut rng) {
            let endpoint = view.endpoint(picked);
            return Choice::Endpoint(Target { address: endpoint.spec.address, load: endpoint.load.clone() });
        }
    }
    let name = &service.spec.name;
    Choice::Nobody(match (cluster.active().len(), tried.count) {
        (0, _) => format!("{name}:{} has no endpoint ({})", port.number, cluster.plan.reason.code()),
        (_, tried) => format!("{name}:{}: none of {tried} endpoints tried took the request", port.number),
    })
}

struct Candidates<'a> {
    cluster: &'a Cluster,
    tried: &'a Tried,
    now: u64,
    even_backing_off: bool,
}

impl Candidates<'_> {
    fn endpoint(&self, picked: usize) -> &Endpoint {
        &self.cluster.endpoints[self.cluster.plan.active[picked]]
    }
}

impl View for Candidates<'_> {
    fn in_flight(&self, picked: usize) -> u64 {
        self.endpoint(picked).load.in_flight()
    }

    fn available(&self, picked: usize) -> bool {
        let endpoint = self.endpoint(picked);
        (self.even_backing_off || !endpoint.load.backing_off(self.now))
            && !self.tried.contains(endpoint.spec.address)
    }
}
