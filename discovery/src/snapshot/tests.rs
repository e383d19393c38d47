// SPDX-License-Identifier: Apache-2.0
//! Revisions and sharing. Tier 1: pure.

use evenkeel_proto::discovery::{Application, Balance, Strategy, ZonePolicy};
use evenkeel_xds::server::{Changes as _, Difference};
use evenkeel_xds::{ClusterName, Protocol, ResourceSource, type_url};

use super::*;
use crate::objects::{Service, ServicePort, Slice, SliceEndpoint};
use crate::options::Options;
use crate::view::{self, Ask, Slices};

fn service(name: &str, last: &[u8], zone: ZonePolicy) -> (ObjectKey, Option<ServiceView>) {
    let key = ObjectKey::new("demo", name);
    let options = Options {
        balance: Balance::Request,
        strategy: Strategy::LeastRequest,
        zone,
        subset_label: None,
        fallback: None,
    };
    let port = |name: &str, port| ServicePort {
        name: name.into(),
        port,
        protocol: Protocol::Tcp,
        application: Application::Unspecified,
        cluster: ClusterName::new(&key.name, "demo", port, Protocol::Tcp).unwrap().to_string().into(),
    };
    let service = Service {
        key: key.clone(),
        options: Some(options.clone()),
        addresses: vec![[10, 96, 0, 1].into()],
        ports: vec![port("a", 80), port("b", 81)],
        created: None,
    };
    let endpoint = |last: u8, zone: &str| SliceEndpoint {
        address: [10, 0, 0, last].into(),
        zone: Some(zone.into()),
        node: Arc::default(),
        pod: Arc::default(),
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
    let home = Slices { slices: vec![&first, &second], zones: &Zones::new() };
    let view = view::resolve(Ask { service, options, home, abroad: None, subset: &|_| None }, vec![]);
    (key.clone(), Some(view))
}

fn names(list: &[&str]) -> Vec<Arc<str>> {
    list.iter().map(|name| Arc::from(*name)).collect()
}

const A: &str = "web.demo.svc.cluster.local:80";
const B: &str = "web.demo.svc.cluster.local:81";

#[test]
fn a_revision_names_exactly_what_changed() {
    let first = Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)], &Zones::new()).unwrap();
    let all = || Names {
        services: names(&["demo/web"]),
        endpoints: names(&[A, B]),
        frontends: names(&[A, B]),
        routes: names(&[A, B, translate::GATEWAY]),
    };
    assert_eq!(first.changed_since(0).as_deref(), Some(&all()));
    let second = first.with([service("web", &[1, 2], ZonePolicy::Prefer)], &Zones::new()).unwrap();
    assert_eq!(
        second.changed_since(1).as_deref(),
        Some(&Names { endpoints: names(&[A]), ..Names::default() })
    );
    assert_eq!(second.changed_since(2).as_deref(), Some(&Names::default()));
    let third = second.with([(ObjectKey::new("demo", "web"), None)], &Zones::new()).unwrap();
    assert_eq!(third.changed_since(2).as_deref(), Some(&all()));
    assert!(third.clusters.is_empty());
    assert!(third.is_empty());
}

#[test]
fn equal_content_is_no_revision() {
    let first = Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)], &Zones::new()).unwrap();
    assert!(first.with([service("web", &[1], ZonePolicy::Prefer)], &Zones::new()).is_none());
    assert!(first.with([(ObjectKey::new("demo", "other"), None)], &Zones::new()).is_none());
}

#[test]
fn what_has_not_changed_is_encoded_once_for_all_revisions_and_zones_that_see_it_alike() {
    let first = Arc::new(
        Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)], &Zones::new()).unwrap(),
    );
    let body = |snapshot: &Arc<Snapshot>, zone: &str, name: &str| {
        let view = ClientView::new(snapshot.clone(), zone.into(), None);
        view.get(type_url::CLUSTER_LOAD_ASSIGNMENT, name).unwrap().body().as_ptr()
    };
    let before = body(&first, "zone-b", B);
    assert_eq!(body(&first, "zone-x", B), body(&first, "", B), "neither has local endpoints");
    assert_ne!(before, body(&first, "", B));
    let second = Arc::new(first.with([service("web", &[1, 2], ZonePolicy::Prefer)], &Zones::new()).unwrap());
    assert_eq!(body(&second, "zone-b", B), before);
    let third = Arc::new(second.with([service("web", &[1, 2], ZonePolicy::Ignore)], &Zones::new()).unwrap());
    assert_ne!(body(&third, "zone-b", B), before, "another policy is another cluster");
}

#[test]
fn a_stream_that_is_far_behind_is_told_to_look_at_everything() {
    let mut snapshot = Snapshot::default();
    for round in 0..=REMEMBERED {
        let last = u8::try_from(round).unwrap();
        snapshot = snapshot.with([service("web", &[last], ZonePolicy::Prefer)], &Zones::new()).unwrap();
    }
    assert!(snapshot.changed_since(1).is_some());
    assert_eq!(snapshot.changed_since(0), None);
    assert_eq!(snapshot.recent.len(), REMEMBERED);
}

#[test]
fn what_a_zone_is_told_of_a_change_is_what_a_look_at_both_snapshots_says() {
    let all = Names {
        services: names(&["demo/web", "demo/api"]),
        endpoints: names(&[A, B]),
        frontends: names(&[A, B]),
        routes: names(&[A, B, translate::GATEWAY]),
    };
    let steps: [&[u8]; 5] = [&[1], &[1, 2], &[1, 2], &[], &[3]];
    let mut snapshots = vec![Arc::new(Snapshot::default())];
    for (round, step) in steps.into_iter().enumerate() {
        let last = snapshots.last().unwrap();
        // A Service that is there every other time.
        let (key, api) = service("api", &[9], ZonePolicy::Prefer);
        let updates = [service("web", step, ZonePolicy::Prefer), (key, api.filter(|_| round % 2 == 0))];
        snapshots.push(Arc::new(last.with(updates, &Zones::new()).unwrap()));
    }
    let mut told = 0;
    for (zone, (from, to)) in ["", "zone-a", "zone-b"].into_iter().flat_map(|zone| {
        let pairs = (0..snapshots.len()).flat_map(|to| (0..=to).map(move |from| (from, to)));
        pairs.map(move |pair| (zone, pair))
    }) {
        let old = ClientView::new(snapshots[from].clone(), zone.into(), None);
        let new = old.on(snapshots[to].clone());
        let news = new.since(&old).unwrap();
        for url in type_url::SERVING_ORDER {
            for (place, name) in news.names(url).iter().enumerate() {
                let looked = Difference::between(old.get(url, name).as_ref(), new.get(url, name));
                assert_eq!(news.difference(url, place, &old, &new), looked);
                assert_eq!(news.difference(url, place, &old, &new), looked, "asked again");
                told += usize::from(looked.is_some());
            }
            let silent = all.of_type(url).iter().filter(|name| !news.names(url).contains(name));
            silent.for_each(|name| assert_eq!(old.get(url, name), new.get(url, name), "{name}"));
        }
    }
    assert!(told > 100, "{told}");
}

#[test]
fn names_that_are_not_served_are_absent_not_errors() {
    let snapshot = Arc::new(
        Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)], &Zones::new()).unwrap(),
    );
    let view = ClientView::new(snapshot, "zone-a".into(), None);
    for name in ["", "web", "web.demo.svc.cluster.local:82", "web.other.svc.cluster.local:80", "\u{0}"] {
        assert_eq!(view.get(type_url::CLUSTER_LOAD_ASSIGNMENT, name), None, "{name:?}");
        assert_eq!(view.get(type_url::SERVICE, name), None, "{name:?}");
    }
    assert_eq!(view.get("type.googleapis.com/x", "demo/web"), None);
    let mut count = 0;
    view.for_each(type_url::CLUSTER_LOAD_ASSIGNMENT, &mut |_| count += 1);
    assert_eq!(count, 2);
}

fn versions(snapshot: &Snapshot, url: &str, name: &str) -> Option<evenkeel_xds::Version> {
    let view = ClientView::new(Arc::new(snapshot.clone_for_tests()), "".into(), None);
    view.get(url, name).map(|resource| resource.version())
}

impl Snapshot {
    fn clone_for_tests(&self) -> Self {
        Self {
            revision: self.revision,
            services: self.services.clone(),
            clusters: self.clusters.clone(),
            zones: self.zones.clone(),
            gateway: self.gateway.clone(),
            recent: self.recent.clone(),
            zone_views: ZoneViews::default(),
        }
    }
}

#[test]
fn what_a_port_is_does_not_change_with_its_endpoints() {
    let first = Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)], &Zones::new()).unwrap();
    let second = first.with([service("web", &[2], ZonePolicy::Prefer)], &Zones::new()).unwrap();
    for url in [type_url::CLUSTER, type_url::LISTENER, type_url::ROUTE_CONFIGURATION] {
        assert!(versions(&first, url, A).is_some(), "{url}");
        assert_eq!(versions(&first, url, A), versions(&second, url, A), "{url}");
    }
    assert!(Arc::ptr_eq(&first.gateway, &second.gateway), "not even looked at again");
    let third = second.with([service("api", &[1], ZonePolicy::Prefer)], &Zones::new()).unwrap();
    let gateway = |snapshot| versions(snapshot, type_url::ROUTE_CONFIGURATION, translate::GATEWAY);
    assert_ne!(gateway(&second), gateway(&third));
    assert_eq!(third.changed_since(2).unwrap().routes.last().map(|name| &**name), Some(translate::GATEWAY));
}

#[test]
fn a_wildcard_covers_of_the_listeners_only_the_one_that_was_asked_for() {
    let snapshot = Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)], &Zones::new());
    let snapshot = Arc::new(snapshot.unwrap());
    let listener = translate::gateway_listener("127.0.0.1:80".parse().unwrap());
    for (gateway, expected) in [(None, vec![]), (Some(listener), vec![translate::GATEWAY.to_owned()])] {
        let view = ClientView::new(snapshot.clone(), "".into(), gateway);
        let mut listeners = Vec::new();
        view.for_each(type_url::LISTENER, &mut |resource| listeners.push(resource.name().to_string()));
        assert_eq!(listeners, expected);
        assert_eq!(view.get(type_url::LISTENER, translate::GATEWAY).is_some(), !expected.is_empty());
        assert!(view.get(type_url::LISTENER, A).is_some(), "by name");
        assert!(!view.in_wildcard(type_url::LISTENER, A));
    }
}

#[test]
fn a_node_that_moves_is_a_revision_without_names() {
    let first = Snapshot::default().with([service("web", &[1], ZonePolicy::Prefer)], &Zones::new()).unwrap();
    let zones = Zones::unit("n1".into(), "zone-a".into());
    let second = first.with([], &zones).unwrap();
    assert_eq!(second.zone_of_node("n1").map(|zone| &**zone), Some("zone-a"));
    assert_eq!(second.changed_since(1).as_deref(), Some(&Names::default()));
    assert!(second.with([], &zones).is_none());
}
