// SPDX-License-Identifier: Apache-2.0
//! Subsets: grouping, the three fallbacks, and a picker that sees only its members.

use super::*;
use crate::{
    picker::{LeastRequest, Picker as _},
    rng::SplitMix64,
};
use proptest::prelude::{Just, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

const LABELS: [Option<&str>; 5] = [Some("v1"), Some("v2"), None, Some("v1"), Some("")];

fn select(fallback: Fallback, value: Option<&str>) -> (Vec<usize>, Reason) {
    let subsets = Subsets::new(LABELS, fallback);
    let selection = subsets.select(value);
    (selection.members.to_vec(), selection.reason)
}

#[test]
fn a_value_leads_to_the_endpoints_that_have_it_under_any_fallback() {
    for fallback in [Fallback::NoFallback, Fallback::AnyEndpoint, Fallback::DefaultSubset("v2".into())] {
        assert_eq!(select(fallback.clone(), Some("v1")), (vec![0, 3], Reason::Matched));
        assert_eq!(select(fallback, Some("")), (vec![4], Reason::Matched));
    }
}

/// The table of Envoy's documentation ("Load Balancer Subsets"): no metadata, and metadata that nobody has, under
/// each policy.
#[test]
fn no_value_and_an_unknown_value_fall_back_as_in_envoy() {
    for value in [None, Some("v9")] {
        assert_eq!(select(Fallback::NoFallback, value), (vec![], Reason::NoSubset));
        assert_eq!(select(Fallback::AnyEndpoint, value), (vec![0, 1, 2, 3, 4], Reason::AnyEndpoint));
        assert_eq!(select(Fallback::DefaultSubset("v2".into()), value), (vec![1], Reason::DefaultSubset));
        assert_eq!(select(Fallback::DefaultSubset("v3".into()), value), (vec![], Reason::NoSubset));
    }
}

#[test]
fn without_endpoints_nobody_serves_whatever_the_fallback() {
    for fallback in [Fallback::NoFallback, Fallback::AnyEndpoint, Fallback::DefaultSubset(String::new())] {
        let subsets = Subsets::new([], fallback);
        assert_eq!(subsets.select(Some("v1")), Selection::NOBODY);
        assert_eq!(subsets.select(None), Selection::NOBODY);
    }
}

#[test]
fn a_selection_says_where_its_picker_is_kept() {
    let subsets = Subsets::new(LABELS, Fallback::AnyEndpoint);
    let values: Vec<_> = subsets.iter().map(|(value, _)| value).collect();
    assert_eq!(values, ["", "v1", "v2"]);
    assert_eq!(subsets.select(Some("v2")).subset, Some(2));
    assert_eq!(subsets.select(None).subset, None);
}

struct Busy(Vec<u64>);

impl View for Busy {
    fn in_flight(&self, endpoint: usize) -> u64 {
        self.0[endpoint]
    }

    fn available(&self, endpoint: usize) -> bool {
        endpoint != 3
    }

    fn hash(&self) -> Option<u64> {
        Some(9)
    }
}

#[test]
fn a_picker_within_a_subset_sees_its_members_only() {
    let (all, members) = (Busy(vec![0, 7, 0, 0, 5]), [1, 3, 4]);
    let (view, picker) = (Within { view: &all, members: &members }, LeastRequest::new(&[1; 3]));
    let mut rng = SplitMix64::new(1);
    // Endpoint 3 is unavailable, and 4 is less busy than 1.
    assert!((0..100).all(|_| picker.pick(&view, &mut rng).is_some_and(|i| members[i] != 3)));
    assert_eq!((view.in_flight(2), view.hash(), view.latency(0), view.probe(0)), (5, Some(9), None, None));
}

proptest! {
    #[test]
    fn every_labelled_endpoint_is_in_exactly_the_subset_of_its_value(
        labels in prop::collection::vec(prop_oneof![Just(None), Just(Some("a")), Just(Some("b")), Just(Some("ä"))], 0..50),
    ) {
        let subsets = Subsets::new(labels.iter().copied(), Fallback::NoFallback);
        let grouped: usize = subsets.iter().map(|(_, members)| members.len()).sum();
        prop_assert_eq!(grouped, labels.iter().flatten().count());
        for (value, members) in subsets.iter() {
            prop_assert!(members.iter().all(|i| labels[*i] == Some(value)));
            prop_assert_eq!(subsets.select(Some(value)).members, members);
        }
    }
}
