// SPDX-License-Identifier: Apache-2.0
//! The laws.

use std::time::Duration;

use proptest::prelude::{
    Just, ProptestConfig, Strategy as Generator, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::{Loads, Probe, Strategy, View as _, build, chi_square::follows, hits};
use crate::{
    picker::{Endpoints, Needs},
    rng::SplitMix64,
};

#[test]
fn names_lead_to_strategies_and_back() {
    for (strategy, name) in Strategy::ALL {
        assert_eq!((Strategy::by_name(name), strategy.name()), (Some(strategy), name));
    }
    assert_eq!(Strategy::by_name("best"), None);
}

#[test]
fn the_strategies_that_need_nothing_are_these() {
    let content: Vec<_> =
        Strategy::ALL.into_iter().filter(|(s, _)| s.needs() == Needs::NONE).map(|(_, name)| name).collect();
    assert_eq!(content, ["least-request", "round-robin", "random"]);
}

#[test]
fn without_endpoints_nothing_is_picked() {
    for (strategy, name) in Strategy::ALL {
        let picker = build(strategy, &[], 1);
        assert_eq!(picker.pick(&Loads::idle(0), &mut SplitMix64::new(1)), None, "{name}");
    }
}

#[test]
fn one_endpoint_gets_everything() {
    for (strategy, name) in Strategy::ALL {
        for weight in [0, 1, u32::MAX] {
            let picker = build(strategy, &[weight], 1);
            assert_eq!(hits(&*picker, &Loads::idle(1), 100), [100], "{name}");
        }
    }
}

#[test]
fn a_pin_holds() {
    for (strategy, name) in Strategy::ALL.into_iter().filter(|(s, _)| s.needs().hash) {
        let picker = build(strategy, &[1; 20], 1);
        for hash in 0..50 {
            let view = Loads { hash: Some(hash), ..Loads::idle(20) };
            assert_eq!(hits(&*picker, &view, 20).iter().filter(|h| **h > 0).count(), 1, "{name}");
        }
    }
}

#[test]
fn endpoints_known_by_position_only_are_served_too() {
    for (strategy, name) in Strategy::ALL {
        let picker = strategy.build(Endpoints::unnamed(&[1; 10], 3));
        assert!(hits(&*picker, &Loads::idle(10), 2_000).iter().all(|h| *h > 0), "{name}");
    }
}

#[test]
fn huge_weights_neither_overflow_nor_starve_anyone() {
    for (strategy, name) in Strategy::ALL {
        let picker = build(strategy, &[u32::MAX, u32::MAX, u32::MAX, 1], 5);
        let mut view = Loads::idle(4);
        view.in_flight = vec![u64::MAX - 1; 4];
        view.latency = vec![Some(f64::MAX); 4];
        for hits in &hits(&*picker, &view, 3_000)[..3] {
            assert!((700..1_300).contains(hits), "{name}: {hits}");
        }
        // Nobody else is left, and the light one still serves.
        view.available = vec![false, false, false, true];
        assert_eq!(super::hits(&*picker, &view, 10)[3], 10, "{name}");
    }
}

#[test]
fn a_weight_of_zero_is_picked_only_when_nobody_else_is_available() {
    for (strategy, name) in Strategy::ALL {
        let picker = build(strategy, &[3, 0, 5, 0], 5);
        let mut view = Loads::idle(4);
        assert!([1, 3].iter().all(|i| hits(&*picker, &view, 2_000)[*i] == 0), "{name}");
        view.available = vec![false, true, true, true];
        assert_eq!(hits(&*picker, &view, 2_000)[2], 2_000, "{name}");
        view.available = vec![false, false, false, true];
        assert_eq!(hits(&*picker, &view, 10)[3], 10, "{name}");
    }
}

#[test]
fn weights_that_are_all_zero_are_equal() {
    for (strategy, name) in Strategy::ALL {
        let hits = hits(&*build(strategy, &[0; 4], 5), &Loads::idle(4), 4_000);
        assert!(hits.iter().all(|h| (600..1_600).contains(h)), "{name}: {hits:?}");
    }
}

#[test]
fn what_is_not_a_number_is_not_known() {
    for (strategy, name) in Strategy::ALL.into_iter().filter(|(s, _)| !s.needs().hash) {
        let mut view = Loads::idle(4);
        view.latency = vec![Some(f64::NAN), Some(-1e300), Some(f64::NEG_INFINITY), None];
        assert!(follows(&hits(&*build(strategy, &[1; 4], 5), &view, 4_000), &[1; 4]), "{name}");
    }
}

fn weights() -> impl Generator<Value = Vec<u32>> {
    let alike = prop::collection::vec(1u32..20, 2..40);
    let far_apart = prop::collection::vec(prop_oneof![Just(1u32), Just(50u32)], 2..20);
    prop_oneof![alike, far_apart]
}

/// An endpoint in any state.
fn state() -> impl Generator<Value = (u32, bool, u64, Option<f64>, Option<Probe>)> {
    let probe = (any::<u64>(), any::<u64>(), 0u64..3_000).prop_map(|(in_flight, latency_ns, ms)| Probe {
        in_flight,
        latency_ns,
        age: Duration::from_millis(ms),
    });
    let weight = prop_oneof![Just(0u32), 1u32..9, any::<u32>()];
    (weight, any::<bool>(), any::<u64>(), prop::option::of(any::<f64>()), prop::option::of(probe))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn only_available_endpoints_are_picked_and_one_always_is_if_there_is_one(
        states in prop::collection::vec(state(), 0..30), seed in any::<u64>(), hash in prop::option::of(any::<u64>()),
    ) {
        let mut view = Loads { hash, ..Loads::idle(0) };
        let mut weights = Vec::new();
        for (weight, available, in_flight, latency, probe) in states {
            weights.push(weight);
            view.available.push(available);
            view.in_flight.push(in_flight);
            view.latency.push(latency);
            view.probe.push(probe);
        }
        for (strategy, name) in Strategy::ALL {
            let (picker, mut rng) = (build(strategy, &weights, seed), SplitMix64::new(seed));
            for _ in 0..5 {
                let picked = picker.pick(&view, &mut rng);
                prop_assert_eq!(picked.is_some(), view.available.iter().any(|a| *a), "{}", name);
                prop_assert!(picked.is_none_or(|i| view.available(i)), "{}", name);
            }
        }
    }

    #[test]
    fn idle_endpoints_are_picked_by_weight(weights in weights(), seed in any::<u64>()) {
        for (strategy, name) in Strategy::ALL {
            let got = hits(&*build(strategy, &weights, seed), &Loads::idle(weights.len()), 10_000);
            if strategy.needs().hash {
                // Places on a ring or in a table are fixed, so their shares are only about right: see their own tests.
                let mean = weights.iter().sum::<u32>() / weights.len() as u32;
                let served = got.iter().zip(&weights).all(|(hits, weight)| *hits > 0 || *weight < mean);
                prop_assert!(served, "{}: {:?}", name, got);
            } else {
                prop_assert!(follows(&got, &weights), "{}: {:?}", name, got);
            }
        }
    }

    #[test]
    fn equal_latencies_and_equal_probes_change_no_share(weights in weights(), ns in 1u64..1_000_000_000) {
        let mut view = Loads::idle(weights.len());
        view.latency = vec![Some(ns as f64); weights.len()];
        view.probe = vec![Some(Probe { in_flight: 0, latency_ns: ns, age: Duration::ZERO }); weights.len()];
        for (strategy, name) in Strategy::ALL.into_iter().filter(|(s, _)| !s.needs().hash) {
            let got = hits(&*build(strategy, &weights, 7), &view, 10_000);
            prop_assert!(follows(&got, &weights), "{}: {:?}", name, got);
        }
    }

    #[test]
    fn the_same_seeds_give_the_same_picks(weights in weights(), seed in any::<u64>()) {
        for (strategy, name) in Strategy::ALL {
            let view = Loads::idle(weights.len());
            let runs = [(); 2].map(|()| {
                let (picker, mut rng) = (build(strategy, &weights, seed), SplitMix64::new(seed));
                (0..50).map(|_| picker.pick(&view, &mut rng)).collect::<Vec<_>>()
            });
            prop_assert_eq!(&runs[0], &runs[1], "{}", name);
        }
    }
}
