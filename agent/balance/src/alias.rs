// SPDX-License-Identifier: Apache-2.0
//! Walker's alias table: a weighted draw in constant time, whatever the weights.
//!
//! Built by Vose's method ("A Linear Algorithm for Generating Random Numbers with a Given Distribution", IEEE TSE 1991) in
//! integers, so that the same weights give the same table on any machine. The kernel's slot tables are these tables.

use std::hint::select_unpredictable;

use crate::rng::Rng;

/// One column: with a probability of `threshold` / 65 536 it means its own item, else `alias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// 0 to 65 536.
    pub threshold: u32,
    /// Index of the other item.
    pub alias: u32,
}

/// The whole of a column, in its own unit.
pub const WHOLE: u32 = 65_536;

/// Columns for `weights`, one per item, in the same order. Zero weights are never drawn unless all are zero: then all are
/// drawn alike, because somebody has to serve. Each item's share is exact to 1 / (65 536 × items).
#[must_use]
pub fn table(weights: &[u32]) -> Vec<Column> {
    let even =
        || (0..weights.len()).map(|i| Column { threshold: WHOLE, alias: i as u32 }).collect::<Vec<_>>();
    let total: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    if total == 0 || weights.windows(2).all(|w| w[0] == w[1]) {
        return even();
    }
    // What each item holds, scaled so that a column holds exactly `total`.
    let mut held: Vec<u128> = weights.iter().map(|w| u128::from(*w) * weights.len() as u128).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..held.len()).partition(|i| held[*i] < total);
    let mut columns = even();
    while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
        // Rounded to nearest, but never to nothing: an item with weight must be reachable.
        let share = (held[poor] * u128::from(WHOLE) + total / 2) / total;
        let floor = u128::from(held[poor] > 0);
        columns[poor] = Column { threshold: share.max(floor) as u32, alias: rich as u32 };
        held[rich] -= total - held[poor];
        if held[rich] < total { small.push(rich) } else { large.push(rich) }
    }
    columns
}

/// Draws an index by `columns`, which is not empty.
pub fn draw(columns: &[Column], rng: &mut dyn Rng) -> usize {
    let bits = rng.next_u64();
    let index = (((bits >> 32) * columns.len() as u64) >> 32) as usize;
    let Column { threshold, alias } = columns[index];
    // Nobody can predict which it is, and a wrong guess costs more than the draw.
    select_unpredictable((bits as u32 >> 16) < threshold, index, alias as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use proptest::prelude::*;

    /// The share of each item according to the table, in 1/65 536 of a column.
    fn shares(columns: &[Column]) -> Vec<u64> {
        let mut out = vec![0u64; columns.len()];
        for (i, c) in columns.iter().enumerate() {
            out[i] += u64::from(c.threshold);
            out[c.alias as usize] += u64::from(WHOLE - c.threshold);
        }
        out
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights(weights in prop::collection::vec(0u32..1_000, 1..60)) {
            let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            prop_assume!(total > 0);
            let n = weights.len() as u64;
            for (share, weight) in shares(&table(&weights)).iter().zip(&weights) {
                let want = u64::from(*weight) * n * u64::from(WHOLE) / total;
                // One unit of rounding per column that gives to this item.
                prop_assert!(share.abs_diff(want) <= n, "{share} for weight {weight}, want {want}");
            }
        }

        #[test]
        fn a_weight_of_zero_is_never_drawn(weights in prop::collection::vec(0u32..3, 2..30)) {
            prop_assume!(weights.iter().any(|w| *w > 0));
            for (share, weight) in shares(&table(&weights)).iter().zip(&weights) {
                prop_assert!(*weight > 0 || *share == 0);
            }
        }

        #[test]
        fn every_weight_above_zero_can_be_drawn(weights in prop::collection::vec(prop_oneof![Just(1u32), Just(u32::MAX)], 1..30)) {
            prop_assert!(shares(&table(&weights)).iter().all(|s| *s > 0));
        }
    }

    #[test]
    fn all_zero_weights_are_drawn_alike() {
        assert!(shares(&table(&[0, 0, 0])).iter().all(|s| *s == u64::from(WHOLE)));
    }

    #[test]
    fn nothing_gives_an_empty_table() {
        assert!(table(&[]).is_empty());
    }

    #[test]
    fn draws_follow_the_shares() {
        let (columns, mut rng, mut hits) = (table(&[1, 2, 5]), SplitMix64::new(3), [0u32; 3]);
        for _ in 0..80_000 {
            hits[draw(&columns, &mut rng)] += 1;
        }
        for (hit, want) in hits.iter().zip([10_000, 20_000, 50_000]) {
            assert!(hit.abs_diff(want) < 800, "{hits:?}");
        }
    }
}
