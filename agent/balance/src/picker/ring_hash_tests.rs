// SPDX-License-Identifier: Apache-2.0
//! Laws of the ring (shares, stability, independence of order) and of the bound.

use super::*;
use crate::rng::SplitMix64;
use proptest::prelude::*;

/// A view of loads and of one key.
struct Loads {
    in_flight: Vec<u64>,
    gone: Vec<usize>,
    hash: Option<u64>,
}

impl Loads {
    fn idle(count: usize) -> Self {
        Self { in_flight: vec![0; count], gone: Vec::new(), hash: None }
    }
}

impl View for Loads {
    fn in_flight(&self, endpoint: usize) -> u64 {
        self.in_flight[endpoint]
    }

    fn available(&self, endpoint: usize) -> bool {
        !self.gone.contains(&endpoint)
    }

    fn hash(&self) -> Option<u64> {
        self.hash
    }
}

fn ring(endpoints: &[(u64, u32)], bound: u32) -> RingHash {
    RingHash::with_bound(endpoints, bound)
}

/// Who serves each of `keys` keys when nothing is in flight, by id.
fn owners(endpoints: &[(u64, u32)], keys: u64) -> Vec<u64> {
    let (picker, mut view) = (ring(endpoints, BOUND_PERCENT), Loads::idle(endpoints.len()));
    let mut rng = SplitMix64::new(1);
    (0..keys)
        .map(|k| {
            view.hash = Some(k);
            endpoints[picker.pick(&view, &mut rng).unwrap()].0
        })
        .collect()
}

fn even(ids: impl IntoIterator<Item = u64>) -> Vec<(u64, u32)> {
    ids.into_iter().map(|id| (id, 1)).collect()
}

/// Places `keys` requests that stay in flight and returns the loads.
fn place(picker: &RingHash, count: usize, keys: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let (mut view, mut rng) = (Loads::idle(count), SplitMix64::new(2));
    for key in keys {
        view.hash = Some(key);
        let picked = picker.pick(&view, &mut rng).unwrap();
        view.in_flight[picked] += 1;
    }
    view.in_flight
}

#[test]
fn a_key_stays_with_its_endpoint_whatever_the_order_of_the_list() {
    let there = even(0..50);
    let back: Vec<_> = there.iter().rev().copied().collect();
    assert_eq!(owners(&there, 5_000), owners(&back, 5_000));
}

#[test]
fn keys_are_shared_by_weight_within_the_noise_of_the_virtual_nodes() {
    let endpoints: Vec<(u64, u32)> = (0..40).map(|id| (id, if id < 20 { 100 } else { 300 })).collect();
    let owners = owners(&endpoints, 200_000);
    let of_heavy = owners.iter().filter(|id| **id >= 20).count() as f64 / owners.len() as f64;
    assert!((of_heavy - 0.75).abs() < 0.02, "{of_heavy}");
    for (id, _) in &endpoints[20..] {
        let share = owners.iter().filter(|o| *o == id).count() as f64 / owners.len() as f64 / (0.75 / 20.0);
        assert!((0.8..1.25).contains(&share), "endpoint {id} has {share} of its share");
    }
}

#[test]
fn a_loss_moves_only_the_lost_endpoints_keys_also_among_unequal_weights() {
    let before: Vec<(u64, u32)> = (0..100).map(|id| (id, 70 + (id % 30) as u32)).collect();
    let after: Vec<_> = before.iter().copied().filter(|(id, _)| *id != 42).collect();
    for (was, is) in owners(&before, 50_000).into_iter().zip(owners(&after, 50_000)) {
        assert!(was == is || was == 42);
    }
}

#[test]
fn of_two_endpoints_with_one_id_the_first_serves() {
    let picker = ring(&[(7, 1), (7, 9), (8, 1)], BOUND_PERCENT);
    let (mut view, mut rng) = (Loads::idle(3), SplitMix64::new(3));
    assert!((0..1_000).all(|_| picker.pick(&view, &mut rng) != Some(1)));
    view.gone = vec![0, 2];
    assert_eq!(picker.pick(&view, &mut rng), Some(1));
}

#[test]
fn nobody_holds_more_than_its_bound_under_held_requests() {
    for (endpoints, requests) in [(10u64, 1_000u64), (100, 5_000), (7, 7)] {
        let loads = place(&ring(&even(0..endpoints), 125), endpoints as usize, 0..requests);
        let cap = (requests * 125).div_ceil(endpoints * 100);
        assert!(loads.iter().all(|l| *l <= cap), "cap {cap}: {loads:?}");
    }
}

#[test]
fn one_hot_key_spills_over_instead_of_drowning_its_endpoint() {
    let loads = place(&ring(&even(0..10), 125), 10, std::iter::repeat_n(5, 1_000));
    assert!(loads.iter().all(|l| *l <= 125), "{loads:?}");
    let unbound = place(&ring(&even(0..10), u32::MAX), 10, std::iter::repeat_n(5, 1_000));
    assert!(unbound.iter().any(|l| *l > 500), "{unbound:?}");
}

#[test]
fn the_bound_follows_the_weights() {
    let picker = ring(&[(0, 1), (1, 1), (2, 8)], 125);
    let loads = place(&picker, 3, 0..1_000);
    assert!(loads[0] <= 125 && loads[1] <= 125 && loads[2] >= 750, "{loads:?}");
}

#[test]
fn the_bound_counts_only_endpoints_that_are_available() {
    let (picker, mut rng) = (ring(&even(0..10), 125), SplitMix64::new(4));
    let mut view = Loads { in_flight: vec![0; 10], gone: (0..8).collect(), hash: None };
    let mut picks = |view: &mut Loads, hash| {
        view.hash = Some(hash);
        picker.pick(view, &mut rng).unwrap()
    };
    let idle: Vec<usize> = (0..100).map(|key| picks(&mut view, key)).collect();
    (view.in_flight[8], view.in_flight[9]) = (50, 50);
    (0..3).for_each(|key| _ = picks(&mut view, key));
    // Both hold exactly their fair share of 100: had the eight counted, nobody would have room and keys would wander.
    assert_eq!((0..100).map(|key| picks(&mut view, key)).collect::<Vec<_>>(), idle);
}

#[test]
fn a_total_that_is_out_of_date_catches_up_within_a_round() {
    let (picker, mut rng) = (ring(&even(0..1_000), 125), SplitMix64::new(5));
    let mut view = Loads { in_flight: vec![3; 1_000], gone: Vec::new(), hash: None };
    (0..250).for_each(|_| _ = picker.pick(&view, &mut rng));
    assert_eq!(picker.total.read(), (3_000, 1_000));
    view.in_flight = vec![1; 1_000];
    view.gone = (0..500).collect();
    (0..250).for_each(|_| _ = picker.pick(&view, &mut rng));
    assert_eq!(picker.total.read(), (500, 500));
}

#[test]
fn extreme_loads_and_weights_do_not_overflow() {
    let (picker, mut rng) = (ring(&[(1, u32::MAX), (2, 1), (3, u32::MAX)], u32::MAX), SplitMix64::new(6));
    let view = Loads { in_flight: vec![u64::MAX, u64::MAX, 0], gone: Vec::new(), hash: Some(u64::MAX) };
    assert!((0..100).all(|_| picker.pick(&view, &mut rng).is_some()));
}

#[test]
fn very_many_endpoints_have_a_ring_of_bounded_size() {
    let endpoints = even(0..70_000);
    let picker = ring(&endpoints, 125);
    assert!(picker.ring.len() as u64 <= MAX_RING && picker.ring.len() >= 70_000);
}

proptest! {
    #[test]
    fn adding_one_of_n_equal_endpoints_moves_about_one_nth_of_the_keys_and_all_to_it(
        count in 2u64..150, seed in any::<u64>(),
    ) {
        let before = even((0..count).map(|i| i.wrapping_mul(seed | 1)));
        let new = count.wrapping_mul(seed | 1);
        let after: Vec<_> = [(new, 1)].into_iter().chain(before.iter().copied()).collect();
        let moves: Vec<_> = owners(&before, 4_000).into_iter().zip(owners(&after, 4_000)).filter(|(a, b)| a != b).collect();
        prop_assert!(moves.iter().all(|(_, to)| *to == new));
        // What the virtual nodes leave uneven, and the noise of 4 000 keys.
        let (moved, want) = (moves.len() as f64, 4_000.0 / (count + 1) as f64);
        prop_assert!((moved - want).abs() < 0.4 * want + 5.0 * want.sqrt(), "{} moved, {} expected", moved, want);
    }

    #[test]
    fn the_index_finds_what_a_search_finds(ids in prop::collection::vec(any::<u64>(), 1..200), key in any::<u64>()) {
        let picker = ring(&even(ids), 125);
        let found = picker.ring.partition_point(|e| e >> 32 < key >> 32);
        prop_assert_eq!(picker.start(key), found % picker.ring.len());
    }
}
