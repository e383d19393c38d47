// SPDX-License-Identifier: Apache-2.0
//! `random`: a weighted random endpoint.
//!
//! One draw from an alias table (Vose 1991). Even in the long run, uneven at any moment: the busiest of n endpoints has about
//! log n / log log n times its share in flight. The yardstick for the others.

use super::{Picker, View, any_available};
use crate::{alias, rng::Rng};

/// See the module.
#[derive(Debug)]
pub struct Random {
    columns: Vec<alias::Column>,
}

impl Random {
    /// A picker over endpoints of these weights.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        Self { columns: alias::table(weights) }
    }
}

impl Picker for Random {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        let drawn = alias::draw(&self.columns, rng);
        if view.available(drawn) { Some(drawn) } else { any_available(self.columns.len(), view, rng) }
    }
}
