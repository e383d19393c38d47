// SPDX-License-Identifier: Apache-2.0
//! Candidates drawn by weight: what the pickers that compare a few endpoints have in common.
//!
//! A draw is one random number and one column of an alias table ([`crate::alias`]), for any number of endpoints. A draw
//! that hits an unavailable endpoint is repeated a few times, then a linear search takes over: with half of the endpoints
//! unavailable one pick in sixteen gets there.

use super::{View, any_available};
use crate::{alias, rng::Rng};

/// How often a draw may hit what it must not before it is given up.
const REDRAWS: usize = 4;

/// A weighted draw over the endpoints.
#[derive(Debug)]
pub(super) struct Draw {
    columns: Vec<alias::Column>,
    weights: Vec<u32>,
}

impl Draw {
    /// Over endpoints of these weights. An endpoint of weight zero is drawn only when all are zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        Self { columns: alias::table(weights), weights: weights.to_vec() }
    }

    /// The weight of an endpoint to compare loads by. At least one: a weight of zero says that it takes no share, and it is
    /// compared only when it has to serve all the same.
    pub(super) fn weight(&self, endpoint: usize) -> u32 {
        self.weights[endpoint].max(1)
    }

    /// The mean of [`Self::weight`]; one when there are no endpoints.
    pub(super) fn mean_weight(&self) -> f64 {
        let total: u64 = self.weights.iter().map(|w| u64::from((*w).max(1))).sum();
        if total == 0 { 1.0 } else { total as f64 / self.weights.len() as f64 }
    }

    /// An available endpoint, by weight. `None` only when there is none.
    pub(super) fn first(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        self.redraw(rng, |i| view.available(i)).or_else(|| last_resort(&self.weights, view, rng))
    }

    /// Another available endpoint than `not`, by weight. `None` when a few draws did not hit one.
    pub(super) fn other(&self, not: usize, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        self.redraw(rng, |i| i != not && view.available(i))
    }

    fn redraw(&self, rng: &mut dyn Rng, fits: impl Fn(usize) -> bool) -> Option<usize> {
        (0..REDRAWS).map(|_| alias::draw(&self.columns, rng)).find(|i| fits(*i))
    }
}

/// Any available endpoint, one with a weight if there is one.
pub(super) fn last_resort(weights: &[u32], view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
    let weighted = Weighted { view, weights };
    any_available(weights.len(), &weighted, rng).or_else(|| any_available(weights.len(), view, rng))
}

/// The view without the endpoints of weight zero.
struct Weighted<'a> {
    view: &'a dyn View,
    weights: &'a [u32],
}

impl View for Weighted<'_> {
    fn in_flight(&self, endpoint: usize) -> u64 {
        self.view.in_flight(endpoint)
    }

    fn available(&self, endpoint: usize) -> bool {
        self.weights[endpoint] > 0 && self.view.available(endpoint)
    }
}
