// SPDX-License-Identifier: Apache-2.0
//! Pickers: who takes the next request.
//!
//! A picker is built off the hot path from the weights of the endpoints that serve, and is immutable: picking takes
//! `&self`, so that all threads share one. What changes between two picks (load, latency, availability) is read through
//! a [`View`]. A pick does not allocate and takes no lock.
//!
//! True of every picker, and tested over the registry: only an available endpoint is picked; one is picked whenever there
//! is one, even if its weight is zero; endpoints that nothing tells apart are picked by weight; what a view says that
//! cannot be (a latency of NaN, say) is taken for "not known". [`Strategy`] is the registry: a new strategy is one file
//! here and its lines there.
//!
//! Deliberately not here: who is in the set at all (priorities, zones, subsets, outlier detection come before), and the
//! measuring of what a view tells ([`crate::latency`], [`crate::report`]).

mod draw;
mod hashing;
mod least_request;
mod maglev;
mod peak_ewma;
mod prequal;
mod random;
mod ring_hash;
mod round_robin;
mod strategy;
mod stride;
mod weighted_round_robin;

use std::time::Duration;

pub use least_request::LeastRequest;
pub use maglev::{MAX_SIZE, Maglev, SizeError};
pub use peak_ewma::PeakEwma;
pub use prequal::Prequal;
pub use random::Random;
pub use ring_hash::{BOUND_PERCENT, RingHash};
pub use round_robin::RoundRobin;
pub use strategy::{Endpoints, Needs, Strategy};
pub use weighted_round_robin::WeightedRoundRobin;

use crate::rng::Rng;

/// What a picker may know of the endpoints at the moment of a pick. Indices are those of the weights it was built from.
pub trait View {
    /// Requests in flight to an endpoint.
    fn in_flight(&self, endpoint: usize) -> u64;

    /// Whether the endpoint may be picked at all: not tried already, not in back-off.
    fn available(&self, endpoint: usize) -> bool;

    /// The latency expected of the endpoint now, in nanoseconds, penalties for errors included: see
    /// [`crate::latency::PeakEwma`]. `None`: nothing has been measured, or nothing measures.
    fn latency(&self, _endpoint: usize) -> Option<f64> {
        None
    }

    /// The endpoint's last answer to a probe. `None`: it has not answered one, or nobody probes.
    fn probe(&self, _endpoint: usize) -> Option<Probe> {
        None
    }

    /// The hash of what pins the request (a header, a source address). `None`: nothing does, and any endpoint will do.
    fn hash(&self) -> Option<u64> {
        None
    }
}

/// What an endpoint said of itself when probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Requests in flight at the server, from all of its clients.
    pub in_flight: u64,
    /// The latency that the server expects of a request that arrives at this load, in nanoseconds.
    pub latency_ns: u64,
    /// How long ago it said so.
    pub age: Duration,
}

/// Chooses an endpoint for one request.
pub trait Picker: Send + Sync + std::fmt::Debug {
    /// The endpoint, or `None` when none is available. Reads of the view only what it needs of its candidates.
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize>;
}

/// The first available endpoint from a random place on: what a picker falls back on when its own candidates are not
/// available. Linear, but only runs when endpoints fail.
fn any_available(count: usize, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let start = rng.below(count);
    (start..count).chain(0..start).find(|i| view.available(*i))
}

#[cfg(test)]
mod tests;
