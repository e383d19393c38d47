// SPDX-License-Identifier: Apache-2.0
//! Laws of the aperture: even coverage, bounded sets, bounded churn.

use std::collections::BTreeSet;

use super::*;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

fn even(count: u64) -> Vec<(u64, u32)> {
    (0..count).map(|id| (id, 1)).collect()
}

fn aperture(ordinal: u32, clients: u32, servers: &[(u64, u32)], least: usize) -> Aperture {
    Aperture::new(Place::new(ordinal, clients).unwrap(), servers, least)
}

/// Ids in the aperture.
fn ids(ordinal: u32, clients: u32, servers: &[(u64, u32)], least: usize) -> BTreeSet<u64> {
    aperture(ordinal, clients, servers, least).shares.iter().map(|s| servers[s.server].0).collect()
}

#[test]
fn three_clients_of_four_servers_share_the_edges() {
    // The ring is 12 long: servers of 3, clients step by 4. One server at least needs one step: a whole one and a
    // third.
    let servers = even(4);
    let lengths: Vec<Vec<u128>> =
        (0..3).map(|c| aperture(c, 3, &servers, 1).shares.iter().map(|s| s.length).collect()).collect();
    assert_eq!(lengths, [vec![3, 1], vec![2, 2], vec![1, 3]]);
}

#[test]
fn few_servers_are_in_every_aperture_with_their_weights() {
    let servers = [(1, 5), (2, 1), (3, 10)];
    let aperture = aperture(2, 7, &servers, LEAST);
    for share in &aperture.shares {
        assert_eq!(share.length, u128::from(servers[share.server].1) * 7);
    }
    let mut weights = aperture.weights();
    weights.sort_unstable();
    assert_eq!(weights, [6_554, 32_768, 65_536]);
}

#[test]
fn one_client_has_all_servers_and_no_server_leaves_nothing() {
    assert_eq!(ids(0, 1, &even(1_000), 12).len(), 1_000);
    assert_eq!(aperture(0, 3, &[], 12), Aperture::default());
    assert!(Aperture::default().weights().is_empty());
}

#[test]
fn zero_weights_are_covered_only_when_all_are_zero() {
    assert_eq!(ids(0, 2, &[(1, 0), (2, 3), (3, 0)], 12), BTreeSet::from([2]));
    assert_eq!(ids(0, 1, &[(1, 0), (2, 0)], 12), BTreeSet::from([1, 2]));
}

#[test]
fn of_two_servers_with_one_id_the_first_has_the_place() {
    let shares = aperture(0, 1, &[(4, 1), (4, 8), (5, 1)], 12).shares;
    assert!(shares.len() == 2 && shares.iter().all(|s| s.server != 1));
}

#[test]
fn a_client_that_is_not_there_has_no_place() {
    assert_eq!(Place::new(3, 3), Err(NoPlace { ordinal: 3, clients: 3 }));
    assert_eq!(Place::new(0, 0), Err(NoPlace { ordinal: 0, clients: 0 }));
    assert_eq!(ordinal(9, &[1, 2]), None);
}

#[test]
fn ordinals_of_a_shared_list_are_distinct_whatever_its_order() {
    let there: Vec<u64> = (0..100).collect();
    let back: Vec<u64> = there.iter().rev().copied().collect();
    let places: BTreeSet<u32> = there.iter().map(|id| ordinal(*id, &there).unwrap().ordinal).collect();
    assert_eq!(places.len(), 100);
    assert!(there.iter().all(|id| ordinal(*id, &there) == ordinal(*id, &back)));
    assert_eq!(ordinal(1, &[1, 1, 1]), Place::new(0, 1).ok());
}

#[test]
fn extreme_weights_and_numbers_do_not_overflow() {
    let servers: Vec<(u64, u32)> = (0..1_000).map(|id| (id, u32::MAX)).collect();
    let aperture = aperture(u32::MAX - 1, u32::MAX, &servers, usize::MAX);
    assert_eq!(aperture.shares.len(), 1_000);
    assert!(aperture.weights().iter().all(|w| *w == WHOLE));
}

/// Most servers that any client gains from one table to the other, and most that any loses.
fn churn(clients: (u32, u32), before: &[(u64, u32)], after: &[(u64, u32)]) -> (usize, usize) {
    let of_one = |c: u32| {
        let (was, is) = (ids(c, clients.0, before, 12), ids(c, clients.1, after, 12));
        (is.difference(&was).count(), was.difference(&is).count())
    };
    let all: Vec<_> = (0..clients.0.min(clients.1)).map(of_one).collect();
    (all.iter().map(|c| c.0).max().unwrap_or(0), all.iter().map(|c| c.1).max().unwrap_or(0))
}

proptest! {
    #[test]
    fn every_server_is_covered_by_its_weight_exactly(
        clients in 1u32..60, weights in prop::collection::vec(0u32..1_000, 1..80), least in 0usize..30,
    ) {
        let servers: Vec<(u64, u32)> = (0..).zip(weights).collect();
        let mut covered = vec![0u128; servers.len()];
        let mut totals = BTreeSet::new();
        for client in 0..clients {
            let shares = aperture(client, clients, &servers, least).shares;
            totals.insert(shares.iter().map(|s| s.length).sum::<u128>());
            shares.iter().for_each(|s| covered[s.server] += s.length);
            let distinct: BTreeSet<_> = shares.iter().map(|s| s.server).collect();
            prop_assert_eq!(distinct.len(), shares.len());
        }
        // All clients cover the same length, and a server is covered as often as every other per weight.
        prop_assert_eq!(totals.len(), 1);
        let all_zero = servers.iter().all(|(_, w)| *w == 0);
        let weight = |i: usize| if all_zero { 1 } else { u128::from(servers[i].1) };
        let (sum, all): (u128, u128) = (covered.iter().sum(), (0..servers.len()).map(weight).sum());
        for (i, length) in covered.iter().enumerate() {
            prop_assert_eq!(length * all, sum * weight(i));
        }
    }

    #[test]
    fn an_aperture_of_equal_servers_is_bounded(clients in 1u32..300, count in 1u64..500, least in 1usize..40, at in any::<u32>()) {
        let size = ids(at % clients, clients, &even(count), least).len();
        prop_assert!(size >= least.min(count as usize));
        prop_assert!(size <= least + count.div_ceil(u64::from(clients)) as usize + 2, "{}", size);
    }

    #[test]
    fn one_server_more_or_less_changes_little(clients in 1u32..60, count in 2u64..300, gone in any::<u64>()) {
        let before = even(count);
        let after: Vec<_> = before.iter().copied().filter(|(id, _)| *id != gone % count).collect();
        let bound = 2 * count.div_ceil(u64::from(clients)) as usize + 2;
        let (gained, lost) = churn((clients, clients), &before, &after);
        prop_assert!(gained <= bound && lost <= bound, "{} gained, {} lost, bound {}", gained, lost, bound);
    }

    #[test]
    fn one_client_more_or_less_changes_little(clients in 1u32..60, count in 1u64..300) {
        let servers = even(count);
        let bound = 2 * count.div_ceil(u64::from(clients)) as usize + 2;
        for clients in [(clients, clients + 1), (clients + 1, clients)] {
            let (gained, lost) = churn(clients, &servers, &servers);
            prop_assert!(gained <= bound && lost <= bound, "{} gained, {} lost, bound {}", gained, lost, bound);
        }
    }
}
