// SPDX-License-Identifier: Apache-2.0
//! Pickers: who takes the next request.
//!
//! A picker is built off the hot path from the weights of the endpoints that serve, and is immutable: picking takes
//! `&self`, so that all threads share one. What changes between two picks (load, availability) is read through a
//! [`View`]. A pick does not allocate.

mod least_request;
mod random;
mod round_robin;

pub use least_request::LeastRequest;
pub use random::Random;
pub use round_robin::RoundRobin;

use crate::rng::Rng;

/// What a picker may know of the endpoints at the moment of a pick. Indices are those of the weights it was built from.
pub trait View {
    /// Requests in flight to an endpoint.
    fn in_flight(&self, endpoint: usize) -> u64;

    /// Whether the endpoint may be picked at all: not tried already, not in back-off.
    fn available(&self, endpoint: usize) -> bool;
}

/// Chooses an endpoint for one request.
pub trait Picker: Send + Sync + std::fmt::Debug {
    /// The endpoint, or `None` when none is available. Calls [`View::in_flight`] only for candidates.
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize>;
}

/// The strategies that can be built, by the name users write in `evenkeel.io/strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// [`LeastRequest`].
    LeastRequest,
    /// [`RoundRobin`].
    RoundRobin,
    /// [`Random`].
    Random,
}

impl Strategy {
    /// Every strategy with its name: the registry.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::LeastRequest, "least-request"), (Self::RoundRobin, "round-robin"), (Self::Random, "random")];

    /// The strategy of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(s, _)| *s)
    }

    /// The name users write.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(s, _)| *s == self).map_or("", |(_, n)| n)
    }

    /// A picker over endpoints of these weights. `seed` decides where a rotation starts, so that many nodes do not start at
    /// the same endpoint.
    #[must_use]
    pub fn build(self, weights: &[u32], seed: u64) -> Box<dyn Picker> {
        match self {
            Self::LeastRequest => Box::new(LeastRequest::new(weights)),
            Self::RoundRobin => Box::new(RoundRobin::new(weights, seed)),
            Self::Random => Box::new(Random::new(weights)),
        }
    }
}

/// The first available endpoint from a random place on: what a picker falls back on when its own candidates are not
/// available. Linear, but only runs when endpoints fail.
fn any_available(count: usize, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
    if count == 0 {
        return None;
    }
    let start = rng.below(count);
    (0..count).map(|i| (start + i) % count).find(|i| view.available(*i))
}

#[cfg(test)]
mod tests;
