// SPDX-License-Identifier: Apache-2.0
//! Tier 1: what a snapshot promises.

use std::num::NonZeroU32;

use evenkeel_balance::priority::Health;

use super::super::{Application, Balance, EndpointSpec, Port, Protocol, ZonePolicy};
use super::*;

fn service(name: &str, address: &str) -> ServiceSpec {
    ServiceSpec {
        name: ServiceName { namespace: "demo".into(), name: name.into() },
        balance: Balance::Request,
        strategy: "least-request".into(),
        zone: ZonePolicy::Prefer,
        addresses: vec![address.parse().unwrap()],
        ports: vec![Port {
            name: "grpc".into(),
            number: 8080,
            protocol: Protocol::Tcp,
            application: Application::Http2,
            cluster: format!("{name}.demo.svc.cluster.local:8080").into(),
        }],
        faults: Vec::new(),
    }
}

fn endpoint(address: &str, priority: u32) -> EndpointSpec {
    EndpointSpec {
        address: address.parse().unwrap(),
        zone: "a".into(),
        node: "n".into(),
        pod: "p".into(),
        priority,
        weight: NonZeroU32::MIN,
        health: Health::Healthy,
    }
}

fn cluster(name: &str, endpoints: Vec<EndpointSpec>) -> (Arc<str>, ClusterSpec) {
    (format!("{name}.demo.svc.cluster.local:8080").into(), ClusterSpec { endpoints })
}

fn frontend(address: &str) -> Frontend {
    Frontend { address: address.parse().unwrap(), port: 8080, protocol: Protocol::Tcp }
}

#[test]
fn a_frontend_leads_to_its_active_endpoints() {
    let (store, mut writer) = Store::new(1);
    writer.apply(Batch {
        services: vec![service("echo", "10.96.0.10")],
        clusters: vec![cluster("echo", vec![endpoint("10.0.0.1:80", 0), endpoint("10.0.0.2:80", 1)])],
        ..Batch::default()
    });
    let snapshot = store.current();
    let (_, _, found) = snapshot.frontend(&frontend("10.96.0.10")).unwrap();
    let active: Vec<_> = found.active().map(|e| e.spec.address.to_string()).collect();
    assert_eq!(active, ["10.0.0.1:80"]);
    assert!(snapshot.frontend(&frontend("10.96.0.11")).is_none());
}

#[test]
fn a_batch_is_one_publication_and_wakes_readers() {
    let (store, mut writer) = Store::new(1);
    let changes = store.changes();
    let held = store.current();
    writer.apply(Batch {
        services: vec![service("a", "10.96.0.1"), service("b", "10.96.0.2")],
        ..Batch::default()
    });
    assert!(changes.has_changed().unwrap());
    assert_eq!((held.services.len(), store.current().services.len(), store.current().revision), (0, 2, 1));
}

#[test]
fn load_survives_a_change_of_the_list_and_is_shared_between_services() {
    let (store, mut writer) = Store::new(1);
    let list = || vec![endpoint("10.0.0.1:80", 0)];
    writer.apply(Batch {
        services: vec![service("a", "10.96.0.1"), service("b", "10.96.0.2")],
        clusters: vec![cluster("a", list()), cluster("b", list())],
        ..Batch::default()
    });
    let first = store.current();
    let guard = first.frontend(&frontend("10.96.0.1")).unwrap().2.endpoints[0].load.begin();
    writer.apply(Batch {
        clusters: vec![cluster("b", vec![endpoint("10.0.0.2:80", 0), endpoint("10.0.0.1:80", 0)])],
        ..Batch::default()
    });
    let second = store.current();
    assert_eq!(second.frontend(&frontend("10.96.0.2")).unwrap().2.endpoints[1].load.in_flight(), 1);
    drop(guard);
    assert_eq!(second.frontend(&frontend("10.96.0.2")).unwrap().2.endpoints[1].load.in_flight(), 0);
}

#[test]
fn what_did_not_change_is_shared_with_the_snapshot_before() {
    let (store, mut writer) = Store::new(1);
    writer.apply(Batch {
        services: vec![service("a", "10.96.0.1"), service("b", "10.96.0.2")],
        clusters: vec![cluster("a", vec![endpoint("10.0.0.1:80", 0)])],
        ..Batch::default()
    });
    let before = store.current();
    writer
        .apply(Batch { clusters: vec![cluster("b", vec![endpoint("10.0.0.2:80", 0)])], ..Batch::default() });
    let after = store.current();
    let of = |s: &Snapshot, address| s.frontend(&frontend(address)).unwrap().2.clone();
    assert!(Arc::ptr_eq(&of(&before, "10.96.0.1"), &of(&after, "10.96.0.1")));
    assert!(!Arc::ptr_eq(&of(&before, "10.96.0.2"), &of(&after, "10.96.0.2")));
}

#[test]
fn the_second_service_with_an_address_gets_a_fault_and_the_first_keeps_it() {
    let (store, mut writer) = Store::new(1);
    writer.apply(Batch {
        services: vec![service("b", "10.96.0.1"), service("a", "10.96.0.1")],
        ..Batch::default()
    });
    let snapshot = store.current();
    assert_eq!(&*snapshot.frontend(&frontend("10.96.0.1")).unwrap().0.spec.name.name, "a");
    let faults: Vec<_> = snapshot.faults().collect();
    assert_eq!(
        faults,
        ["demo/b: 10.96.0.1:8080 belongs to demo/a already and is not balanced for this Service"]
    );
}

#[test]
fn a_strategy_that_cannot_be_built_is_a_fault_and_the_default_serves() {
    let (store, mut writer) = Store::new(1);
    writer.apply(Batch {
        services: vec![ServiceSpec { strategy: "maglev".into(), ..service("a", "10.96.0.1") }],
        ..Batch::default()
    });
    let snapshot = store.current();
    assert_eq!(snapshot.services.values().next().unwrap().strategy, Strategy::LeastRequest);
    assert!(snapshot.faults().next().unwrap().contains("maglev"));
}

#[test]
fn an_address_has_one_identity_however_it_is_written_and_each_port_has_its_own() {
    let of = |text: &str| identity(text.parse().unwrap());
    assert_eq!(of("10.0.0.1:80"), of("[::ffff:10.0.0.1]:80"));
    assert!(of("10.0.0.1:80") != of("10.0.0.1:81") && of("10.0.0.1:80") != of("10.0.0.2:80"));
}

#[test]
fn removed_services_and_clusters_are_gone_and_their_loads_forgotten() {
    let (store, mut writer) = Store::new(1);
    writer.apply(Batch {
        services: vec![service("a", "10.96.0.1")],
        clusters: vec![cluster("a", vec![endpoint("10.0.0.1:80", 0)])],
        ..Batch::default()
    });
    assert_eq!(writer.wanted_clusters().len(), 1);
    writer.apply(Batch {
        services_removed: vec![service("a", "10.96.0.1").name],
        clusters_removed: vec![cluster("a", Vec::new()).0],
        ..Batch::default()
    });
    assert!(store.current().services.is_empty() && writer.wanted_clusters().is_empty());
    assert!(writer.loads.is_empty());
}
