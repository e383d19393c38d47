// SPDX-License-Identifier: Apache-2.0
//! Laws of slow start, Envoy's formula by hand, and the documented starvation.

use super::*;
use crate::alias;
use crate::rng::SplitMix64;
use proptest::prelude::*;

const WARM: Duration = Duration::from_secs(3600);
const NEW: Duration = Duration::ZERO;

fn ramp(window: u64, aggression: f64) -> SlowStart {
    SlowStart::new(Config { window: Duration::from_secs(window), aggression, min_weight_percent: 10 })
        .unwrap()
}

/// The factor in percent, rounded.
fn percent(ramp: &SlowStart, seconds: u64) -> u32 {
    (ramp.factor(Duration::from_secs(seconds)) * 100 + WHOLE / 2) / WHOLE
}

#[test]
fn a_linear_ramp_of_a_minute_is_envoys() {
    // Envoy's example: window 60 s, aggression 1. By hand: max(10 %, age / 60 s).
    let linear = ramp(60, 1.0);
    let at = [0, 1, 6, 15, 30, 45, 59, 60, 600].map(|age| percent(&linear, age));
    assert_eq!(at, [10, 10, 10, 25, 50, 75, 98, 100, 100]);
}

#[test]
fn aggression_bends_the_ramp_as_in_envoys_formula() {
    // By hand, at a quarter of the window: 0.25^(1/2) = 0.5, 0.25^(1/0.5) = 0.0625, so the minimum; at the half 0.25.
    assert_eq!(percent(&ramp(60, 2.0), 15), 50);
    assert_eq!(percent(&ramp(60, 0.5), 15), 10);
    assert_eq!(percent(&ramp(60, 0.5), 30), 25);
}

#[test]
fn the_first_second_counts_as_a_second_and_a_shorter_window_is_no_window() {
    let short = ramp(4, 1.0);
    assert_eq!(short.factor(NEW), short.factor(Duration::from_secs(1)));
    let config = Config { window: Duration::from_millis(500), ..Config::default() };
    assert_eq!(SlowStart::new(config).unwrap().factor(NEW), WHOLE);
}

#[test]
fn a_new_endpoint_among_many_is_not_starved_and_has_its_full_share_after_the_window() {
    // envoyproxy/envoy#19526: aggression far below 1 gave weights near zero, and the endpoint got nothing, even later.
    let ramp = ramp(60, 0.05);
    let draws = |age: Duration| {
        let mut endpoints = vec![(1, WARM); 100];
        endpoints[0].1 = age;
        let (table, mut rng) = (alias::table(&ramp.weights(&endpoints)), SplitMix64::new(19_526));
        (0..1_000_000).filter(|_| alias::draw(&table, &mut rng) == 0).count()
    };
    // A tenth of a fair share at first: 1 000 000 / (99 + 0.1) / 10 = 1 009; a fair share is 10 000.
    assert!((900..1_120).contains(&draws(NEW)), "{}", draws(NEW));
    assert!((9_600..10_400).contains(&draws(Duration::from_secs(60))));
}

#[test]
fn when_all_are_new_and_when_all_are_warm_the_weights_stay_as_they_are() {
    let ramp = ramp(60, 1.0);
    for age in [NEW, Duration::from_secs(20), WARM] {
        assert_eq!(ramp.weights(&[(1, age), (3, age), (0, age)]), [1, 3, 0]);
    }
}

#[test]
fn one_endpoint_alone_and_none_are_left_as_they_are() {
    assert_eq!(ramp(60, 1.0).weights(&[(7, NEW)]), [7]);
    assert!(ramp(60, 1.0).weights(&[]).is_empty());
}

#[test]
fn weights_that_would_overflow_keep_their_ratio_and_never_become_zero() {
    let weights = ramp(60, 1.0).weights(&[(u32::MAX, NEW), (u32::MAX, WARM), (1, NEW), (0, WARM)]);
    let ratio = f64::from(weights[0]) / f64::from(weights[1]);
    assert!((ratio - 0.1).abs() < 0.001, "{weights:?}");
    assert_eq!((weights[2], weights[3]), (1, 0));
}

#[test]
fn bad_fields_are_named() {
    let field = |config| SlowStart::new(config).unwrap_err().field;
    let good = Config::default();
    assert_eq!(field(Config { window: Duration::ZERO, ..good }), "window");
    for aggression in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(field(Config { aggression, ..good }), "aggression");
    }
    for min_weight_percent in [0, 101] {
        assert_eq!(field(Config { min_weight_percent, ..good }), "min_weight_percent");
    }
}

proptest! {
    #[test]
    fn the_factor_grows_with_age_from_the_minimum_to_the_whole(
        aggression in 0.01f64..100.0, window in 1u64..1_000, mut ages in prop::collection::vec(0u64..2_000_000, 2..20)
    ) {
        let ramp = ramp(window, aggression);
        ages.sort_unstable();
        let factors: Vec<u32> = ages.iter().map(|ms| ramp.factor(Duration::from_millis(*ms))).collect();
        prop_assert!(factors.is_sorted());
        prop_assert!(factors.iter().all(|f| (WHOLE / 10..=WHOLE).contains(f)));
        prop_assert_eq!(ramp.factor(Duration::from_secs(window)), WHOLE);
    }

    #[test]
    fn nobody_gets_less_than_the_minimum_of_a_fair_share(
        endpoints in prop::collection::vec((0u32..1_000, 0u64..120), 1..50)
    ) {
        let aged: Vec<_> = endpoints.iter().map(|(w, s)| (*w, Duration::from_secs(*s))).collect();
        let weights = ramp(60, 1.0).weights(&aged);
        let sum = |all: &mut dyn Iterator<Item = u32>| all.map(u64::from).sum::<u64>();
        let (total, fair) = (sum(&mut weights.iter().copied()), sum(&mut aged.iter().map(|(w, _)| *w)));
        for (now, (weight, _)) in weights.iter().zip(&aged) {
            // now / total >= 0.0999 * weight / fair, in integers: the minimum is rounded down to 1/65 536.
            prop_assert!(u64::from(*now) * fair * 10_000 >= u64::from(*weight) * total * 999);
            prop_assert_eq!(*now == 0, *weight == 0);
        }
    }
}
