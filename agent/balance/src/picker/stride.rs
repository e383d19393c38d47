// SPDX-License-Identifier: Apache-2.0
//! Static stride scheduling: weighted turns without a queue, a lock or a layout of the whole cycle.
//!
//! Source: the scheduler of gRPC's `weighted_round_robin` (gRFC A58; `static_stride_scheduler` in gRPC's core), itself
//! after Waldspurger and Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management", MIT 1995. One
//! number counts up. Its remainder by the number of entries says whose turn it is, its quotient which generation it is.
//! An entry takes its turn in a generation if adding its weight once per generation overflows in that generation: an
//! entry of the largest weight takes every turn, one of half that weight every second.
//!
//! Two things differ from gRPC's, whose passes over light entries cost time, and which bounds that by cutting weights off
//! at ten times the mean. Here an endpoint of more than twice the mean weight is **split** into several equal entries, so
//! that a third of all turns are taken whatever the weights, and no weight is cut off. Entries are ordered, and their
//! first turns are spread, by multiples of the golden ratio (Weyl's sequence), so that the light ones neither stand in a
//! row nor take their turns in the same generation.
//!
//! **Always true:** over 2^31 generations each endpoint takes turns exactly by its scaled weight, which differs from its
//! weight by less than one part in 2^30 of the mean weight; none with a weight starves. Equal weights are taken in order.
//!
//! **Cost:** per pick at most three turns in the mean, each one atomic addition and one division; built in n log n.
//!
//! **When it fails:** threads that pick at the same time share the counter's cache line. Two schedulers that start at the
//! same number run in step: see [`start`].

use std::sync::atomic::{AtomicU64, Ordering};

use super::{View, draw::last_resort};
use crate::rng::{Rng, SplitMix64};

/// What overflows: the weight of the heaviest entries.
const WHOLE: u32 = 1 << 31;

/// The golden ratio's fraction of `WHOLE`, odd so that its multiples do not meet.
const GOLDEN: u32 = 0x4f1b_bcdd;

/// As many turns are tried before a linear search takes over: a limit for picks among mostly unavailable endpoints. With
/// all available, one pick in four hundred thousand gets there at worst.
const TURNS: usize = 32;

/// A share of an endpoint's turns.
#[derive(Clone, Copy, Debug)]
struct Entry {
    endpoint: u32,
    /// 1 to `WHOLE`.
    weight: u32,
}

/// The turns of one set of weights.
#[derive(Debug)]
pub(super) struct Stride {
    entries: Vec<Entry>,
    weights: Vec<u32>,
}

impl Stride {
    /// Endpoints of weight zero take no turns, unless all are zero: then all are equal.
    pub(super) fn new(weights: &[u32]) -> Self {
        Self { entries: entries(weights), weights: weights.to_vec() }
    }

    /// The next available endpoint by `sequence`. `None` only when none is available.
    pub(super) fn next(&self, sequence: &AtomicU64, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        let turns = if self.entries.is_empty() { 0 } else { TURNS };
        (0..turns)
            .filter_map(|_| self.turn(sequence.fetch_add(1, Ordering::Relaxed)))
            .find(|endpoint| view.available(*endpoint))
            .or_else(|| last_resort(&self.weights, view, rng))
    }

    /// Who takes the turn of this number, if anybody.
    fn turn(&self, number: u64) -> Option<usize> {
        let count = self.entries.len() as u64;
        let (index, generation) = ((number % count) as u32, (number / count) as u32);
        let Entry { endpoint, weight } = self.entries[index as usize];
        let phase = weight.wrapping_mul(generation).wrapping_add(index.wrapping_mul(GOLDEN)) % WHOLE;
        (phase >= WHOLE - weight).then_some(endpoint as usize)
    }
}

/// Where a sequence starts, by `seed`: anywhere in any generation, so that pickers rebuilt together on many nodes do not
/// all begin with the same endpoint.
pub(super) fn start(seed: u64) -> u64 {
    SplitMix64::new(seed).next_u64() >> 8
}

fn entries(weights: &[u32]) -> Vec<Entry> {
    if weights.windows(2).all(|pair| pair[0] == pair[1]) {
        return (0..weights.len() as u32).map(|endpoint| Entry { endpoint, weight: WHOLE }).collect();
    }
    let taking = weights.iter().filter(|w| **w > 0).count() as u128;
    let total: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    // As many as leave each at most twice the mean.
    let pieces = |weight: u32| (u128::from(weight) * taking).div_ceil(2 * total) as u32;
    let piece = |weight: u32| f64::from(weight) / f64::from(pieces(weight).max(1));
    let largest = weights.iter().map(|w| piece(*w)).fold(0.0, f64::max);
    // With the place of each in the order, a fraction of 2^32.
    let mut placed: Vec<(u32, Entry)> = Vec::with_capacity(weights.len() * 3 / 2 + 1);
    for (endpoint, weight) in (0u32..).zip(weights).filter(|(_, weight)| **weight > 0) {
        let scaled = (piece(*weight) / largest * f64::from(WHOLE)) as u32;
        let entry = Entry { endpoint, weight: scaled.clamp(1, WHOLE) };
        let (pieces, place) =
            (u64::from(pieces(*weight)), u64::from(endpoint.wrapping_mul(GOLDEN) % WHOLE) << 1);
        placed.extend((0..pieces).map(|k| ((((k << 32) + place) / pieces) as u32, entry)));
    }
    placed.sort_unstable_by_key(|(place, entry)| (*place, entry.endpoint));
    placed.into_iter().map(|(_, entry)| entry).collect()
}
