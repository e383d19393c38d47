// SPDX-License-Identifier: Apache-2.0
//! `round-robin` and `weighted-round-robin`: turns by static stride.

use std::sync::atomic::AtomicU64;

use proptest::prelude::{Just, any, prop, prop_assert, prop_oneof, proptest};

use super::{Loads, Strategy, build, chi_square::follows, hits};
use crate::{
    picker::{Picker as _, RoundRobin, WeightedRoundRobin, stride::Stride},
    report,
    rng::SplitMix64,
};

fn turns(weights: &[u32], seed: u64, count: usize) -> Vec<usize> {
    let (picker, view, mut rng) =
        (RoundRobin::new(weights, seed), Loads::idle(weights.len()), SplitMix64::new(1));
    (0..count).map(|_| picker.pick(&view, &mut rng).unwrap()).collect()
}

#[test]
fn equal_endpoints_take_turns_in_order() {
    let turns = turns(&[7; 5], 3, 1_000);
    assert!(turns.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 5), "{turns:?}");
}

#[test]
fn a_heavy_endpoint_is_not_taken_in_bursts() {
    let turns = turns(&[2, 1, 1], 0, 1_000);
    assert!(turns.windows(2).all(|pair| pair != [1, 1] && pair != [2, 2]));
    // Half of all turns are its, so that in any four in a row it has one to three.
    assert!(turns.windows(4).all(|four| (1..=3).contains(&four.iter().filter(|e| **e == 0).count())));
    assert_eq!(turns.iter().filter(|e| **e == 0).count(), 500);
}

#[test]
fn a_single_heavy_endpoint_among_many_light_ones_leaves_no_gap() {
    let mut weights = vec![1; 1_000];
    weights[500] = 1_000;
    let turns = turns(&weights, 0, 20_000);
    // Half of all turns are its. The longest run without it, and of it:
    let runs = turns.chunk_by(|a, b| (*a == 500) == (*b == 500));
    assert!(runs.map(<[usize]>::len).max().unwrap() < 30);
}

#[test]
fn the_turns_of_an_unavailable_endpoint_go_to_all_others_alike() {
    let mut view = Loads::idle(4);
    view.available[1] = false;
    let hits = hits(&RoundRobin::new(&[1; 4], 0), &view, 4_000);
    assert!(hits[1] == 0 && [0, 2, 3].iter().all(|i| hits[*i].abs_diff(1_333) <= 1), "{hits:?}");
}

#[test]
fn a_lone_available_endpoint_of_many_is_found() {
    for (strategy, name) in Strategy::ALL {
        let mut view = Loads::idle(5_000);
        view.available = vec![false; 5_000];
        view.available[4_321] = true;
        assert_eq!(hits(&*build(strategy, &[1; 5_000], 1), &view, 3)[4_321], 3, "{name}");
    }
}

/// The bias of schedulers that begin anew with each rebuild: all nodes send their first request to the same endpoint.
#[test]
fn pickers_rebuilt_at_once_do_not_all_start_at_the_same_endpoint() {
    for weights in [vec![1; 20], vec![8; 20], (1..=20).collect::<Vec<u32>>()] {
        // Those that pin requests begin nowhere.
        for (strategy, name) in Strategy::ALL.into_iter().filter(|(s, _)| !s.needs().hash) {
            let (view, mut first) = (Loads::idle(20), vec![0u64; 20]);
            for node in 0..4_000 {
                let picked = build(strategy, &weights, node).pick(&view, &mut SplitMix64::new(node * 31));
                first[picked.unwrap()] += 1;
            }
            // By weight would be a tenth for the heaviest of the last set.
            assert!(first.iter().all(|h| *h < 600), "{name}: {first:?}");
            if weights[0] == weights[19] {
                assert!(follows(&first, &weights), "{name}: {first:?}");
            }
        }
    }
}

/// The same bias over time: weights are renewed every second, and few requests come in between.
#[test]
fn a_picker_rebuilt_after_every_few_picks_still_follows_the_weights() {
    let weights = [5, 1, 1, 3, 10, 1, 1, 1];
    let (view, mut rng, mut hits) = (Loads::idle(8), SplitMix64::new(1), vec![0; 8]);
    let mut picker = WeightedRoundRobin::new(&weights, 7);
    for pick in 0..8_000 {
        if pick % 3 == 0 {
            picker = WeightedRoundRobin::continuing(&weights, picker.sequence());
        }
        hits[picker.pick(&view, &mut rng).unwrap()] += 1;
    }
    assert!(follows(&hits, &weights), "{hits:?}");
}

#[test]
fn reported_weights_become_shares() {
    let reported = [Some(100.0), Some(300.0), None, Some(f64::INFINITY)];
    let picker = WeightedRoundRobin::new(&report::weights(&reported, &[1; 4]), 3);
    assert_eq!(hits(&picker, &Loads::idle(4), 8_000), [1_000, 3_000, 2_000, 2_000]);
}

proptest! {
    #[test]
    fn shares_are_within_a_few_turns_of_the_weights_from_any_start(
        weights in prop::collection::vec(prop_oneof![1u32..6, 1u32..1_000, Just(100_000u32)], 1..40), start in any::<u32>(),
    ) {
        let (stride, sequence) = (Stride::new(&weights), AtomicU64::new(u64::from(start)));
        let (view, mut rng, mut hits) = (Loads::idle(weights.len()), SplitMix64::new(1), vec![0u64; weights.len()]);
        let picks = 10_000;
        for _ in 0..picks {
            hits[stride.next(&sequence, &view, &mut rng).unwrap()] += 1;
        }
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        for (hit, weight) in hits.iter().zip(&weights) {
            let want = f64::from(picks) * f64::from(*weight) / total;
            // One turn per entry of the endpoint is begun or not at either end, and the others' are the measure of time.
            let entries = (f64::from(*weight) * weights.len() as f64 / 2.0 / total).ceil();
            let slack = 2.0 * entries + 2.0 + want / f64::from(picks) * 2.0 * weights.len() as f64;
            prop_assert!((*hit as f64 - want).abs() <= slack, "{} instead of {}", hit, want);
        }
    }

    #[test]
    fn a_pick_takes_few_turns_whatever_the_weights(
        weights in prop::collection::vec(prop_oneof![Just(1u32), 1u32..100, Just(u32::MAX)], 1..300),
    ) {
        let (stride, sequence) = (Stride::new(&weights), AtomicU64::new(0));
        let (view, mut rng) = (Loads::idle(weights.len()), SplitMix64::new(1));
        for _ in 0..3_000 {
            stride.next(&sequence, &view, &mut rng);
        }
        let turns = sequence.into_inner();
        prop_assert!(turns <= 3 * 3_000 + 3 * weights.len() as u64, "{}", turns);
    }
}
