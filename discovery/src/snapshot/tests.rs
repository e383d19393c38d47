// SPDX-License-Identifier: Apache-2.0
//! Revisions and sharing. Tier 1: pure.

use std::collections::HashMap;

use evenkeel_proto::discovery::{Application, Balance, Strategy};
use evenkeel_xds::Protocol;

use super::*;
use crate::objects::{Service, ServicePort, Slice, SliceEndpoint};
use crate::options::Options;
use crate::view;

fn service(name: &str, last: &[u8], zone: ZonePolicy) -> (ObjectKey, Option<ServiceView>) {
    let key = ObjectKey::new("demo", name);
    let options = Options { balance: Balance::Request, strategy: Strategy::LeastRequest, zone };
    let port = |name: &str, port| ServicePort {
        name: name.into(),
        port,
        protocol: Protocol::Tcp,
        application: Application::Unspecified,
        cluster: ClusterName::new(&key.name, "demo", port, Protocol::Tcp).unwrap().to_string(),
    };
    let service = Service {
        key: key.clone(),
        options: Some(options),
        addresses: vec![[10, 96, 0, 1].into()],
        ports: vec![port("a", 80), port("b", 81)],
    };
    let endpoint = |last: u8, zone: &str| SliceEndpoint {
        address: [10, 0, 0, last].into(),
        zone: Some(zone.into()),
        node: String::new(),
        pod: String::new(),
        draining: false,
    };
    let slice = |port: &str, endpoints: Vec<SliceEndpoint>| Slice {
        key: ObjectKey::new("demo", port),
        service: Some(key.clone()),
        ports: [((port.to_owned(), Protocol::Tcp), 8080)].into(),
        endpoints,
        weight: 1,
    };
    let first = slice("a", last.iter().map(|last| endpoint(*last, "zone-a")).collect());
    let second = slice("b", vec![endpoint(200, "zone-b")]);
    let view = view::resolve(&service, &[&first, &second], &HashMap::new(), vec![]);
    (key.clone(), Some(view.unwrap()))
}

fn names(list: &[&str]) -> Vec<Arc<str>> {
    list.iter().map(|name| Arc::from(*name)).collect()
}

const A: &str = "web.demo.svc.cluster.local:80";
const B: &str = "web.demo.svc.cluster.local:81";

#[test]
fn a_revision_names_exactly_what_changed() {
    let first = Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)]).unwrap();
    let all = Names { services: names(&["demo/web"]), clusters: names(&[A, B]) };
    assert_eq!(first.changed_since(0), Some(all));
    let second = first.with([service("web", &[1, 2], ZonePolicy::Prefer)]).unwrap();
    assert_eq!(second.changed_since(1), Some(Names { services: vec![], clusters: names(&[A]) }));
    assert_eq!(second.changed_since(2), Some(Names::default()));
    let third = second.with([(ObjectKey::new("demo", "web"), None)]).unwrap();
    let gone = Names { services: names(&["demo/web"]), clusters: names(&[A, B]) };
    assert_eq!(third.changed_since(2), Some(gone));
    assert!(third.is_empty());
}

#[test]
fn equal_content_is_no_revision() {
    let first = Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)]).unwrap();
    assert!(first.with([service("web", &[1], ZonePolicy::Prefer)]).is_none());
    assert!(first.with([(ObjectKey::new("demo", "other"), None)]).is_none());
}

#[test]
fn what_has_not_changed_is_encoded_once_for_all_revisions_and_zones_that_see_it_alike() {
    let first = Arc::new(Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)]).unwrap());
    let body = |snapshot: &Arc<Snapshot>, zone: &str, name: &str| {
        let view = ZoneView::new(snapshot.clone(), zone.into());
        view.get(type_url::CLUSTER_LOAD_ASSIGNMENT, name).unwrap().body().as_ptr()
    };
    let before = body(&first, "zone-b", B);
    assert_eq!(body(&first, "zone-x", B), body(&first, "", B), "neither has local endpoints");
    assert_ne!(before, body(&first, "", B));
    let second = Arc::new(first.with([service("web", &[1, 2], ZonePolicy::Prefer)]).unwrap());
    assert_eq!(body(&second, "zone-b", B), before);
    let third = Arc::new(second.with([service("web", &[1, 2], ZonePolicy::Ignore)]).unwrap());
    assert_ne!(body(&third, "zone-b", B), before, "another policy is another cluster");
}

#[test]
fn a_stream_that_is_far_behind_is_told_to_look_at_everything() {
    let mut snapshot = Snapshot::default();
    for round in 0..=REMEMBERED {
        let last = u8::try_from(round).unwrap();
        snapshot = snapshot.with([service("web", &[last], ZonePolicy::Prefer)]).unwrap();
    }
    assert!(snapshot.changed_since(1).is_some());
    assert_eq!(snapshot.changed_since(0), None);
    assert_eq!(snapshot.recent.len(), REMEMBERED);
}

#[test]
fn names_that_are_not_served_are_absent_not_errors() {
    let snapshot = Arc::new(Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)]).unwrap());
    let view = ZoneView::new(snapshot, "zone-a".into());
    for name in ["", "web", "web.demo.svc.cluster.local:82", "web.other.svc.cluster.local:80", "\u{0}"] {
        assert_eq!(view.get(type_url::CLUSTER_LOAD_ASSIGNMENT, name), None, "{name:?}");
        assert_eq!(view.get(type_url::SERVICE, name), None, "{name:?}");
    }
    assert_eq!(view.get("type.googleapis.com/x", "demo/web"), None);
    let mut count = 0;
    view.for_each(type_url::CLUSTER_LOAD_ASSIGNMENT, &mut |_| count += 1);
    assert_eq!(count, 2);
}
