// SPDX-License-Identifier: Apache-2.0
//! Tier 2: the writer on a fake that checks after every single operation what a program would find.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    kernel::{
        GRACE,
        diff::tests::{SMALL, backend, key, service},
        image::ServiceImage,
        testing::FakeSink,
    },
    store::{Application, Balance, Batch, Port, Protocol, ServiceName, ServiceSpec, Store, ZonePolicy},
};

type Ports = BTreeMap<u8, (u32, BTreeMap<u8, u32>)>;

fn image(ports: &Ports) -> Image {
    let mut image = Image::default();
    for (n, (flags, endpoints)) in ports {
        let endpoints: Vec<_> = endpoints.iter().map(|(n, w)| (*n, *w)).collect();
        image.services.insert(key(*n), service(*flags, &endpoints));
    }
    image
}

fn one(n: u8, endpoints: &[(u8, u32)]) -> Image {
    image(&BTreeMap::from([(n, (0, endpoints.iter().copied().collect()))]))
}

fn writer(sink: &FakeSink) -> KernelWriter<FakeSink> {
    KernelWriter::new(sink.clone(), SMALL, Ownership::undisputed(), Arc::default())
}

/// Snapshots of revisions 1, 2 and so on, each with another Service; none has endpoints.
fn snapshots<const N: usize>() -> [Arc<Snapshot>; N] {
    let (store, mut writer) = Store::new(1);
    std::array::from_fn(|n| {
        let protocol = Protocol::Tcp;
        let port = Port {
            name: "".into(),
            number: 80,
            protocol,
            application: Application::Opaque,
            cluster: "".into(),
        };
        let service = ServiceSpec {
            name: ServiceName { namespace: "demo".into(), name: format!("echo-{n}").into() },
            balance: Balance::Connection,
            strategy: "least-request".into(),
            zone: ZonePolicy::Prefer,
            addresses: vec![std::net::Ipv4Addr::new(10, 96, 0, n as u8).into()],
            ports: vec![port],
            faults: Vec::new(),
        };
        writer.apply(Batch { services: vec![service], ..Batch::default() });
        store.current()
    })
}

/// Says which tables are right while `next` is being published over `now`.
fn allow(sink: &FakeSink, now: &Image, next: &Image) {
    let mut allowed: BTreeMap<ServiceKey, Vec<ServiceImage>> = BTreeMap::new();
    for (key, table) in now.services.iter().chain(&next.services) {
        allowed.entry(*key).or_default().push(table.clone());
    }
    sink.maps.borrow_mut().allowed = allowed;
}

#[test]
fn publishing_the_same_again_writes_nothing() {
    let sink = FakeSink::new(SMALL);
    let mut writer = writer(&sink);
    let wanted = one(1, &[(1, 1), (2, 5)]);
    assert!(writer.publish_image(wanted.clone(), Duration::ZERO).operations > 0);
    assert_eq!(writer.publish_image(wanted, Duration::ZERO).operations, 0);
}

#[test]
fn the_empty_snapshot_of_the_start_removes_nothing() {
    let sink = FakeSink::new(SMALL);
    writer(&sink).publish_image(one(1, &[(1, 1)]), Duration::ZERO);
    let mut restarted = writer(&sink);
    let report = restarted.publish(&Snapshot::default(), GRACE * 9);
    assert!(report.errors.is_empty() && report.operations == 0);
    assert_eq!(report.revision, None, "what is in the maps is an earlier agent's");
    assert!(sink.maps.borrow().services.contains_key(&key(1)));
}

#[test]
fn a_revision_is_told_when_the_maps_say_all_of_it_and_not_before() {
    let sink = FakeSink::new(SMALL);
    let mut writer = writer(&sink);
    let [first, second, third] = snapshots();
    assert_eq!(writer.publish(&first, Duration::ZERO).revision, Some(1));
    assert_eq!(writer.tick(GRACE).revision, Some(1), "and from then on");
    sink.maps.borrow_mut().fail_after = Some(0);
    assert_eq!(writer.publish(&second, GRACE).revision, None, "an operation failed");
    assert_eq!(writer.tick(GRACE).revision, None, "and again");
    assert_eq!(writer.publish(&third, GRACE).revision, None);
    sink.maps.borrow_mut().fail_after = None;
    assert_eq!(writer.tick(GRACE).revision, Some(3), "the newest, mended");
    assert_eq!(sink.maps.borrow().services.len(), 3);
}

#[test]
fn a_failed_write_leaves_the_old_table_in_force_and_is_tried_again() {
    let sink = FakeSink::new(SMALL);
    let mut writer = writer(&sink);
    let (old, new) = (one(1, &[(1, 1)]), one(1, &[(2, 1), (3, 1)]));
    writer.publish_image(old.clone(), Duration::ZERO);
    for failing in 0..4 {
        sink.maps.borrow_mut().fail_after = Some(failing);
        let report = writer.publish_image(new.clone(), Duration::ZERO);
        assert!(matches!(report.errors[..], [WriteError::Port { .. }]), "{report:?}");
        assert_eq!(sink.maps.borrow().image().unwrap(), old);
    }
    sink.maps.borrow_mut().fail_after = None;
    assert!(writer.tick(GRACE).errors.is_empty());
    assert_eq!(sink.maps.borrow().image().unwrap(), new);
}

#[test]
fn a_service_that_does_not_fit_concerns_no_other() {
    let sink = FakeSink::new(SMALL);
    let mut writer = writer(&sink);
    let many: BTreeMap<u8, u32> = (1..100).map(|n| (n, 1)).collect();
    let small = BTreeMap::from([(200, 1)]);
    let wanted = image(&BTreeMap::from([(1, (0, many)), (2, (0, small.clone()))]));
    let report = writer.publish_image(wanted, Duration::ZERO);
    assert!(matches!(&report.errors[..], [WriteError::Full(full)] if full.service == key(1)), "{report:?}");
    assert_eq!(sink.maps.borrow().image().unwrap(), image(&BTreeMap::from([(2, (0, small))])));
}

#[test]
fn a_full_map_takes_the_table_once_there_is_room_again() {
    let sink = FakeSink::new(SMALL);
    let mut writer = writer(&sink);
    let list = |from: u8, count: u8| (from..from + count).map(|n| (n, 1)).collect::<Vec<_>>();
    writer.publish_image(one(1, &list(1, 15)), Duration::ZERO);
    writer.publish_image(one(1, &list(1, 1)), Duration::ZERO);
    let report = writer.publish_image(one(1, &list(50, 14)), Duration::ZERO);
    assert!(matches!(report.errors[..], [WriteError::Full(_)]), "{report:?}");
    assert_eq!(sink.maps.borrow().image().unwrap(), one(1, &list(1, 1)));
    let report = writer.tick(GRACE);
    assert!(report.errors.is_empty(), "{report:?}");
    assert_eq!(sink.maps.borrow().image().unwrap(), one(1, &list(50, 14)));
}

#[test]
fn a_restarted_writer_keeps_indices_and_frees_what_its_image_lacks() {
    let sink = FakeSink::new(SMALL);
    let wanted = image(&BTreeMap::from([
        (1, (0, BTreeMap::from([(1, 1), (2, 7)]))),
        (2, (1, BTreeMap::from([(2, 1)]))),
    ]));
    writer(&sink).publish_image(wanted.clone(), Duration::ZERO);
    let before = sink.maps.borrow().backends.clone();
    let mut restarted = writer(&sink);
    assert_eq!(restarted.publish_image(wanted, Duration::ZERO).operations, 0);
    assert_eq!(sink.maps.borrow().backends, before);
    restarted.publish_image(one(2, &[(2, 1)]), Duration::ZERO);
    restarted.tick(GRACE);
    let maps = sink.maps.borrow();
    assert!(!maps.backends.contains(&backend(1)) && maps.backends.contains(&backend(2)));
}

#[test]
fn the_index_for_loads_follows_the_map() {
    let sink = FakeSink::new(SMALL);
    let index = Arc::new(RwLock::new(HashMap::new()));
    let mut writer = KernelWriter::new(sink.clone(), SMALL, Ownership::undisputed(), index.clone());
    writer.publish_image(one(1, &[(1, 1)]), Duration::ZERO);
    let place = index.read()[&backend(1)];
    assert_eq!(sink.maps.borrow().backends[place as usize], backend(1));
    writer.publish_image(one(1, &[(2, 1)]), Duration::ZERO);
    writer.tick(GRACE);
    assert!(!index.read().contains_key(&backend(1)));
}

#[derive(Clone, Debug)]
struct Step {
    ports: Ports,
    pause_ms: u64,
    fail_after: Option<usize>,
    loads: Vec<u64>,
    restart: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let endpoints = prop::collection::btree_map(1u8..24, 1u32..6, 0..9);
    let ports = prop::collection::btree_map(1u8..8, (0u32..2, endpoints), 0..5);
    let loads = prop::collection::vec(0u64..2, 16);
    let step = (ports, 0u64..1_500, prop::option::of(0usize..12), loads, any::<bool>()).prop_map(
        |(ports, pause_ms, fail_after, loads, restart)| Step { ports, pause_ms, fail_after, loads, restart },
    );
    prop::collection::vec(step, 1..25)
}

proptest! {
    /// The fake panics at the first operation after which a port resolves to anything but its old or its new table.
    #[test]
    fn every_port_always_has_its_old_or_its_new_table(steps in steps()) {
        let sink = FakeSink::new(SMALL);
        let mut writer = writer(&sink);
        let mut now = Duration::ZERO;
        for step in steps {
            now += Duration::from_millis(step.pause_ms);
            if step.restart {
                writer = self::writer(&sink);
            }
            let in_force = sink.maps.borrow().image().unwrap();
            let next = image(&step.ports);
            allow(&sink, &in_force, &next);
            sink.maps.borrow_mut().fail_after = step.fail_after;
            sink.maps.borrow_mut().loads = step.loads;
            let report = writer.publish_image(next.clone(), now);
            let after = sink.maps.borrow().image().unwrap();
            if report.errors.is_empty() {
                prop_assert_eq!(after, next);
            } else {
                for (key, table) in &after.services {
                    let right = [in_force.services.get(key), next.services.get(key)];
                    prop_assert!(right.contains(&Some(table)));
                }
            }
        }
        // With no load and room to breathe everything goes in.
        sink.maps.borrow_mut().fail_after = None;
        sink.maps.borrow_mut().loads = vec![0; 16];
        allow(&sink, &Image::default(), &Image::default());
        writer.publish_image(one(1, &[(1, 1)]), now);
        writer.tick(now + GRACE);
        let last = writer.tick(now + GRACE * 2);
        prop_assert!(last.errors.is_empty(), "{:?}", last);
        prop_assert_eq!(sink.maps.borrow().image().unwrap(), one(1, &[(1, 1)]));
    }
}
