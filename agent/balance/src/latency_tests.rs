// SPDX-License-Identifier: Apache-2.0
//! The estimate's promises, and the two mistakes it is known for elsewhere.

use super::*;
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_oneof, proptest};

const CONFIG: Config = Config {
    half_life: Duration::from_secs(5),
    penalty: Duration::from_secs(1),
    forget: Duration::from_secs(60),
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn estimate(ewma: &PeakEwma, now: Duration) -> f64 {
    ewma.estimate(now, &CONFIG).unwrap() / 1e6
}

/// An endpoint that has answered in 1 ms, every 10 ms for 10 s.
fn steady() -> (PeakEwma, Duration) {
    let mut ewma = PeakEwma::new();
    for i in 0..=1_000 {
        ewma.observe(ms(1), ms(10 * i), &CONFIG);
    }
    (ewma, ms(10_000))
}

#[test]
fn what_was_never_measured_is_cold() {
    assert_eq!(PeakEwma::new().estimate(ms(5), &CONFIG), None);
}

#[test]
fn the_first_answer_is_taken_whole() {
    let mut ewma = PeakEwma::new();
    ewma.observe(ms(7), ms(100), &CONFIG);
    assert!((estimate(&ewma, ms(100)) - 7.0).abs() < 1e-9);
}

#[test]
fn a_peak_is_in_force_at_once_and_halves_in_a_half_life() {
    let (mut ewma, now) = steady();
    ewma.observe(ms(80), now, &CONFIG);
    assert!((estimate(&ewma, now) - 80.0).abs() < 1e-9);
    assert!((estimate(&ewma, now + ms(5_000)) - 40.0).abs() < 1e-6);
    assert!((estimate(&ewma, now + ms(10_000)) - 20.0).abs() < 1e-6);
}

#[test]
fn an_endpoint_that_hangs_does_not_look_better_the_longer_it_hangs() {
    let (ewma, now) = steady();
    for waited in (0..59).map(|s| ms(1_000 * s)) {
        assert!((estimate(&ewma, now + waited) - 1.0).abs() < 1e-9);
    }
}

#[test]
fn an_endpoint_that_answered_nothing_for_long_is_cold_again() {
    let (ewma, now) = steady();
    assert!(ewma.estimate(now + ms(59_999), &CONFIG).is_some());
    assert_eq!(ewma.estimate(now + ms(60_000), &CONFIG), None);
}

#[test]
fn an_endpoint_that_begins_to_fail_fast_is_ten_times_worse_within_a_tenth_of_a_second() {
    let (mut ewma, now) = steady();
    let failing: Vec<f64> = (1..=100)
        .map(|i| {
            ewma.penalise(Duration::from_micros(10), now + ms(i), &CONFIG);
            estimate(&ewma, now + ms(i))
        })
        .collect();
    assert!(failing.is_sorted(), "an error improved it");
    assert!(failing[99] > 10.0, "{}", failing[99]);
}

#[test]
fn a_few_errors_among_many_answers_cost_their_share_of_the_penalty() {
    let mut ewma = PeakEwma::new();
    for i in 0..60_000 {
        let outcome = if i % 100 == 0 { PeakEwma::penalise } else { PeakEwma::observe };
        outcome(&mut ewma, ms(1), ms(i), &CONFIG);
    }
    // One in a hundred of a second, and the answers' own millisecond.
    assert!((estimate(&ewma, ms(60_000)) - 11.0).abs() < 0.5, "{}", estimate(&ewma, ms(60_000)));
}

#[test]
fn an_endpoint_that_only_failed_costs_the_penalty_and_then_is_cold_but_never_cheap() {
    let mut ewma = PeakEwma::new();
    ewma.penalise(Duration::from_micros(10), ms(0), &CONFIG);
    let estimates: Vec<_> = (0..40_000).step_by(100).map(|t| ewma.estimate(ms(t), &CONFIG)).collect();
    assert!(estimates.iter().flatten().all(|ns| (*ns - 1e9).abs() < 1.0));
    assert!(estimates[149].is_some() && estimates[151..].iter().all(Option::is_none));
}

#[test]
fn a_timeout_counts_as_a_slow_answer_too() {
    let (mut ewma, now) = steady();
    ewma.penalise(ms(3_000), now + ms(3_000), &CONFIG);
    assert!(estimate(&ewma, now + ms(3_000)) >= 3_000.0 - 1e-6);
}

#[test]
fn a_slow_service_is_penalised_in_proportion() {
    let mut ewma = PeakEwma::new();
    ewma.observe(ms(5_000), ms(0), &CONFIG);
    ewma.penalise(ms(1), ms(5_000), &CONFIG);
    // Half of the outcomes by time: fifty times five seconds.
    assert!(estimate(&ewma, ms(5_000)) > 200_000.0);
}

#[test]
fn the_decay_is_close_to_a_power_of_two_and_falls() {
    let steps: Vec<f64> = (0..12_000).map(|i| half_to_the(f64::from(i) / 1_000.0)).collect();
    assert!(steps.is_sorted_by(|a, b| a > b));
    for (i, got) in steps.iter().enumerate() {
        let want = (-(i as f64) / 1_000.0).exp2();
        assert!((got / want - 1.0).abs() < 2e-4, "{i}: {got} {want}");
    }
    assert!([1_000.0, f64::INFINITY, f64::NAN].iter().all(|x| half_to_the(*x) == 0.0));
}

#[test]
fn a_configuration_that_cannot_be_is_named() {
    assert_eq!(CONFIG, Config::default());
    assert!(CONFIG.check().is_ok());
    let bad = Config { half_life: Duration::ZERO, ..CONFIG };
    assert_eq!(bad.check().unwrap_err().field, "half_life");
    let bad = Config { forget: ms(10), ..CONFIG };
    assert_eq!(bad.check().unwrap_err().field, "forget");
}

#[derive(Clone, Copy, Debug)]
struct Step {
    failed: bool,
    took: u64,
    pause: u64,
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![Just(0), 0u64..2_000_000, 0u64..90_000_000_000, Just(u64::MAX / 64)];
    let step = (any::<bool>(), prop_oneof![Just(0), any::<u64>(), 0u64..10_000_000], pause);
    prop::collection::vec(step.prop_map(|(failed, took, pause)| Step { failed, took, pause }), 1..40)
}

proptest! {
    #[test]
    fn no_error_improves_it_no_peak_is_missed_and_nothing_is_infinite(history in history()) {
        let (mut ewma, mut now) = (PeakEwma::new(), Duration::ZERO);
        for Step { failed, took, pause } in history {
            now += Duration::from_nanos(pause);
            let before = ewma.estimate(now, &CONFIG);
            let took = Duration::from_nanos(took);
            if failed { ewma.penalise(took, now, &CONFIG) } else { ewma.observe(took, now, &CONFIG) }
            let after = ewma.estimate(now, &CONFIG);
            if failed {
                // Also not by making it look unmeasured.
                prop_assert!(after.is_some() && after >= before.map(|ns| ns * (1.0 - 1e-12)), "{:?} {:?}", before, after);
            } else {
                prop_assert!(after.unwrap() >= took.as_nanos() as f64);
            }
            prop_assert!(after.unwrap().is_finite() && after.unwrap() >= 0.0);
            prop_assert!((0.0..=1.0).contains(&ewma.errors(now, &CONFIG)));
        }
    }

    #[test]
    fn time_alone_never_makes_it_worse(history in history(), later in prop::collection::vec(0u64..20_000_000_000, 1..10)) {
        let (mut ewma, mut now) = (PeakEwma::new(), Duration::ZERO);
        for Step { failed, took, pause } in history {
            now += Duration::from_nanos(pause);
            let took = Duration::from_nanos(took);
            if failed { ewma.penalise(took, now, &CONFIG) } else { ewma.observe(took, now, &CONFIG) }
        }
        let mut last = f64::INFINITY;
        for pause in later {
            now += Duration::from_nanos(pause);
            // An endpoint that is forgotten while it fails costs the penalty; that is a change of what is known.
            let Some(estimate) = ewma.fresh(now, &CONFIG).and_then(|_| ewma.estimate(now, &CONFIG)) else { break };
            prop_assert!(estimate <= last * (1.0 + 1e-12));
            last = estimate;
        }
    }
}
