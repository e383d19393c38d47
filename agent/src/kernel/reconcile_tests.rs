// SPDX-License-Identifier: Apache-2.0
//! Tier 1: what an agent makes of the maps that another one left.

use super::*;
use crate::kernel::{
    KernelWriter, MapSink, Ownership,
    diff::tests::{SMALL, backend, key, service},
    image::Image,
    testing::FakeSink,
};

fn image(endpoints: &[(u8, u32)]) -> Image {
    let mut image = Image::default();
    image.services.insert(key(1), service(0, endpoints));
    image
}

fn publish(sink: &FakeSink, image: Image) -> crate::kernel::Report {
    let mut writer = KernelWriter::new(sink.clone(), SMALL, Ownership::undisputed(), Default::default());
    writer.publish_image(image, Duration::ZERO)
}

#[test]
fn what_is_read_back_is_what_was_written() {
    let sink = FakeSink::new(SMALL);
    publish(&sink, image(&[(1, 1), (2, 9), (3, 4)]));
    let tables = recover(&sink.read().unwrap(), SMALL, Duration::ZERO);
    assert_eq!(tables.services[&key(1)].image, service(0, &[(1, 1), (2, 9), (3, 4)]));
    assert_eq!((tables.free_slots.room(), tables.free_backends.room()), (37, 12));
}

#[test]
fn an_entry_that_names_nothing_is_rewritten() {
    let sink = FakeSink::new(SMALL);
    sink.maps.borrow_mut().services.insert(key(1), Service { id: 7, slot_base: 39, slot_count: 9, flags: 0 });
    let report = publish(&sink, image(&[(1, 1)]));
    assert!(report.errors.is_empty(), "{report:?}");
    let maps = sink.maps.borrow();
    assert_eq!(maps.services[&key(1)].id, 7, "the id stays");
    assert_eq!(maps.image().unwrap(), image(&[(1, 1)]));
}

#[test]
fn an_entry_that_is_not_trusted_keeps_its_range_until_it_is_replaced() {
    let sink = FakeSink::new(SMALL);
    publish(&sink, image(&[(1, 1), (2, 1)]));
    // Readable, but not a table that these weights would give.
    sink.maps.borrow_mut().slots[0].threshold = 5;
    let tables = recover(&sink.read().unwrap(), SMALL, Duration::ZERO);
    assert_eq!(tables.free_slots.room(), 38);
    assert_ne!(tables.services[&key(1)].image, service(0, &[(1, 1), (2, 1)]));
    assert_eq!(publish(&sink, image(&[(1, 1), (2, 1)])).operations, 2, "slots and the entry");
    assert_ne!(sink.maps.borrow().services[&key(1)].slot_base, 0);
}

#[test]
fn a_backend_that_nobody_names_becomes_free() {
    let sink = FakeSink::new(SMALL);
    sink.maps.borrow_mut().backends[3] = backend(9);
    let mut tables = recover(&sink.read().unwrap(), SMALL, Duration::ZERO);
    assert!(tables.expire(Duration::ZERO, |_| 0).is_empty(), "not at once");
    assert_eq!(tables.expire(crate::kernel::GRACE, |_| 0).len(), 1);
}
