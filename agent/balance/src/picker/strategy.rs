// SPDX-License-Identifier: Apache-2.0
//! The registry of strategies: each by the name users write, with what it needs to know and how it is built.
//!
//! **Always true:** every strategy can be built from any endpoints, and picks without what it needs, as its file says;
//! whether it should is the caller's decision ([`Strategy::needs`]).

use super::{
    LeastRequest, Maglev, PeakEwma, Picker, Prequal, Random, RingHash, RoundRobin, WeightedRoundRobin,
};

/// The endpoints a picker chooses among, in the order of the indices it gives.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints<'a> {
    /// Relative weights; zero takes no share unless all are zero.
    pub weights: &'a [u32],
    /// Stable identities, one per weight: the same endpoint has the same one on every node and in every list, such as a
    /// hash of its address. Only strategies that pin requests use them. If there is not one per weight, the position stands
    /// for the endpoint, and any change of the list moves most pins.
    pub ids: &'a [u64],
    /// Decides where a rotation starts, so that many nodes do not start at the same endpoint. Pins do not depend on it.
    pub seed: u64,
}

impl<'a> Endpoints<'a> {
    /// Endpoints known by their position only.
    #[must_use]
    pub const fn unnamed(weights: &'a [u32], seed: u64) -> Self {
        Self { weights, ids: &[], seed }
    }

    /// Each (identity, weight), with the position where identities are not known.
    fn named(&self) -> Vec<(u64, u32)> {
        if self.ids.len() == self.weights.len() {
            return self.ids.iter().copied().zip(self.weights.iter().copied()).collect();
        }
        (0..).zip(self.weights.iter().copied()).collect()
    }
}

/// What a strategy needs of the view, or of the weights, beyond requests in flight and availability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// [`super::View::latency`].
    pub latency: bool,
    /// Weights that come from the endpoints' load reports ([`crate::report`]), renewed about once a second.
    pub reports: bool,
    /// [`super::View::hash`], and stable [`Endpoints::ids`].
    pub hash: bool,
    /// [`super::View::probe`].
    pub probes: bool,
}

impl Needs {
    /// Nothing.
    pub const NONE: Self = Self { latency: false, reports: false, hash: false, probes: false };
}

/// The strategies that can be built, by the name users write in `evenkeel.io/strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// [`LeastRequest`].
    LeastRequest,
    /// [`PeakEwma`].
    PeakEwma,
    /// [`WeightedRoundRobin`].
    WeightedRoundRobin,
    /// [`RoundRobin`].
    RoundRobin,
    /// [`Random`].
    Random,
    /// [`RingHash`].
    RingHash,
    /// [`Maglev`].
    Maglev,
    /// [`Prequal`].
    Prequal,
}

impl Strategy {
    /// Every strategy with its name: the registry.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::LeastRequest, "least-request"),
        (Self::PeakEwma, "peak-ewma"),
        (Self::WeightedRoundRobin, "weighted-round-robin"),
        (Self::RoundRobin, "round-robin"),
        (Self::Random, "random"),
        (Self::RingHash, "ring-hash"),
        (Self::Maglev, "maglev"),
        (Self::Prequal, "prequal"),
    ];

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

    /// What it needs to be more than its own fallback.
    #[must_use]
    pub const fn needs(self) -> Needs {
        match self {
            Self::LeastRequest | Self::RoundRobin | Self::Random => Needs::NONE,
            Self::PeakEwma => Needs { latency: true, ..Needs::NONE },
            Self::WeightedRoundRobin => Needs { reports: true, ..Needs::NONE },
            Self::RingHash | Self::Maglev => Needs { hash: true, ..Needs::NONE },
            Self::Prequal => Needs { probes: true, ..Needs::NONE },
        }
    }

    /// A picker over these endpoints.
    #[must_use]
    pub fn build(self, endpoints: Endpoints<'_>) -> Box<dyn Picker> {
        let Endpoints { weights, seed, .. } = endpoints;
        match self {
            Self::LeastRequest => Box::new(LeastRequest::new(weights)),
            Self::PeakEwma => Box::new(PeakEwma::new(weights)),
            Self::WeightedRoundRobin => Box::new(WeightedRoundRobin::new(weights, seed)),
            Self::RoundRobin => Box::new(RoundRobin::new(weights, seed)),
            Self::Random => Box::new(Random::new(weights)),
            Self::RingHash => Box::new(RingHash::new(&endpoints.named())),
            Self::Maglev => Box::new(Maglev::new(&endpoints.named())),
            Self::Prequal => Box::new(Prequal::new(weights)),
        }
    }
}
