// SPDX-License-Identifier: Apache-2.0
//! `round-robin`: each endpoint in turn, as often as its weight says.
//!
//! The turns are laid out once, each endpoint's spread evenly over the cycle (turn k of weight w is due at (2k + 1) / 2w of
//! it), so that heavy endpoints are not taken in bursts; equal weights are taken in order. A pick is one atomic addition.
//! Weights are scaled down to a cycle of about `CYCLE` turns. It knows nothing of load: a slow endpoint gets its full share.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Picker, View};
use crate::rng::Rng;

/// The longest cycle laid out; weights are exact to its inverse.
const CYCLE: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub struct RoundRobin {
    turns: Vec<u32>,
    next: AtomicUsize,
}

impl RoundRobin {
    /// A picker over endpoints of these weights that starts at a place given by `seed`.
    #[must_use]
    pub fn new(weights: &[u32], seed: u64) -> Self {
        let turns = lay_out(&scale(weights));
        let start = if turns.is_empty() { 0 } else { (seed % turns.len() as u64) as usize };
        Self { turns, next: AtomicUsize::new(start) }
    }
}

impl Picker for RoundRobin {
    fn pick(&self, view: &dyn View, _rng: &mut dyn Rng) -> Option<usize> {
        (0..self.turns.len())
            .map(|_| self.turns[self.next.fetch_add(1, Ordering::Relaxed) % self.turns.len()] as usize)
            .find(|i| view.available(*i))
    }
}

/// Weights whose sum is at most `CYCLE` (or one each, for more endpoints than that), in lowest terms.
fn scale(weights: &[u32]) -> Vec<u64> {
    let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    if total == 0 {
        return vec![1; weights.len()];
    }
    let divisor = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))).max(1);
    if total / divisor <= CYCLE as u64 {
        return weights.iter().map(|w| u64::from(*w) / divisor).collect();
    }
    let spare = (CYCLE as u64).saturating_sub(weights.len() as u64);
    weights
        .iter()
        .map(|w| u64::from(*w > 0) + (u128::from(*w) * u128::from(spare) / u128::from(total)) as u64)
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Even weights take turns in order; others are interleaved.
fn lay_out(weights: &[u64]) -> Vec<u32> {
    if weights.iter().all(|w| *w == 1) {
        return (0..weights.len() as u32).collect();
    }
    let total: u64 = weights.iter().sum();
    // Ordered by when each turn is due: turn k of weight w falls at (2k + 1) / 2w of the cycle.
    let mut due: Vec<(u128, u32)> = Vec::with_capacity(total as usize);
    for (i, weight) in weights.iter().enumerate() {
        due.extend((0..*weight).map(|k| ((u128::from(2 * k + 1) << 64) / u128::from(2 * weight), i as u32)));
    }
    due.sort_unstable();
    due.into_iter().map(|(_, i)| i).collect()
}
