// SPDX-License-Identifier: Apache-2.0
//! What concerns more than one Service, Pod or cluster. Tier 1: pure.

use super::*;
use crate::options::{FALLBACK, SUBSET_LABEL};
use crate::source::PodLabels;

fn named(name: &str, created: Value) -> Value {
    let mut object = service("grpc");
    object["metadata"]["name"] = json!(name);
    object["metadata"]["creationTimestamp"] = created;
    object
}

fn annotated(key: &str, value: &str) -> Value {
    let mut object = service("grpc");
    object["metadata"]["annotations"] = json!({key: value});
    object
}

fn addresses_of(index: &Index, name: &str) -> usize {
    index.resolve(&ObjectKey::new("demo", name)).view.unwrap().service.addresses.len()
}

#[test]
fn of_two_services_with_one_address_the_older_keeps_it_in_whatever_order_they_come() {
    let old = || named("z-old", json!("2026-01-01T00:00:00Z"));
    let young = || named("a-young", json!("2026-01-02T00:00:00Z"));
    for objects in [[old(), young()], [young(), old()]] {
        let mut index = Index::default();
        for object in objects {
            index.service(object);
        }
        assert_eq!((addresses_of(&index, "z-old"), addresses_of(&index, "a-young")), (1, 0));
        let faults = index.resolve(&ObjectKey::new("demo", "a-young")).faults;
        assert_eq!(faults[0].kind, FaultKind::Duplicate);
        assert!(
            faults[0].message.starts_with(
                "Service demo/a-young: 10.96.0.1 port 80 (TCP) is also Service demo/z-old's, which is older"
            ),
            "{}",
            faults[0]
        );
        assert_eq!(index.resolve(&ObjectKey::new("demo", "z-old")).faults, []);
        index.take_dirty();
        index.remove_service(&ObjectKey::new("demo", "z-old"));
        assert!(index.take_dirty().contains(&ObjectKey::new("demo", "a-young")), "it has the address now");
        assert_eq!(addresses_of(&index, "a-young"), 1);
    }
}

#[test]
fn without_times_the_name_decides_and_a_service_with_a_time_is_older() {
    let mut index = Index::default();
    index.service(named("b", json!(null))).service(named("a", json!(null)));
    assert_eq!((addresses_of(&index, "a"), addresses_of(&index, "b")), (1, 0));
    index.service(named("c", json!("2026-01-02T00:00:00Z")));
    assert_eq!((addresses_of(&index, "a"), addresses_of(&index, "c")), (0, 1));
}

#[test]
fn another_port_of_the_same_address_is_no_contradiction() {
    let mut index = Index::default();
    let mut other = named("other", json!(null));
    other["spec"]["ports"][0]["port"] = json!(81);
    let mut not_ours = named("not-ours", json!("2020-01-02T00:00:00Z"));
    not_ours["metadata"]["labels"] = json!({});
    index.service(service("grpc")).service(other).service(not_ours);
    assert_eq!((addresses_of(&index, "web"), addresses_of(&index, "other")), (1, 1));
}

fn pod(name: &str, shard: &str) -> Change {
    let labels =
        BTreeMap::from([("shard".to_owned(), shard.to_owned()), ("app".to_owned(), "web".to_owned())]);
    Change::Pod(Event::Applied(Box::new(PodLabels { key: ObjectKey::new("demo", name), labels })))
}

fn of_pod(address: &str, name: &str) -> Value {
    json!({"addresses": [address], "targetRef": {"kind": "Pod", "name": name}})
}

#[test]
fn an_endpoints_subset_is_its_pods_label_and_follows_it() {
    let subsets = |index: &Index| -> Vec<Option<String>> {
        let view = index.web().view.unwrap();
        view.ports[0].endpoints.iter().map(|endpoint| endpoint.subset.as_deref().map(str::to_owned)).collect()
    };
    let mut index = Index::default();
    index.apply(None, &pod("p1", "blue"));
    index.service(annotated(SUBSET_LABEL, "shard"));
    index.slice(slice(
        "web-1",
        json!([of_pod("10.0.0.1", "p1"), of_pod("10.0.0.2", "p2"), endpoint("10.0.0.3")]),
    ));
    assert_eq!(subsets(&index), [Some("blue".into()), None, None]);
    index.take_dirty();
    index.apply(None, &pod("p1", "blue"));
    index.apply(None, &pod("p9", "blue"));
    assert_eq!(index.take_dirty(), BTreeSet::new(), "nothing is new, and p9 is nobody's endpoint");
    index.apply(None, &pod("p2", "green"));
    assert_eq!(index.take_dirty(), BTreeSet::from([web()]));
    index.apply(None, &Change::Pod(Event::Deleted(ObjectKey::new("demo", "p1"))));
    assert_eq!(subsets(&index), [None, Some("green".into()), None]);
    index.service(service("grpc"));
    assert_eq!(subsets(&index), [None, None, None], "nobody asks any more");
}

impl Index {
    fn abroad_slice(&mut self, object: Value) -> &mut Self {
        let slice = serde_json::from_value(object).unwrap();
        self.apply(Some("west"), &Change::Slice(Event::Applied(Box::new(slice))));
        self
    }

    /// Region, zone and address of the first port's endpoints.
    fn places(&self) -> Vec<(String, String, String)> {
        let view = self.web().view.unwrap();
        let text =
            |e: &view::Endpoint| (e.region.to_string(), e.zone.to_string(), e.address.ip().to_string());
        view.ports[0].endpoints.iter().map(text).collect()
    }
}

fn place(region: &str, zone: &str, address: &str) -> (String, String, String) {
    (region.to_owned(), zone.to_owned(), address.to_owned())
}

#[test]
fn a_service_that_names_a_fallback_has_its_ready_endpoints_as_well() {
    let mut index = Index::new(["west".into()]);
    let mut draining = endpoint("10.8.0.2");
    draining["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
    let mut there = slice("other-name", json!([endpoint("10.8.0.1"), draining]));
    there["ports"][0]["port"] = json!(9090);
    let there_node =
        Change::Node(Event::Applied(Box::new(serde_json::from_value(node("n1", "w1")).unwrap())));
    index.service(annotated(FALLBACK, "west")).slice(slice("web-1", json!([endpoint("10.0.0.1")])));
    index.node(node("n1", "zone-a"));
    index.take_dirty();
    index.abroad_slice(there);
    assert_eq!(index.take_dirty(), BTreeSet::from([web()]));
    index.apply(Some("west"), &there_node);
    assert_eq!(index.take_dirty(), BTreeSet::from([web()]), "its zone is another cluster's");
    assert_eq!(index.places(), [place("", "zone-a", "10.0.0.1"), place("west", "w1", "10.8.0.1")]);
    assert_eq!(index.web().view.unwrap().ports[0].endpoints[1].address.port(), 9090);
    assert_eq!(index.faults(), Vec::<String>::new());
    index.service(service("grpc"));
    assert_eq!(index.places(), [place("", "zone-a", "10.0.0.1")]);
    index.take_dirty();
    index.abroad_slice(slice("web-2", json!([endpoint("10.8.0.9")])));
    assert_eq!(index.take_dirty(), BTreeSet::new(), "nobody asks for it");
}

#[test]
fn an_address_in_both_clusters_is_ours_and_is_told_once() {
    let mut index = Index::new(["west".into()]);
    let both = || json!([endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    index
        .service(annotated(FALLBACK, "west"))
        .slice(slice("web-1", both()))
        .abroad_slice(slice("web-1", both()));
    assert_eq!(index.places().iter().filter(|(region, ..)| region.is_empty()).count(), 2);
    assert_eq!(index.faults().len(), 1);
    assert!(
        index.faults()[0]
            .starts_with("cluster west: Service demo/web: port 80: 2 addresses are endpoints of our")
    );
}

#[test]
fn a_fallback_that_discovery_was_not_given_is_a_fault() {
    let mut index = Index::new(["west".into()]);
    index.service(annotated(FALLBACK, "east")).slice(slice("web-1", json!([endpoint("10.0.0.1")])));
    assert_eq!(
        index.faults(),
        [
            "Service demo/web: annotation evenkeel.io/fallback is \"east\", and discovery was given no cluster of that \
             name; there are: [\"west\"] (flag --fallback)"
        ]
    );
    assert_eq!(index.places().len(), 1);
}

#[test]
fn a_fault_of_a_fallbacks_slice_names_the_cluster() {
    let mut index = Index::new(["west".into()]);
    let mut unnamed = slice("web-1", json!([endpoint("10.8.0.300"), endpoint("10.8.0.1")]));
    unnamed["ports"][0]["name"] = json!("http");
    index.service(annotated(FALLBACK, "west")).abroad_slice(unnamed);
    let faults = index.faults();
    assert!(
        faults[0].starts_with("cluster west: EndpointSlice demo/web-1: endpoints[0].addresses"),
        "{faults:?}"
    );
    assert!(
        faults[1].starts_with("cluster west: Service demo/web: port 80 (TCP) is named \"grpc\""),
        "{faults:?}"
    );
}
