// SPDX-License-Identifier: Apache-2.0
//! The formula of gRFC A58, its periods, and reports that lie.

use super::*;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn config() -> Config {
    Config::default()
}

fn report(qps: f64, eps: f64, cpu_utilization: f64) -> Report {
    Report { qps, eps, cpu_utilization, ..Report::default() }
}

#[test]
fn the_weight_is_requests_over_utilisation() {
    assert_eq!(report(100.0, 0.0, 0.5).weight(1.0), Ok(200.0));
    assert_eq!(report(300.0, 0.0, 1.5).weight(1.0), Ok(200.0));
}

#[test]
fn what_the_application_says_goes_before_the_processor() {
    let said = Report { application_utilization: 0.25, ..report(100.0, 0.0, 0.5) };
    assert_eq!(said.weight(1.0), Ok(400.0));
}

#[test]
fn errors_count_as_utilisation() {
    assert_eq!(report(100.0, 50.0, 0.5).weight(1.0), Ok(100.0));
    assert_eq!(report(100.0, 50.0, 0.5).weight(3.0), Ok(50.0));
    assert_eq!(report(100.0, 50.0, 0.5).weight(0.0), Ok(200.0));
}

#[test]
fn an_idle_endpoint_gives_no_weight() {
    assert_eq!(report(0.0, 0.0, 0.5).weight(1.0), Err(Unusable::Empty { field: "rps_fractional" }));
    assert_eq!(report(10.0, 0.0, 0.0).weight(1.0), Err(Unusable::Empty { field: "cpu_utilization" }));
}

#[test]
fn numbers_that_cannot_be_are_named() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        let good = Report { qps: 10.0, eps: 1.0, application_utilization: 0.5, cpu_utilization: 0.5 };
        let bad = [
            ("rps_fractional", Report { qps: value, ..good }),
            ("eps", Report { eps: value, ..good }),
            ("application_utilization", Report { application_utilization: value, ..good }),
            ("cpu_utilization", Report { cpu_utilization: value, ..good }),
        ];
        for (name, report) in bad {
            let Err(Unusable::Impossible { field, .. }) = report.weight(1.0) else {
                panic!("{name} of {value} was used")
            };
            assert_eq!(field, name);
        }
    }
}

#[test]
fn a_quotient_out_of_range_is_not_a_weight() {
    assert!(matches!(report(1e300, 0.0, 1e-300).weight(1.0), Err(Unusable::OutOfRange { .. })));
    assert!(matches!(report(1e-300, 1e300, 0.5).weight(1.0), Err(Unusable::OutOfRange { .. })));
}

#[test]
fn a_weight_is_used_after_the_blackout_and_until_it_expires() {
    let mut reported = Reported::new();
    assert_eq!(reported.weight(at(0), &config()), None);
    for second in 0..=10 {
        reported.observe(&report(100.0, 0.0, 0.5), at(second), &config()).unwrap();
        assert_eq!(reported.weight(at(second), &config()), (second == 10).then_some(200.0));
    }
    assert_eq!(reported.weight(at(189), &config()), Some(200.0));
    assert_eq!(reported.weight(at(190), &config()), None);
}

#[test]
fn after_expiry_and_after_a_reconnect_the_blackout_begins_anew() {
    let mut reported = Reported::new();
    let good = report(100.0, 0.0, 0.5);
    for second in [0, 10, 200, 209] {
        reported.observe(&good, at(second), &config()).unwrap();
    }
    assert_eq!(reported.weight(at(209), &config()), None);
    assert_eq!(reported.weight(at(210), &config()), Some(200.0));
    reported.reset();
    reported.observe(&good, at(211), &config()).unwrap();
    assert_eq!(reported.weight(at(220), &config()), None);
    assert_eq!(reported.weight(at(221), &config()), Some(200.0));
}

#[test]
fn nonsense_leaves_the_last_weight_until_it_expires() {
    let mut reported = Reported::new();
    reported.observe(&report(100.0, 0.0, 0.5), at(0), &config()).unwrap();
    for second in 1..200 {
        assert!(reported.observe(&report(f64::NAN, 0.0, 0.5), at(second), &config()).is_err());
    }
    assert_eq!(reported.weight(at(20), &config()), Some(200.0));
    assert_eq!(reported.weight(at(180), &config()), None);
}

#[test]
fn endpoints_without_a_weight_get_the_mean_of_the_others() {
    let got = weights(&[Some(100.0), None, Some(300.0), Some(f64::NAN)], &[1, 1, 1, 1]);
    assert_eq!(got, [524_288, 1_048_576, 1_572_864, 1_048_576]);
}

#[test]
fn with_fewer_than_two_weights_the_configured_ones_hold() {
    assert_eq!(weights(&[Some(100.0), None, Some(-3.0)], &[4, 5, 6]), [4, 5, 6]);
    assert_eq!(weights(&[], &[4, 5]), [4, 5]);
    assert!(weights(&[], &[]).is_empty());
}

#[test]
fn a_configured_weight_of_zero_stays_zero() {
    assert_eq!(weights(&[Some(1.0), Some(1.0), Some(9.0)], &[1, 1, 0]), [1_048_576, 1_048_576, 0]);
}

#[test]
fn no_report_takes_all_traffic_or_loses_all() {
    let mut reported = vec![Some(1.0); 30];
    reported[0] = Some(1e12);
    reported[1] = Some(1e-12);
    let got = weights(&reported, &[1; 30]);
    assert_eq!(got[0], 10 * 1_048_576);
    assert_eq!(got[1], 104_858);
}

#[test]
fn a_configuration_that_cannot_be_is_named() {
    assert!(config().check().is_ok());
    for error_penalty in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(Config { error_penalty, ..config() }.check().unwrap_err().field, "error_penalty");
    }
    assert_eq!(Config { expiration: at(0), ..config() }.check().unwrap_err().field, "expiration");
}

proptest! {
    #[test]
    fn any_bits_give_a_finite_weight_above_zero_or_an_error(
        bits in prop::array::uniform4(prop_oneof![any::<f64>(), 0.0..1e3f64]), penalty in 0.0..10f64,
    ) {
        let [qps, eps, application_utilization, cpu_utilization] = bits;
        let report = Report { qps, eps, application_utilization, cpu_utilization };
        if let Ok(weight) = report.weight(penalty) {
            prop_assert!(weight.is_finite() && weight > 0.0);
        }
    }

    #[test]
    fn weights_to_pick_by_are_in_bounds_whatever_was_reported(
        reported in prop::collection::vec(prop::option::of(any::<f64>()), 0..40), configured in prop::collection::vec(1u32.., 0..40),
    ) {
        let got = weights(&reported, &configured);
        prop_assert_eq!(got.len(), configured.len());
        prop_assert!(got == configured || got.iter().all(|w| (104_858..=10_485_760).contains(w)));
    }
}
