// SPDX-License-Identifier: Apache-2.0
//! `least-request`: load decides, and more choices decide better.

use proptest::prelude::{prop, prop_assert, proptest};

use super::{Loads, chi_square::follows, hits};
use crate::{
    picker::{LeastRequest, Picker as _},
    rng::SplitMix64,
};

/// Loads after as many requests as `picks` were sent and none has ended.
fn filled(weights: &[u32], choices: u32, picks: usize) -> Vec<u64> {
    let picker = LeastRequest::with_choices(weights, choices);
    let (mut view, mut rng) = (Loads::idle(weights.len()), SplitMix64::new(4));
    for _ in 0..picks {
        let picked = picker.pick(&view, &mut rng).unwrap();
        view.in_flight[picked] += 1;
    }
    view.in_flight
}

fn gap(loads: &[u64]) -> u64 {
    loads.iter().max().unwrap() - loads.iter().min().unwrap()
}

#[test]
fn least_request_avoids_a_busy_endpoint() {
    let (picker, mut view, mut rng) = (LeastRequest::new(&[1; 4]), Loads::idle(4), SplitMix64::new(2));
    view.in_flight[2] = 10;
    // It is taken only when all four redraws of the second choice hit the first one again.
    assert!((0..1_000).filter(|_| picker.pick(&view, &mut rng) == Some(2)).count() < 5);
}

#[test]
fn least_request_keeps_loads_within_a_few_of_each_other() {
    assert!(gap(&filled(&[1; 10], 2, 10_000)) <= 8);
}

#[test]
fn more_choices_keep_loads_closer() {
    let gaps = [1, 2, 4, 8].map(|choices| gap(&filled(&[1; 50], choices, 50_000)));
    assert!(gaps.is_sorted_by(|a, b| a >= b), "{gaps:?}");
    assert!(gaps[0] > 100 && gaps[1] > gaps[2] && gaps[3] <= 3, "{gaps:?}");
}

#[test]
fn one_choice_is_random_and_absurd_numbers_are_taken_for_the_nearer_end() {
    for choices in [0, 1] {
        let mut view = Loads::idle(3);
        view.in_flight = vec![1_000, 0, 0];
        assert!(follows(&hits(&LeastRequest::with_choices(&[1, 2, 5], choices), &view, 8_000), &[1, 2, 5]));
    }
    let hits = hits(&LeastRequest::with_choices(&[1; 3], u32::MAX), &Loads::idle(3), 300);
    assert_eq!(hits.iter().sum::<u64>(), 300);
}

proptest! {
    #[test]
    fn held_loads_follow_the_weights(weights in prop::collection::vec(1u32..10, 2..20), choices in 2u32..6) {
        let picks = 5_000;
        let total: u32 = weights.iter().sum();
        for (load, weight) in filled(&weights, choices, picks).iter().zip(&weights) {
            let want = picks as f64 * f64::from(*weight) / f64::from(total);
            // Loads per weight differ by a few requests.
            prop_assert!((*load as f64 - want).abs() <= 12.0 * f64::from(*weight).max(1.0), "{} for {}", load, want);
        }
    }
}
