// SPDX-License-Identifier: Apache-2.0
//! From what the maps say to what they should say, as ordered operations. Pure: time and loads are arguments.
//!
//! Always true:
//! * a change writes backends, then slots into a range that nobody reads, then flips the Service's one entry: a program
//!   that runs meanwhile sees the old table or the new one, whole;
//! * a range is written again only [`GRACE`] after the last entry that named it, a backend's index only when besides no
//!   open socket is counted on it;
//! * a backend keeps its index, a Service port its id, for as long as it is there;
//! * a change that does not fit or fails leaves its Service as it was, and the others are not concerned.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use evenkeel_abi::{Backend, Service, ServiceKey, Slot, maps};

use super::{
    image::{Image, ServiceImage, show},
    space::Ranges,
};

/// How long nothing that a program may still be reading is written again. A program runs for well under a microsecond;
/// this is for one that lost its CPU in the middle.
pub const GRACE: Duration = Duration::from_secs(1);

/// One write to the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Say where a backend is.
    WriteBackend {
        /// Its index.
        index: u32,
        /// Where.
        backend: Backend,
    },
    /// Write an alias table to a range that nobody reads.
    WriteSlots {
        /// First index.
        base: u32,
        /// The table.
        slots: Vec<Slot>,
    },
    /// Make a table the one in force.
    SetService {
        /// The Service port.
        key: ServiceKey,
        /// Its entry.
        service: Service,
    },
    /// Leave connects to this port alone from now on.
    RemoveService {
        /// The Service port.
        key: ServiceKey,
    },
    /// Mark a backend's index free.
    ClearBackend {
        /// The index.
        index: u32,
        /// Who was there.
        backend: Backend,
    },
}

/// A table does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "map {map} is full: service port {} needs {needed} of its {capacity} entries and {free} are free; what was in force for \
     it stays in force",
    show(service)
)]
pub struct Full {
    /// Which map.
    pub map: &'static str,
    /// Whose table.
    pub service: ServiceKey,
    /// Entries needed.
    pub needed: u64,
    /// Entries free, maybe not in a row.
    pub free: u64,
    /// Entries in all.
    pub capacity: u32,
}

/// How large the arrays are.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Entries of `SERVICES`.
    pub services: u32,
    /// Entries of `SLOTS`.
    pub slots: u32,
    /// Entries of `BACKENDS`, of which index 0 is never used.
    pub backends: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { services: maps::SERVICES_LEN, slots: maps::SLOTS_LEN, backends: maps::BACKENDS_LEN }
    }
}

/// A table in the maps.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    pub(super) entry: Service,
    pub(super) image: ServiceImage,
}

/// A backend with an index.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) index: u32,
    /// Tables that name it.
    pub(super) users: u32,
    /// Whether the map says it, as far as we know.
    pub(super) written: bool,
    /// Since when nobody names it.
    pub(super) idle_since: Duration,
}

/// What the maps say and what is free in them.
#[derive(Clone, Debug)]
pub struct Tables {
    pub(super) capacity: Capacity,
    pub(super) services: BTreeMap<ServiceKey, Installed>,
    pub(super) backends: HashMap<Backend, Place>,
    pub(super) idle: HashSet<Backend>,
    pub(super) free_backends: Ranges,
    pub(super) free_slots: Ranges,
    /// Ranges that nobody names any more: since when, base, length.
    pub(super) resting: VecDeque<(Duration, u32, u32)>,
    pub(super) next_id: u32,
}

/// A change of one Service port, not yet in force.
#[derive(Debug)]
pub struct Change {
    key: ServiceKey,
    next: Option<Installed>,
    /// What to write, in this order.
    pub operations: Vec<Operation>,
}

impl Tables {
    /// Nothing is in the maps.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            services: BTreeMap::new(),
            backends: HashMap::new(),
            idle: HashSet::new(),
            free_backends: Ranges::new(1, capacity.backends),
            free_slots: Ranges::new(0, capacity.slots),
            resting: VecDeque::new(),
            next_id: 1,
        }
    }

    /// Ports in the maps.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Backends that some table names.
    #[must_use]
    pub fn backend_count(&self) -> usize {
        self.backends.len() - self.idle.len()
    }

    /// Every backend with its index.
    pub(super) fn places(&self) -> impl Iterator<Item = (Backend, u32)> {
        self.backends.iter().map(|(backend, place)| (*backend, place.index))
    }

    /// Ports that are in the maps and not in `image`.
    pub(super) fn surplus(&self, image: &Image) -> Vec<ServiceKey> {
        self.services.keys().filter(|key| !image.services.contains_key(key)).copied().collect()
    }

    /// Whether the maps already say `image` for `key`. Remembers the shared list, so that the next comparison is one of
    /// pointers.
    pub(super) fn says(&mut self, key: &ServiceKey, image: &ServiceImage) -> bool {
        match self.services.get_mut(key) {
            Some(installed) if installed.image == *image => {
                installed.image = image.clone();
                true
            }
            _ => false,
        }
    }

    /// Plans to make `image` the table of `key`. End it with [`Tables::commit`] or [`Tables::abort`].
    pub fn stage(&mut self, key: ServiceKey, image: &ServiceImage) -> Result<Change, Full> {
        let current = self.services.get(&key).map(|installed| installed.entry);
        if current.is_none() && self.services.len() >= self.capacity.services as usize {
            return Err(self.full(maps::SERVICES, key, 1, 0, self.capacity.services));
        }
        let needed =
            image.endpoints.iter().filter(|e| !self.backends.contains_key(&e.backend)).count() as u64;
        let room = self.free_backends.room();
        if needed > room {
            return Err(self.full(maps::BACKENDS, key, needed, room, self.capacity.backends));
        }
        let count = image.endpoints.len() as u32;
        let Some(base) = self.free_slots.take(count) else {
            let free = self.free_slots.room();
            return Err(self.full(maps::SLOTS, key, u64::from(count), free, self.capacity.slots));
        };
        let mut operations = self.place(image);
        if count > 0 {
            let slots = image.slots(|backend| self.backends.get(backend).map_or(0, |place| place.index));
            operations.push(Operation::WriteSlots { base, slots });
        }
        let id = current.map_or(self.next_id, |entry| entry.id);
        if current.is_none() {
            self.next_id = self.next_id.wrapping_add(1).max(1);
        }
        let entry = Service { id, slot_base: base, slot_count: count, flags: image.flags };
        operations.push(Operation::SetService { key, service: entry });
        Ok(Change { key, next: Some(Installed { entry, image: image.clone() }), operations })
    }

    /// Plans to remove `key`.
    #[must_use]
    pub fn stage_removal(&self, key: ServiceKey) -> Change {
        Change { key, next: None, operations: vec![Operation::RemoveService { key }] }
    }

    /// The operations of `change` are done.
    pub fn commit(&mut self, change: Change, now: Duration) {
        let old = match change.next {
            Some(next) => {
                for endpoint in next.image.endpoints.iter() {
                    if let Some(place) = self.backends.get_mut(&endpoint.backend) {
                        place.written = true;
                    }
                }
                self.services.insert(change.key, next)
            }
            None => self.services.remove(&change.key),
        };
        if let Some(old) = old {
            self.retire(&old, now);
        }
    }

    /// Some operation of `change` failed: what was in force before still is.
    pub fn abort(&mut self, change: Change, now: Duration) {
        if let Some(next) = change.next {
            self.retire(&next, now);
        }
    }

    /// Gives indices to the endpoints of `image` and counts this table as their user.
    fn place(&mut self, image: &ServiceImage) -> Vec<Operation> {
        let mut operations = Vec::new();
        for endpoint in image.endpoints.iter() {
            let backend = endpoint.backend;
            if !self.backends.contains_key(&backend) {
                // There is room: `stage` looked.
                let Some(index) = self.free_backends.take(1) else { continue };
                let place = Place { index, users: 0, written: false, idle_since: Duration::ZERO };
                self.backends.insert(backend, place);
            }
            if let Some(place) = self.backends.get_mut(&backend) {
                place.users += 1;
                self.idle.remove(&backend);
                if !place.written {
                    operations.push(Operation::WriteBackend { index: place.index, backend });
                }
            }
        }
        operations
    }

    /// Nobody names this table any more from `now` on.
    fn retire(&mut self, table: &Installed, now: Duration) {
        if table.entry.slot_count > 0 {
            self.resting.push_back((now, table.entry.slot_base, table.entry.slot_count));
        }
        for endpoint in table.image.endpoints.iter() {
            if let Some(place) = self.backends.get_mut(&endpoint.backend) {
                place.users -= 1;
                if place.users == 0 {
                    place.idle_since = now;
                    self.idle.insert(endpoint.backend);
                }
            }
        }
    }

    /// Frees ranges that rested long enough and lists the backends that nobody names and no open socket is counted on.
    /// After each of these writes call [`Tables::freed`].
    pub fn expire(&mut self, now: Duration, load: impl Fn(u32) -> u64) -> Vec<Operation> {
        while let Some((since, base, length)) = self.resting.front().copied() {
            if now.saturating_sub(since) < GRACE {
                break;
            }
            self.resting.pop_front();
            self.free_slots.release(base, length);
        }
        let ripe = |backend: &&Backend| {
            self.backends
                .get(*backend)
                .is_some_and(|place| now.saturating_sub(place.idle_since) >= GRACE && load(place.index) == 0)
        };
        let mut ripe: Vec<(u32, Backend)> =
            self.idle.iter().filter(ripe).map(|b| (self.backends[b].index, *b)).collect();
        ripe.sort_unstable_by_key(|(index, _)| *index);
        ripe.into_iter().map(|(index, backend)| Operation::ClearBackend { index, backend }).collect()
    }

    /// A backend's index is marked free in the maps.
    pub fn freed(&mut self, backend: &Backend) {
        self.idle.remove(backend);
        if let Some(place) = self.backends.remove(backend) {
            self.free_backends.release(place.index, 1);
        }
    }

    fn full(&self, map: &'static str, service: ServiceKey, needed: u64, free: u64, capacity: u32) -> Full {
        Full { map, service, needed, free, capacity }
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
pub(super) mod tests;
