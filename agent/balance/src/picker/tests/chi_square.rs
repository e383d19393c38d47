// SPDX-License-Identifier: Apache-2.0
//! Pearson's chi-square test: whether counts follow weights.

/// Whether `hits` could be draws by `weights`, with one false alarm in a hundred thousand. Counts that are more even than draws
/// (turns) pass as well.
pub(crate) fn follows(hits: &[u64], weights: &[u32]) -> bool {
    let (picks, total) =
        (hits.iter().sum::<u64>() as f64, weights.iter().map(|w| f64::from(*w)).sum::<f64>());
    let mut distance = 0.0;
    let mut drawn = 0;
    for (hit, weight) in hits.iter().zip(weights) {
        let want = picks * f64::from(*weight) / total;
        if *weight == 0 {
            if *hit > 0 {
                return false;
            }
            continue;
        }
        assert!(want >= 5.0, "too few picks for this test");
        distance += (*hit as f64 - want).powi(2) / want;
        drawn += 1;
    }
    drawn <= 1 || distance < limit(f64::from(drawn - 1))
}

/// The quantile by Wilson and Hilferty, for a normal quantile of 4.26.
fn limit(freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    freedom * (1.0 - spread + 4.26 * spread.sqrt()).powi(3)
}

#[test]
fn even_and_random_counts_pass_and_biased_ones_do_not() {
    assert!(follows(&[1_000, 2_000, 5_000], &[1, 2, 5]));
    assert!(follows(&[1_030, 1_960, 5_010], &[1, 2, 5]));
    assert!(!follows(&[1_200, 1_900, 4_900], &[1, 2, 5]));
    assert!(!follows(&[1, 1_000], &[0, 5]));
}

#[test]
fn the_limit_is_close_to_the_tables() {
    // Chi-square quantiles at 1 - 1e-5; the approximation is on the safe side where it is worst, at one.
    for (freedom, table) in [(1.0, 19.51), (10.0, 41.30)] {
        assert!((1.0..1.12).contains(&(limit(freedom) / table)), "{freedom}: {}", limit(freedom));
    }
}
