// SPDX-License-Identifier: Apache-2.0
//! Laws that hold for every strategy in the registry. What tells them apart is in the files beside this one.

mod chi_square;
mod laws;
mod load_pickers;
mod measured;
mod turns;

use super::{Endpoints, Picker, Probe, Strategy, View};
use crate::rng::SplitMix64;

/// A view whose every part can be set.
struct Loads {
    in_flight: Vec<u64>,
    available: Vec<bool>,
    latency: Vec<Option<f64>>,
    probe: Vec<Option<Probe>>,
    hash: Option<u64>,
}

impl Loads {
    fn idle(count: usize) -> Self {
        Self {
            in_flight: vec![0; count],
            available: vec![true; count],
            latency: vec![None; count],
            probe: vec![None; count],
            hash: None,
        }
    }
}

impl View for Loads {
    fn in_flight(&self, endpoint: usize) -> u64 {
        self.in_flight[endpoint]
    }

    fn available(&self, endpoint: usize) -> bool {
        self.available[endpoint]
    }

    fn latency(&self, endpoint: usize) -> Option<f64> {
        self.latency[endpoint]
    }

    fn probe(&self, endpoint: usize) -> Option<Probe> {
        self.probe[endpoint]
    }

    fn hash(&self) -> Option<u64> {
        self.hash
    }
}

/// A picker of a strategy over endpoints with made-up addresses.
fn build(strategy: Strategy, weights: &[u32], seed: u64) -> Box<dyn Picker> {
    let ids: Vec<u64> = (0..weights.len() as u64).map(|i| i * 7 + 3).collect();
    strategy.build(Endpoints { weights, ids: &ids, seed })
}

/// How often each endpoint is picked when nothing changes between picks.
fn hits(picker: &dyn Picker, view: &Loads, picks: usize) -> Vec<u64> {
    let (mut rng, mut hits) = (SplitMix64::new(9), vec![0; view.in_flight.len()]);
    for _ in 0..picks {
        hits[picker.pick(view, &mut rng).unwrap()] += 1;
    }
    hits
}
