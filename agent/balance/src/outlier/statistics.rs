// SPDX-License-Identifier: Apache-2.0
//! The two statistical tests of gRFC A50, over the counts of one interval.
//!
//! Only +, −, ×, / and a square root, which IEEE 754 rounds the same everywhere. Candidates come worst first: where the
//! ejection cap does not allow all of them, A50 leaves the order open, and the worst should go.

use super::config::{FailurePercentage, SuccessRate};

/// What an endpoint answered in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) successes: u64,
    pub(super) failures: u64,
}

impl Counts {
    fn volume(self) -> u64 {
        self.successes.saturating_add(self.failures)
    }

    /// 0 to 1. Only asked for where there were requests.
    fn success_rate(self) -> f64 {
        self.successes as f64 / self.volume() as f64
    }
}

/// An index into the counts, its success rate, and the rate that it is below.
pub(super) type Found = (usize, f64, f64);

/// Those whose success rate is an outlier among all that had enough requests.
pub(super) fn by_success_rate(counts: &[Counts], config: &SuccessRate) -> Vec<Found> {
    let judged = enough(counts, config.request_volume, config.minimum_hosts);
    let count = judged.len() as f64;
    let mean = judged.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = judged.iter().map(|(_, rate)| (rate - mean) * (rate - mean)).sum::<f64>() / count;
    let threshold = mean - variance.sqrt() * (f64::from(config.stdev_factor) / 1_000.0);
    below(judged, threshold)
}

/// Those that fail by more than the threshold, whatever the others do.
pub(super) fn by_failure_percentage(counts: &[Counts], config: &FailurePercentage) -> Vec<Found> {
    let judged = enough(counts, config.request_volume, config.minimum_hosts);
    below(judged, 1.0 - f64::from(config.threshold) / 100.0)
}

/// Index and success rate of all that had enough requests; nobody when those are too few.
fn enough(counts: &[Counts], request_volume: u32, minimum_hosts: u32) -> Vec<(usize, f64)> {
    let volume = u64::from(request_volume.max(1));
    let judged: Vec<_> = counts
        .iter()
        .enumerate()
        .filter(|(_, c)| c.volume() >= volume)
        .map(|(i, c)| (i, c.success_rate()))
        .collect();
    if judged.len() < minimum_hosts as usize { Vec::new() } else { judged }
}

/// Rates that are sums of the same parts may differ in their last bits; that is no difference.
const RATE_ERROR: f64 = 1e-9;

fn below(mut judged: Vec<(usize, f64)>, threshold: f64) -> Vec<Found> {
    judged.retain(|(_, rate)| *rate < threshold - RATE_ERROR);
    judged.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    judged.into_iter().map(|(i, rate)| (i, rate, threshold)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Endpoints of these success percentages, with 100 requests each.
    fn counts(percents: &[u64]) -> Vec<Counts> {
        percents.iter().map(|p| Counts { successes: *p, failures: 100 - p }).collect()
    }

    fn found(found: &[Found]) -> Vec<usize> {
        found.iter().map(|(i, ..)| *i).collect()
    }

    #[test]
    fn one_of_five_that_fails_always_is_an_outlier_by_its_success_rate() {
        // By hand: mean 0.8, deviation 0.4, threshold 0.8 - 1.9 * 0.4 = 0.04.
        let out = by_success_rate(&counts(&[100, 100, 0, 100, 100]), &SuccessRate::default());
        assert_eq!(found(&out), [2]);
        assert!((out[0].2 - 0.04).abs() < 1e-12 && out[0].1 == 0.0);
    }

    #[test]
    fn two_of_five_are_no_outliers_by_success_rate_but_by_failure_percentage() {
        // Mean 0.6, deviation 0.49, threshold below zero: this test sees only the exception.
        let counts = counts(&[100, 0, 0, 100, 100]);
        assert!(by_success_rate(&counts, &SuccessRate::default()).is_empty());
        assert_eq!(found(&by_failure_percentage(&counts, &FailurePercentage::default())), [1, 2]);
    }

    #[test]
    fn the_worst_come_first() {
        let config = FailurePercentage { threshold: 50, ..FailurePercentage::default() };
        let out = by_failure_percentage(&counts(&[40, 100, 10, 20, 100]), &config);
        assert_eq!(found(&out), [2, 3, 0]);
    }

    #[test]
    fn exactly_the_threshold_is_not_out() {
        let out = by_failure_percentage(&counts(&[15, 14, 100, 100, 100]), &FailurePercentage::default());
        assert_eq!(found(&out), [1]);
        let all = FailurePercentage { threshold: 100, ..FailurePercentage::default() };
        assert!(by_failure_percentage(&counts(&[0; 5]), &all).is_empty());
    }

    #[test]
    fn equal_rates_are_no_outliers_however_bad() {
        for percent in [0, 33, 100] {
            assert!(by_success_rate(&counts(&[percent; 7]), &SuccessRate::default()).is_empty());
        }
    }

    #[test]
    fn too_few_endpoints_and_too_few_requests_judge_nobody() {
        assert!(by_success_rate(&counts(&[100, 100, 100, 0]), &SuccessRate::default()).is_empty());
        assert!(by_success_rate(&[], &SuccessRate::default()).is_empty());
        let mut few = counts(&[100, 100, 100, 100, 100, 0]);
        few[5] = Counts { successes: 0, failures: 99 };
        assert!(by_success_rate(&few, &SuccessRate::default()).is_empty());
    }

    #[test]
    fn without_a_minimum_nobody_is_still_nobody() {
        let config = SuccessRate { minimum_hosts: 0, ..SuccessRate::default() };
        assert!(by_success_rate(&[], &config).is_empty());
        assert!(by_success_rate(&[Counts::default()], &config).is_empty());
    }
}
