// SPDX-License-Identifier: Apache-2.0
//! From what is pinned to [`Tables`]: a restarted agent keeps indices and ids, and writes nothing that is there already.
//!
//! Always true: whatever an earlier agent left half done (a range without an entry, a backend that nobody names) is free or
//! becomes free; an entry that names what is not there is not trusted, and is rewritten or removed by the next image.

use std::time::Duration;

use evenkeel_abi::{Backend, Service, ServiceKey, Slot};

use super::{
    diff::{Capacity, Installed, Place, Tables},
    image::{ServiceImage, Weighted},
};

/// Everything that the maps say.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// All entries of `SERVICES`.
    pub services: Vec<(ServiceKey, Service)>,
    /// All of `SLOTS`.
    pub slots: Vec<Slot>,
    /// All of `BACKENDS`.
    pub backends: Vec<Backend>,
}

/// Rebuilds the tables. `now` starts the grace period of what nobody names.
#[must_use]
pub fn recover(contents: &Contents, capacity: Capacity, now: Duration) -> Tables {
    let mut tables = Tables::new(capacity);
    for (index, backend) in contents.backends.iter().enumerate() {
        let index = index as u32;
        // The same backend twice: an earlier agent died between two writes. The first is kept, the other place stays
        // taken, because sockets may be counted on it.
        if !backend.address.is_none() && tables.free_backends.take_at(index, 1) {
            let place = Place { index, users: 0, written: true, idle_since: now };
            tables.backends.entry(*backend).or_insert(place);
        }
    }
    for (key, entry) in &contents.services {
        tables.next_id = tables.next_id.max(entry.id.wrapping_add(1)).max(1);
        // A range that overlaps another one is not this entry's to give back.
        let reserved = tables.free_slots.take_at(entry.slot_base, entry.slot_count);
        let slots = slots_of(entry, contents).unwrap_or_default();
        let image = ServiceImage::new(entry.flags, named(slots, contents, &tables));
        for endpoint in image.endpoints.iter() {
            if let Some(place) = tables.backends.get_mut(&endpoint.backend) {
                place.users += 1;
            }
        }
        let index = |backend: &Backend| tables.backends.get(backend).map_or(0, |place| place.index);
        let whole = reserved && slots.len() == entry.slot_count as usize && image.slots(index) == slots;
        let image = if whole { image } else { ServiceImage { flags: UNTRUSTED, ..image } };
        let entry = if reserved { *entry } else { Service { slot_base: 0, slot_count: 0, ..*entry } };
        tables.services.insert(*key, Installed { entry, image });
    }
    let idle = tables.backends.iter().filter(|(_, place)| place.users == 0).map(|(b, _)| *b).collect();
    tables.idle = idle;
    tables
}

/// No image carries these flags, so an entry that is not trusted is never taken for what it should be.
const UNTRUSTED: u32 = u32::MAX;

/// The range that an entry names.
fn slots_of<'a>(entry: &Service, contents: &'a Contents) -> Option<&'a [Slot]> {
    let base = entry.slot_base as usize;
    contents.slots.get(base..base.checked_add(entry.slot_count as usize)?)
}

/// The endpoints that a range names and that are there: they must not be given to others while it is in force.
fn named(slots: &[Slot], contents: &Contents, tables: &Tables) -> Vec<Weighted> {
    let known = |index: u32| {
        let backend = contents.backends.get(index as usize)?;
        (tables.backends.get(backend)?.index == index).then_some(*backend)
    };
    let own = slots.iter().map(|s| (s.backend, s.weight));
    own.filter_map(|(index, weight)| Some(Weighted { backend: known(index)?, weight })).collect()
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
