// SPDX-License-Identifier: Apache-2.0
//! Laws that hold for every picker in the registry, and what tells them apart.

use super::{LeastRequest, Picker, RoundRobin, Strategy, View};
use crate::rng::SplitMix64;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

struct Loads {
    in_flight: Vec<u64>,
    available: Vec<bool>,
}

impl Loads {
    fn idle(count: usize) -> Self {
        Self { in_flight: vec![0; count], available: vec![true; count] }
    }
}

impl View for Loads {
    fn in_flight(&self, endpoint: usize) -> u64 {
        self.in_flight[endpoint]
    }

    fn available(&self, endpoint: usize) -> bool {
        self.available[endpoint]
    }
}

fn share(strategy: Strategy, weights: &[u32], picks: usize) -> Vec<f64> {
    let (picker, view, mut rng) =
        (strategy.build(weights, 5), Loads::idle(weights.len()), SplitMix64::new(9));
    let mut hits = vec![0usize; weights.len()];
    for _ in 0..picks {
        hits[picker.pick(&view, &mut rng).unwrap()] += 1;
    }
    hits.iter().map(|h| *h as f64 / picks as f64).collect()
}

#[test]
fn names_lead_to_strategies_and_back() {
    for (strategy, name) in Strategy::ALL {
        assert_eq!((Strategy::by_name(name), strategy.name()), (Some(strategy), name));
    }
    assert_eq!(Strategy::by_name("best"), None);
}

#[test]
fn idle_endpoints_are_picked_by_weight() {
    for (strategy, name) in Strategy::ALL {
        for (got, want) in share(strategy, &[1, 2, 5], 40_000).iter().zip([0.125, 0.25, 0.625]) {
            // Two distinct draws pull the shares of least-request together; a tie goes to the first, which is by weight.
            assert!((got - want).abs() < 0.01, "{name}: {got} instead of {want}");
        }
    }
}

#[test]
fn round_robin_takes_turns_and_spreads_heavy_endpoints() {
    let (picker, view, mut rng) = (RoundRobin::new(&[2, 1, 1], 0), Loads::idle(3), SplitMix64::new(1));
    let turns: Vec<_> = (0..8).map(|_| picker.pick(&view, &mut rng).unwrap()).collect();
    assert_eq!(turns, [0, 1, 2, 0, 0, 1, 2, 0]);
}

#[test]
fn least_request_avoids_a_busy_endpoint() {
    let (picker, mut view, mut rng) = (LeastRequest::new(&[1; 4]), Loads::idle(4), SplitMix64::new(2));
    view.in_flight[2] = 10;
    assert!((0..1_000).all(|_| picker.pick(&view, &mut rng) != Some(2)));
}

#[test]
fn least_request_keeps_loads_within_a_few_of_each_other() {
    let (picker, mut view, mut rng) = (LeastRequest::new(&[1; 10]), Loads::idle(10), SplitMix64::new(4));
    for _ in 0..10_000 {
        let picked = picker.pick(&view, &mut rng).unwrap();
        view.in_flight[picked] += 1;
    }
    let (min, max) = (view.in_flight.iter().min().unwrap(), view.in_flight.iter().max().unwrap());
    assert!(max - min <= 8, "{:?}", view.in_flight);
}

#[test]
fn huge_weights_neither_overflow_nor_starve_anyone() {
    for (strategy, _) in Strategy::ALL {
        let shares = share(strategy, &[u32::MAX, u32::MAX, 1], 1_000);
        assert!(shares[0] > 0.4 && shares[1] > 0.4);
    }
}

proptest! {
    #[test]
    fn only_available_endpoints_are_picked_and_one_always_is_if_there_is_one(
        available in prop::collection::vec(any::<bool>(), 0..30), seed in any::<u64>(), weight in 1u32..9,
    ) {
        for (strategy, name) in Strategy::ALL {
            let weights: Vec<u32> = (0..available.len() as u32).map(|i| i % weight + 1).collect();
            let view = Loads { in_flight: vec![0; available.len()], available: available.clone() };
            let picked = strategy.build(&weights, seed).pick(&view, &mut SplitMix64::new(seed));
            prop_assert_eq!(picked.is_some(), available.iter().any(|a| *a), "{}", name);
            prop_assert!(picked.is_none_or(|i| available[i]), "{}", name);
        }
    }
}
