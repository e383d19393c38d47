// SPDX-License-Identifier: Apache-2.0
//! `weighted-round-robin`: turns by weights that the endpoints' own load reports give.
//!
//! Source: gRFC A58. What an endpoint can do is the requests per second it serves, over how busy they make it; the weights
//! come from [`crate::report`]. The turns are static stride scheduling's ([`super::stride`]). Weights are an argument of
//! the construction: whoever collects reports builds a new picker about once a second (A58's `weight_update_period`), off
//! the hot path, and hands on the sequence of the old one, so that the rotation goes on where it was. A scheduler that
//! begins anew at each rebuild sends its first request to the same endpoint every time.
//!
//! **Cost per pick:** as `round-robin`: at most three atomic additions in the mean. No lock, no allocation.
//!
//! **When it fails:** it is as slow as the reports: within a second of an endpoint's stall it gets its full share, so
//! outlier detection has to stand before it. Where utilisation is not what limits (a lock, a downstream service), the
//! weights mean nothing. With fewer than two endpoints reporting it is `round-robin`.

use std::sync::{Arc, atomic::AtomicU64};

use super::{
    Picker, View,
    stride::{Stride, start},
};
use crate::rng::Rng;

/// See the module.
#[derive(Debug)]
pub struct WeightedRoundRobin {
    stride: Stride,
    sequence: Arc<AtomicU64>,
}

impl WeightedRoundRobin {
    /// A picker over endpoints of these weights that starts at a place given by `seed`.
    #[must_use]
    pub fn new(weights: &[u32], seed: u64) -> Self {
        Self::continuing(weights, Arc::new(AtomicU64::new(start(seed))))
    }

    /// A picker that goes on in the sequence of another one, which may still be in use.
    #[must_use]
    pub fn continuing(weights: &[u32], sequence: Arc<AtomicU64>) -> Self {
        Self { stride: Stride::new(weights), sequence }
    }

    /// The sequence, to be handed on to the picker that replaces this one.
    #[must_use]
    pub fn sequence(&self) -> Arc<AtomicU64> {
        self.sequence.clone()
    }
}

impl Picker for WeightedRoundRobin {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        self.stride.next(&self.sequence, view, rng)
    }
}
