// SPDX-License-Identifier: Apache-2.0
//! `least-request`: the best of a few choices by requests in flight per weight; two choices unless told otherwise.
//!
//! Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001. Candidates are drawn by
//! weight and compared by load per weight; a tie goes to the first, so idle endpoints are picked exactly by weight.
//!
//! **Cost per pick:** one draw and one load read per choice, for any number of endpoints.
//!
//! **When it fails:** where requests in flight say nothing. An endpoint that fails fast looks idle (outlier detection is
//! the remedy, not this picker). At very low load all are idle, and the choice is a weighted random one. A node sees only
//! its own requests: with many nodes and few requests each, it is close to random. More choices even out held connections
//! better, but make many nodes with the same stale view rush to the same endpoint.

use super::{Picker, View, draw::Draw};
use crate::rng::Rng;

/// See the module.
#[derive(Debug)]
pub struct LeastRequest {
    draw: Draw,
    choices: u32,
}

impl LeastRequest {
    /// The number of choices that [`Self::new`] compares.
    pub const CHOICES: u32 = 2;

    /// The most it compares: beyond that, a search of all would be cheaper.
    pub const MOST_CHOICES: u32 = 64;

    /// A picker over endpoints of these weights, of two choices.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        Self::with_choices(weights, Self::CHOICES)
    }

    /// A picker that compares this many endpoints, 1 to [`Self::MOST_CHOICES`]; what lies outside is taken for the nearer
    /// end. One choice is `random`.
    #[must_use]
    pub fn with_choices(weights: &[u32], choices: u32) -> Self {
        Self { draw: Draw::new(weights), choices: choices.clamp(1, Self::MOST_CHOICES) }
    }
}

impl Picker for LeastRequest {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        let first = self.draw.first(view, rng)?;
        Some(lightest_of(&self.draw, first, self.choices - 1, view, rng))
    }
}

/// The endpoint with the least load per weight among `first` and `more` others drawn.
pub(super) fn lightest_of(draw: &Draw, first: usize, more: u32, view: &dyn View, rng: &mut dyn Rng) -> usize {
    let (mut best, mut load) = (first, None);
    for _ in 0..more {
        let Some(other) = draw.other(best, view, rng) else { continue };
        let (best_load, other_load) = (load.unwrap_or_else(|| view.in_flight(best)), view.in_flight(other));
        let other_is_lighter = u128::from(other_load) * u128::from(draw.weight(best))
            < u128::from(best_load) * u128::from(draw.weight(other));
        (best, load) = if other_is_lighter { (other, Some(other_load)) } else { (best, Some(best_load)) };
    }
    best
}
