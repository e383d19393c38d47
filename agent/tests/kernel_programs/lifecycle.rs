// SPDX-License-Identifier: Apache-2.0
//! Adoption, refusal, upgrade and removal of what is pinned.

use std::fs;

use aya::maps::{Array, Map, MapData};
use evenkeel_abi::{Control, maps, service_flags::REQUEST};
use evenkeel_agent::{
    kernel::{self, Beat, Config, KernelError},
    store::{Batch, Store},
};

use crate::node::{Node, count, eventually, image, load, now, peer, publish};

const VIP: &str = "127.9.0.1:80";

#[test]
fn an_agent_that_restarts_adopts_everything_and_disturbs_nothing() {
    let node = Node::new();
    let mut first = node.up();
    let wanted = image(&[(VIP, 0, &[("127.1.0.1:80", 1), ("127.1.0.2:80", 3)])]);
    publish(&mut first, wanted.clone());
    let _servers = [node.listen("127.1.0.1:80"), node.listen("127.1.0.2:80")];
    let clients: Vec<_> = (0..8).map(|_| node.connect(VIP).unwrap()).collect();
    assert!(!first.adopted);
    drop(first);
    // Between the agents the programs go on.
    let orphan = node.connect(VIP).unwrap();
    let mut second = node.up();
    assert!(second.adopted);
    let report = publish(&mut second, wanted);
    assert_eq!(report.operations, 0, "everything was there already");
    let total = || load(&second, "127.1.0.1:80") + load(&second, "127.1.0.2:80");
    assert_eq!(total(), 9, "connections counted before stay counted");
    assert_eq!(peer(&clients[0]).to_string(), VIP);
    drop((clients, orphan));
    eventually("all counts are returned", || total() == 0);
    assert_eq!(count(&second, "released"), 9);
}

#[test]
fn links_are_swapped_and_not_attached_twice() {
    let node = Node::new();
    let first = node.up();
    let links = |node: &Node| {
        let mut names: Vec<_> = fs::read_dir(&node.pins)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let before = links(&node);
    drop(first);
    let mut second = node.up();
    assert_eq!(links(&node), before);
    assert_eq!(before.iter().filter(|name| name.starts_with("link-")).count(), 8);
    publish(&mut second, image(&[(VIP, 0, &[("127.1.0.1:80", 1)])]));
    let _server = node.listen("127.1.0.1:80");
    let _client = node.connect(VIP).unwrap();
    assert_eq!((count(&second, "balanced"), count(&second, "reconnected")), (1, 0));
}

#[test]
fn a_changed_abi_version_is_refused_and_what_is_pinned_stays_in_force() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, 0, &[("127.1.0.1:80", 1)])]));
    let path = node.pins.join(maps::CONTROL);
    let mut control: Array<_, u64> = Map::Array(MapData::from_pin(path).unwrap()).try_into().unwrap();
    control.set(Control::AbiVersion as u32, 4_711, 0).unwrap();
    let error = node.try_open(&node.config()).err().unwrap();
    assert!(matches!(error, KernelError::Abi { pinned: 4_711, .. }));
    assert!(error.to_string().contains("evenkeel detach"), "{error}");
    let _server = node.listen("127.1.0.1:80");
    let _client = node.connect(VIP).unwrap();
    assert_eq!(load(&kernel, "127.1.0.1:80"), 1);
}

#[test]
fn a_pinned_map_of_another_shape_is_refused_by_name_and_field() {
    let node = Node::new();
    fs::create_dir(&node.pins).unwrap();
    let other = aya::maps::Array::<MapData, u64>::create(7, 0).unwrap();
    other.pin(node.pins.join(maps::CONTROL)).unwrap();
    let error = node.try_open(&node.config()).err().unwrap();
    match &error {
        KernelError::Shape { map, field, pinned: 7, .. } => {
            assert_eq!((map.as_str(), *field), (maps::CONTROL, "max_entries"));
        }
        other => panic!("{other}"),
    }
    assert_eq!(fs::read_dir(&node.pins).unwrap().count(), 1, "nothing was added");
}

#[test]
fn detach_leaves_nothing_and_may_be_repeated() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, 0, &[("127.1.0.1:80", 1)])]));
    let removed = kernel::detach(&node.pins).unwrap();
    assert_eq!(removed.iter().filter(|name| name.starts_with("link-")).count(), 8);
    assert!(removed[0].starts_with("link-ek_connect"), "connect goes first: {removed:?}");
    assert!(!node.pins.exists());
    let fallback = node.listen(VIP);
    let _client = node.connect(VIP).unwrap();
    fallback.accept().unwrap();
    assert_eq!(kernel::detach(&node.pins).unwrap(), Vec::<String>::new());
}

#[test]
fn the_newer_of_two_agents_owns_the_maps() {
    let node = Node::new();
    let (mut old, mut new) = (node.up(), node.open());
    assert_eq!(old.heartbeat.beat().unwrap(), Beat::Owner);
    assert!(matches!(new.heartbeat.beat().unwrap(), Beat::Superseded { generation: 1 }));
    let wanted = image(&[(VIP, REQUEST, &[("127.1.0.1:80", 1)])]);
    publish(&mut old, wanted.clone());
    new.heartbeat.claim(new.heartbeat.next_generation().unwrap()).unwrap();
    assert_eq!(old.heartbeat.beat().unwrap(), Beat::Superseded { generation: 2 });
    assert_eq!(old.heartbeat.newer_owner().unwrap(), Some(2));
    assert_eq!(publish(&mut new, wanted).operations, 0);
    let late = old.writer.publish_image(image(&[]), now());
    assert!(late.superseded && late.operations == 0, "{late:?}");
}

#[test]
fn a_revision_is_told_only_by_the_agent_that_owns_the_maps() {
    let node = Node::new();
    let (mut old, mut new) = (node.up(), node.open());
    let (store, mut told) = Store::new(1);
    told.apply(Batch::default());
    let snapshot = store.current();
    assert_eq!(new.writer.publish(&snapshot, now()).revision, None, "it has not claimed them");
    assert_eq!(old.writer.publish(&snapshot, now()).revision, Some(1));
    new.heartbeat.claim(new.heartbeat.next_generation().unwrap()).unwrap();
    assert_eq!(old.writer.publish(&snapshot, now()).revision, None, "it is superseded");
    assert_eq!(old.writer.tick(now()).revision, None);
    assert_eq!(new.writer.tick(now()).revision, Some(1), "what it wanted before went in with the claim");
}

#[test]
fn without_cgroup2_at_the_named_place_nothing_is_loaded() {
    let node = Node::new();
    let config = Config { cgroup: Some("/proc".into()), ..node.config() };
    assert!(matches!(node.try_open(&config), Err(KernelError::Cgroup(_))));
    assert!(!node.pins.exists());
}

#[test]
fn pins_outside_bpffs_are_refused() {
    let node = Node::new();
    let dir = tempfile::tempdir().unwrap();
    let config = Config { pins: dir.path().join("pins"), ..node.config() };
    let error = node.try_open(&config).err().unwrap();
    assert!(matches!(error, KernelError::Probe(_)));
    assert!(error.to_string().contains("mount -t bpf"), "{error}");
}
