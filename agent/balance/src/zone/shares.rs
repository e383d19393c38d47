// SPDX-License-Identifier: Apache-2.0
//! Fractions to shares in 1/65 536 that sum to the whole exactly: the method of the largest remainder (Hamilton's).
//!
//! Always true here: each share is within one unit of its fraction, and what is zero stays zero.

use crate::alias::WHOLE;

/// Rounds `fractions` (not negative, summing to one but for float errors) into `out`. Among equal remainders the first wins.
pub(super) fn round(fractions: &[f64], out: &mut Vec<u32>) {
    let start = out.len();
    out.extend(fractions.iter().map(|f| (f * f64::from(WHOLE)) as u32));
    let shares = &mut out[start..];
    let mut missing = i64::from(WHOLE) - shares.iter().map(|s| i64::from(*s)).sum::<i64>();
    let remainder = |i: usize, share: u32| fractions[i] * f64::from(WHOLE) - f64::from(share);
    let mut order: Vec<usize> = (0..fractions.len()).filter(|i| fractions[*i] > 0.0).collect();
    order.sort_by(|a, b| remainder(*b, shares[*b]).total_cmp(&remainder(*a, shares[*a])).then(a.cmp(b)));
    for i in order {
        if missing > 0 {
            shares[i] += 1;
            missing -= 1;
        }
    }
    debug_assert_eq!(missing, 0, "fractions sum to one: {fractions:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_sum_to_the_whole_and_stay_within_one_unit(raw in prop::collection::vec(0u32..1_000, 1..20)) {
            let total: f64 = raw.iter().map(|r| f64::from(*r)).sum();
            prop_assume!(total > 0.0);
            let fractions: Vec<f64> = raw.iter().map(|r| f64::from(*r) / total).collect();
            let mut shares = vec![];
            round(&fractions, &mut shares);
            prop_assert_eq!(shares.iter().sum::<u32>(), WHOLE);
            for (share, fraction) in shares.iter().zip(&fractions) {
                prop_assert!((f64::from(*share) - fraction * f64::from(WHOLE)).abs() <= 1.0);
                prop_assert!(*fraction > 0.0 || *share == 0);
            }
        }
    }

    #[test]
    fn thirds_go_to_the_first_and_several_rows_follow_each_other() {
        let mut shares = vec![];
        round(&[1.0 / 3.0; 3], &mut shares);
        round(&[0.0, 1.0, 0.0], &mut shares);
        assert_eq!(shares, [21_846, 21_845, 21_845, 0, WHOLE, 0]);
    }
}
