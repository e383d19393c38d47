// SPDX-License-Identifier: Apache-2.0
//! Labels and annotations in, options and faults out. Tier 1: pure.

use super::*;

const OBJECT: &str = "Service demo/web";

fn pairs(list: &[(&str, &str)]) -> Pairs {
    list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn messages(faults: &[Fault]) -> Vec<&str> {
    faults.iter().map(|fault| fault.message.as_str()).collect()
}

fn options_of(balance: Balance, strategy: Strategy, zone: ZonePolicy) -> Options {
    Options { balance, strategy, zone, subset_label: None, fallback: None }
}

#[test]
fn the_subset_label_is_the_key_of_a_label() {
    for good in ["shard", "example.com/shard", "a", "App_v1.x"] {
        let (options, faults) =
            parse(OBJECT, &pairs(&[(BALANCE, "request")]), &pairs(&[(SUBSET_LABEL, good)]), None);
        assert_eq!((options.unwrap().subset_label.as_deref(), faults), (Some(good), vec![]));
    }
    let long = "x".repeat(64);
    for bad in ["", "/", "a/", "/a", "a/b/c", "-a", "a-", "a b", &long] {
        let (options, faults) =
            parse(OBJECT, &pairs(&[(BALANCE, "request")]), &pairs(&[(SUBSET_LABEL, bad)]), None);
        assert_eq!(options.unwrap().subset_label, None);
        assert!(faults[0].message.contains("allowed: the key of a pod label"), "{bad:?}: {faults:?}");
    }
}

#[test]
fn a_service_without_the_label_is_untouched() {
    assert_eq!(parse(OBJECT, &pairs(&[("app", "web")]), &pairs(&[]), None), (None, vec![]));
}

#[test]
fn every_option_has_a_default() {
    let (options, faults) = parse(OBJECT, &pairs(&[(BALANCE, "request")]), &pairs(&[]), None);
    let expected = options_of(Balance::Request, Strategy::LeastRequest, ZonePolicy::Prefer);
    assert_eq!((options, faults), (Some(expected), vec![]));
}

#[test]
fn an_unknown_label_value_names_object_key_value_and_what_is_allowed() {
    let (options, faults) = parse(OBJECT, &pairs(&[(BALANCE, "requests")]), &pairs(&[]), None);
    assert_eq!(options, None, "never was good: not opted in");
    assert_eq!(
        messages(&faults),
        ["Service demo/web: label evenkeel.io/balance is \"requests\"; allowed: connection, request"]
    );
}

#[test]
fn the_last_good_value_stays_when_a_value_goes_bad() {
    let mut last = options_of(Balance::Connection, Strategy::PeakEwma, ZonePolicy::Strict);
    last.subset_label = Some("shard".into());
    last.fallback = Some("west".into());
    let annotations = pairs(&[(STRATEGY, "fastest"), (ZONE, "near"), (SUBSET_LABEL, "a b"), (FALLBACK, "")]);
    let (options, faults) = parse(OBJECT, &pairs(&[(BALANCE, "")]), &annotations, Some(&last));
    assert_eq!(options, Some(last));
    assert_eq!(faults.len(), 5);
}

#[test]
fn an_annotation_that_goes_away_returns_to_its_default() {
    let mut last = options_of(Balance::Connection, Strategy::PeakEwma, ZonePolicy::Strict);
    last.fallback = Some("west".into());
    let (options, _) = parse(OBJECT, &pairs(&[(BALANCE, "connection")]), &pairs(&[]), Some(&last));
    let options = options.unwrap();
    assert_eq!(options.fallback, None);
    assert_eq!((options.strategy, options.zone), (Strategy::LeastRequest, ZonePolicy::Prefer));
    assert_eq!(parse(OBJECT, &pairs(&[]), &pairs(&[]), Some(&last)).0, None, "removing the label opts out");
}

#[test]
fn keys_that_do_not_exist_or_are_in_the_wrong_place_are_faults() {
    let labels = pairs(&[("evenkeel.io/balanec", "request"), (ZONE, "strict")]);
    let annotations = pairs(&[(BALANCE, "request"), ("evenkeel.io/zones", "strict")]);
    let (options, faults) = parse(OBJECT, &labels, &annotations, None);
    assert_eq!(options, None);
    let text = messages(&faults).join("\n");
    assert!(text.contains("label evenkeel.io/balanec does not exist; the only label is evenkeel.io/balance"));
    assert!(text.contains("evenkeel.io/zone is a label here, but it must be an annotation"));
    assert!(text.contains("evenkeel.io/balance is an annotation here, but it must be a label"));
    assert!(text.contains("annotation evenkeel.io/zones does not exist; there are: evenkeel.io/strategy"));
    assert!(faults.iter().all(|fault| fault.kind == FaultKind::UnknownKey));
}

#[test]
fn an_annotation_on_which_nobody_acts_yet_says_so() {
    let annotations = pairs(&[("evenkeel.io/hash-on", "header:x-user"), ("evenkeel.io/retry", "often")]);
    let (_, faults) = parse(OBJECT, &pairs(&[(BALANCE, "request")]), &annotations, None);
    assert_eq!(faults[0].kind, FaultKind::NoEffect);
    assert!(faults[1].message.ends_with("is \"often\"; allowed: a list such as key=value,key=value"));
}

#[test]
fn a_weight_of_zero_is_a_fault_and_the_last_good_weight_stays() {
    let object = "EndpointSlice demo/web-1";
    let (weight, faults) = parse_weight(object, &pairs(&[(WEIGHT, "0")]), Some(7));
    assert_eq!(weight, 7);
    assert_eq!(
        messages(&faults),
        [
            "EndpointSlice demo/web-1: annotation evenkeel.io/weight is \"0\"; allowed: a whole number from 1 to \
          1000 (weight 7 stays in force; to take endpoints out, make them not ready)"
        ]
    );
    for bad in ["1001", "-1", "1.5", "", "ten"] {
        assert_eq!(parse_weight(object, &pairs(&[(WEIGHT, bad)]), None).0, 1, "{bad}");
    }
    assert_eq!(parse_weight(object, &pairs(&[(WEIGHT, "1000")]), Some(7)), (1000, vec![]));
    assert_eq!(parse_weight(object, &pairs(&[]), Some(7)), (1, vec![]));
}
