// SPDX-License-Identifier: Apache-2.0
//! Tier 1: the laws of the tables, operation by operation.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::kernel::{apply::MapSink, image::Weighted, testing::FakeSink};

pub(crate) const SMALL: Capacity = Capacity { services: 6, slots: 40, backends: 16 };

pub(crate) fn key(n: u8) -> ServiceKey {
    ServiceKey::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, n)).into(), 80, evenkeel_abi::PROTOCOL_TCP)
}

pub(crate) fn backend(n: u8) -> Backend {
    crate::kernel::backend(([10, 0, 0, n], 80).into(), evenkeel_abi::PROTOCOL_TCP)
}

pub(crate) fn service(flags: u32, endpoints: &[(u8, u32)]) -> ServiceImage {
    let weighted = |(n, weight): &(u8, u32)| Weighted { backend: backend(*n), weight: *weight };
    ServiceImage::new(flags, endpoints.iter().map(weighted).collect())
}

/// Stages and performs a change; `false` when it did not fit.
fn put(tables: &mut Tables, sink: &mut FakeSink, n: u8, image: &ServiceImage, now: Duration) -> bool {
    let Ok(change) = tables.stage(key(n), image) else { return false };
    for operation in &change.operations {
        sink.apply(operation).unwrap();
    }
    tables.commit(change, now);
    true
}

fn expire(tables: &mut Tables, sink: &mut FakeSink, now: Duration) -> usize {
    let operations = tables.expire(now, |index| sink.load(index));
    for operation in &operations {
        sink.apply(operation).unwrap();
        if let Operation::ClearBackend { backend, .. } = operation {
            tables.freed(backend);
        }
    }
    operations.len()
}

fn index_of(sink: &FakeSink, n: u8) -> Option<usize> {
    sink.maps.borrow().backends.iter().position(|b| *b == backend(n))
}

#[test]
fn a_change_writes_backends_then_slots_then_the_entry() {
    let mut tables = Tables::new(SMALL);
    let change = tables.stage(key(1), &service(0, &[(1, 1), (2, 1)])).unwrap();
    let kinds: Vec<u8> = change
        .operations
        .iter()
        .map(|operation| match operation {
            Operation::WriteBackend { .. } => 0,
            Operation::WriteSlots { .. } => 1,
            Operation::SetService { .. } => 2,
            _ => 9,
        })
        .collect();
    assert_eq!(kinds, [0, 0, 1, 2]);
}

#[test]
fn a_backend_with_open_sockets_keeps_its_index_until_the_last_one_closes() {
    let (mut tables, mut sink) = (Tables::new(SMALL), FakeSink::new(SMALL));
    assert!(put(&mut tables, &mut sink, 1, &service(0, &[(1, 1)]), Duration::ZERO));
    let index = index_of(&sink, 1).unwrap();
    sink.maps.borrow_mut().loads[index] = 1;
    assert!(put(&mut tables, &mut sink, 1, &service(0, &[(2, 1)]), Duration::ZERO));
    assert_eq!(expire(&mut tables, &mut sink, GRACE * 100), 0);
    sink.maps.borrow_mut().loads[index] = 0;
    assert_eq!(expire(&mut tables, &mut sink, GRACE * 100), 1);
    assert_eq!(index_of(&sink, 1), None);
}

#[test]
fn a_backend_that_returns_in_time_keeps_its_index() {
    let (mut tables, mut sink) = (Tables::new(SMALL), FakeSink::new(SMALL));
    put(&mut tables, &mut sink, 1, &service(0, &[(1, 1)]), Duration::ZERO);
    let index = index_of(&sink, 1);
    put(&mut tables, &mut sink, 1, &service(0, &[(2, 1)]), Duration::ZERO);
    put(&mut tables, &mut sink, 1, &service(0, &[(1, 1), (2, 1)]), Duration::ZERO);
    assert_eq!(expire(&mut tables, &mut sink, GRACE), 0);
    assert_eq!(index_of(&sink, 1), index);
}

#[test]
fn a_range_is_not_written_again_within_the_grace_period() {
    let capacity = Capacity { slots: 4, ..SMALL };
    let (mut tables, mut sink) = (Tables::new(capacity), FakeSink::new(capacity));
    let two = |a, b| service(0, &[(a, 1), (b, 1)]);
    assert!(put(&mut tables, &mut sink, 1, &two(1, 2), Duration::ZERO));
    assert!(put(&mut tables, &mut sink, 1, &two(1, 3), Duration::ZERO));
    assert!(!put(&mut tables, &mut sink, 1, &two(1, 4), Duration::ZERO));
    expire(&mut tables, &mut sink, GRACE - Duration::from_millis(1));
    assert!(!put(&mut tables, &mut sink, 1, &two(1, 4), Duration::ZERO));
    expire(&mut tables, &mut sink, GRACE);
    assert!(put(&mut tables, &mut sink, 1, &two(1, 4), GRACE));
}

#[test]
fn a_table_that_does_not_fit_names_the_map_and_the_port() {
    let mut tables = Tables::new(Capacity { slots: 1, ..SMALL });
    let full = tables.stage(key(1), &service(0, &[(1, 1), (2, 1)])).unwrap_err();
    assert_eq!((full.map, full.needed, full.free), (maps::SLOTS, 2, 1));
    assert!(full.to_string().contains("10.96.0.1:80/TCP"), "{full}");
    let mut tables = Tables::new(Capacity { backends: 2, ..SMALL });
    assert_eq!(tables.stage(key(1), &service(0, &[(1, 1), (2, 1)])).unwrap_err().map, maps::BACKENDS);
    let mut tables = Tables::new(Capacity { services: 0, ..SMALL });
    assert_eq!(tables.stage(key(1), &service(0, &[])).unwrap_err().map, maps::SERVICES);
}

#[test]
fn a_port_keeps_its_id() {
    let (mut tables, mut sink) = (Tables::new(SMALL), FakeSink::new(SMALL));
    let id = |sink: &FakeSink, n| sink.maps.borrow().services[&key(n)].id;
    put(&mut tables, &mut sink, 1, &service(0, &[(1, 1)]), Duration::ZERO);
    put(&mut tables, &mut sink, 2, &service(0, &[(1, 1)]), Duration::ZERO);
    let before = (id(&sink, 1), id(&sink, 2));
    assert_ne!(before.0, before.1);
    put(&mut tables, &mut sink, 1, &service(1, &[(2, 1)]), Duration::ZERO);
    assert_eq!((id(&sink, 1), id(&sink, 2)), before);
}

proptest! {
    #[test]
    fn capacity_is_never_lost(changes in prop::collection::vec((1u8..7, prop::collection::btree_map(1u8..30, 1u32..5, 0..8)), 1..60)) {
        let (mut tables, mut sink) = (Tables::new(SMALL), FakeSink::new(SMALL));
        let mut now = Duration::ZERO;
        for (n, endpoints) in changes {
            now += GRACE / 3;
            expire(&mut tables, &mut sink, now);
            let endpoints: Vec<_> = endpoints.into_iter().collect();
            put(&mut tables, &mut sink, n, &service(0, &endpoints), now);
        }
        let keys: Vec<_> = tables.services.keys().copied().collect();
        for key in keys {
            let change = tables.stage_removal(key);
            tables.commit(change, now);
        }
        expire(&mut tables, &mut sink, now + GRACE);
        prop_assert_eq!(tables.free_slots.room(), u64::from(SMALL.slots));
        prop_assert_eq!(tables.free_backends.room(), u64::from(SMALL.backends) - 1);
        prop_assert!(tables.backends.is_empty() && tables.idle.is_empty());
    }
}
