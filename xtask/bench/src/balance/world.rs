// SPDX-License-Identifier: Apache-2.0
//! A view as busy as a real one: every pick goes in flight, the oldest ends, loads and everything else that a picker
//! may ask for are there. Weights are uneven, so that no picker has it easy.

use std::{cell::Cell, time::Duration};

use evenkeel_balance::{
    picker::{Probe, View},
    rng::{Rng as _, SplitMix64, mix},
};

/// Requests in flight per endpoint, on average.
const IN_FLIGHT: usize = 4;

/// Endpoints with ids and weights.
pub(super) struct Endpoints {
    pub(super) ids: Vec<u64>,
    pub(super) weights: Vec<u32>,
}

impl Endpoints {
    /// Weights from 50 to 149, as load reports give them.
    pub(super) fn new(count: usize) -> Self {
        let mut rng = SplitMix64::new(count as u64);
        let weights = (0..count).map(|_| 50 + rng.below(100) as u32).collect();
        Self { ids: (0..count as u64).map(mix).collect(), weights }
    }
}

/// What is known of the endpoints. Nobody is unavailable.
pub(super) struct World {
    loads: Vec<Cell<u64>>,
    latencies: Vec<f64>,
    /// Who has the requests in flight, the oldest at `oldest`.
    held: Vec<usize>,
    oldest: usize,
    hash: u64,
}

impl World {
    pub(super) fn new(count: usize) -> Self {
        let mut rng = SplitMix64::new(7);
        let world = Self {
            loads: (0..count).map(|_| Cell::new(0)).collect(),
            latencies: (0..count).map(|_| 1e6 + rng.below(1_000_000) as f64).collect(),
            held: (0..count * IN_FLIGHT).map(|i| i % count).collect(),
            oldest: 0,
            hash: 0,
        };
        world.held.iter().for_each(|e| world.change(*e, 1));
        world
    }

    /// A request goes to `endpoint`, the oldest ends, the next has another key.
    pub(super) fn send(&mut self, endpoint: usize) {
        self.change(endpoint, 1);
        self.change(self.held[self.oldest], u64::MAX);
        self.held[self.oldest] = endpoint;
        self.oldest = if self.oldest + 1 == self.held.len() { 0 } else { self.oldest + 1 };
        self.hash = self.hash.wrapping_add(1);
    }

    fn change(&self, endpoint: usize, by: u64) {
        let load = &self.loads[endpoint];
        load.set(load.get().wrapping_add(by));
    }
}

impl View for World {
    fn in_flight(&self, endpoint: usize) -> u64 {
        self.loads[endpoint].get()
    }

    fn available(&self, _: usize) -> bool {
        true
    }

    fn latency(&self, endpoint: usize) -> Option<f64> {
        Some(self.latencies[endpoint])
    }

    fn probe(&self, endpoint: usize) -> Option<Probe> {
        let (in_flight, latency) = (self.loads[endpoint].get(), self.latencies[endpoint]);
        Some(Probe { in_flight, latency_ns: latency as u64, age: Duration::from_millis(10) })
    }

    fn hash(&self) -> Option<u64> {
        Some(self.hash)
    }
}
