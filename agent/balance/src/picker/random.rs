// SPDX-License-Identifier: Apache-2.0
//! `random`: a weighted random endpoint. The yardstick for the others.
//!
//! Source: Vose, "A Linear Algorithm for Generating Random Numbers with a Given Distribution", IEEE TSE 1991.
//!
//! **Cost per pick:** one draw from an alias table, for any number of endpoints.
//!
//! **When it fails:** even in the long run, it is uneven at any moment: the busiest of n endpoints has about
//! log n / log log n times its share in flight. It sees no load: a slow endpoint gets its full share and queues.

use super::{Picker, View, draw::Draw};
use crate::rng::Rng;

/// See the module.
#[derive(Debug)]
pub struct Random {
    draw: Draw,
}

impl Random {
    /// A picker over endpoints of these weights.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        Self { draw: Draw::new(weights) }
    }
}

impl Picker for Random {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        self.draw.first(view, rng)
    }
}
