// SPDX-License-Identifier: Apache-2.0
//! What the hash pickers share: endpoints by a stable id, and keys.
//!
//! Always true: everything that follows from the ids is the same on any machine and for any order of the endpoints,
//! so that all nodes agree on who serves a key. Of endpoints with the same id only the first listed has a place; the
//! others are picked only when nobody else is available. An endpoint of weight zero has no place either, unless all
//! weights are zero: then all count alike.

use super::View;
use crate::rng::{Rng, SplitMix64, mix};

/// The endless sequence of numbers that belongs to an id. A longer beginning of it continues a shorter one.
pub(super) fn sequence(id: u64) -> SplitMix64 {
    SplitMix64::new(mix(id))
}

/// The key of a request: its hash, mixed, or a drawn one when nothing pins it.
pub(super) fn key(view: &dyn View, rng: &mut dyn Rng) -> u64 {
    view.hash().map_or_else(|| rng.next_u64(), mix)
}

/// An endpoint with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: u64,
    /// At least 1.
    pub(super) weight: u32,
    /// Index in the list that the picker was built from.
    pub(super) index: u32,
}

/// Those of `endpoints` (id, weight) that have a place, by ascending id.
pub(super) fn members(endpoints: &[(u64, u32)]) -> Vec<Member> {
    let all_zero = endpoints.iter().all(|(_, weight)| *weight == 0);
    let mut members: Vec<Member> = (0..)
        .zip(endpoints)
        .map(|(index, (id, weight))| Member { id: *id, weight: if all_zero { 1 } else { *weight }, index })
        .collect();
    // Stable, so that the first listed of an id comes first.
    members.sort_by_key(|m| m.id);
    members.dedup_by_key(|m| m.id);
    members.retain(|m| m.weight > 0);
    members
}

/// The weights of a list of `count` endpoints as far as they have a place: zero for the others.
pub(super) fn placed(members: &[Member], count: usize) -> Vec<u32> {
    let mut weights = vec![0; count];
    members.iter().for_each(|m| weights[m.index as usize] = m.weight);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(endpoints: &[(u64, u32)]) -> Vec<(u64, u32, u32)> {
        members(endpoints).iter().map(|m| (m.id, m.weight, m.index)).collect()
    }

    #[test]
    fn members_are_ordered_by_id_and_the_first_of_an_id_counts() {
        assert_eq!(shown(&[(9, 1), (3, 2), (9, 5)]), [(3, 2, 1), (9, 1, 0)]);
    }

    #[test]
    fn zero_weights_have_no_place_unless_all_are_zero() {
        assert_eq!(shown(&[(1, 0), (2, 7)]), [(2, 7, 1)]);
        assert_eq!(shown(&[(1, 0), (2, 0)]), [(1, 1, 0), (2, 1, 1)]);
        // The first of an id speaks for it, even with nothing to say.
        assert_eq!(shown(&[(1, 0), (1, 4), (2, 3)]), [(2, 3, 2)]);
        assert!(members(&[]).is_empty());
    }
}
