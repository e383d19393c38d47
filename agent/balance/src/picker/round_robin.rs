// SPDX-License-Identifier: Apache-2.0
//! `round-robin`: each endpoint in turn, as often as its weight says.
//!
//! Weighted turns by static stride scheduling ([`super::stride`] has the source): equal weights are taken in order, heavy
//! endpoints are not taken in bursts.
//!
//! **Cost per pick:** one atomic addition with equal weights, at most three in the mean with any others.
//!
//! **When it fails:** it knows nothing of load: a slow endpoint gets its full share and queues. Every node rotates on its
//! own, so that many nodes with few requests each are no more even than random. While some endpoints are unavailable
//! their turns are passed over, and a pick may end in a linear search.

use std::sync::atomic::AtomicU64;

use super::{
    Picker, View,
    stride::{Stride, start},
};
use crate::rng::Rng;

/// See the module.
#[derive(Debug)]
pub struct RoundRobin {
    stride: Stride,
    sequence: AtomicU64,
}

impl RoundRobin {
    /// A picker over endpoints of these weights that starts at a place given by `seed`.
    #[must_use]
    pub fn new(weights: &[u32], seed: u64) -> Self {
        Self { stride: Stride::new(weights), sequence: AtomicU64::new(start(seed)) }
    }
}

impl Picker for RoundRobin {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        self.stride.next(&self.sequence, view, rng)
    }
}
