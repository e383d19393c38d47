// SPDX-License-Identifier: Apache-2.0
//! `least-request`: power of two choices on requests in flight per weight.
//!
//! Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001. Candidates are drawn by
//! weight from an alias table and compared by load per weight. A pick costs two draws and two load reads, for any number of
//! endpoints. It fails where requests in flight say nothing: an endpoint that fails fast looks idle (outlier detection is the
//! remedy, not this picker), and at very low load all are idle and the choice is a weighted random one.

use super::{Picker, View, any_available};
use crate::{alias, rng::Rng};

/// See the module.
#[derive(Debug)]
pub struct LeastRequest {
    columns: Vec<alias::Column>,
    weights: Vec<u32>,
}

/// How often a draw may hit the first candidate again or an unavailable endpoint before a linear search takes over.
const REDRAWS: usize = 4;

impl LeastRequest {
    /// A picker over endpoints of these weights; zero counts as one when all are zero.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        Self { columns: alias::table(weights), weights: weights.iter().map(|w| (*w).max(1)).collect() }
    }

    /// An available endpoint other than `not`, by weight.
    fn candidate(&self, not: Option<usize>, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        (0..REDRAWS).map(|_| alias::draw(&self.columns, rng)).find(|i| Some(*i) != not && view.available(*i))
    }
}

impl Picker for LeastRequest {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        let Some(a) = self.candidate(None, view, rng) else {
            return any_available(self.columns.len(), view, rng);
        };
        let Some(b) = self.candidate(Some(a), view, rng) else { return Some(a) };
        let (load_a, load_b) = (view.in_flight(a), view.in_flight(b));
        let b_is_lighter = u128::from(load_b) * u128::from(self.weights[a])
            < u128::from(load_a) * u128::from(self.weights[b]);
        Some(if b_is_lighter { b } else { a })
    }
}
