// SPDX-License-Identifier: Apache-2.0
//! The index of all objects: one writer, plain methods, no I/O.
//!
//! What must always be true: an object that cannot be read leaves its last good version in force; [`Index::take_dirty`]
//! names every Service whose view may have changed since it was last asked, and no Service that has not been touched.
//! Deliberately not here: what a view means to a client ([`crate::translate`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;

use crate::fault::Fault;
use crate::objects::{self, Service, Slice, key_of};
use crate::source::{Change, Event, ObjectKey};
use crate::view::{self, ServiceView};

/// All objects, and which Services are to be looked at again.
#[derive(Debug, Default)]
pub struct Index {
    services: HashMap<ObjectKey, Held<Service>>,
    slices: HashMap<ObjectKey, Held<Slice>>,
    /// Slices of each Service, in a stable order.
    by_service: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// Zone by name of the Node.
    zones: HashMap<String, String>,
    dirty: BTreeSet<ObjectKey>,
}

/// What became of a Service.
#[derive(Debug, PartialEq)]
pub struct Resolved {
    /// `None`: it is not there, not opted in, or has nothing to balance.
    pub view: Option<ServiceView>,
    /// Everything that is wrong with it and its slices.
    pub faults: Vec<Fault>,
}

/// The version in force, and what is wrong with the newest.
#[derive(Debug)]
struct Held<T> {
    object: T,
    faults: Vec<Fault>,
}

// === impl Index ===

impl Index {
    /// Applies one change. Faults of files and the end of the first sync are not the index's business.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Service(Event::Applied(service)) => self.apply_service(service),
            Change::Service(Event::Deleted(key)) => self.remove_service(key),
            Change::Slice(Event::Applied(slice)) => self.apply_slice(slice),
            Change::Slice(Event::Deleted(key)) => self.remove_slice(key),
            Change::Node(Event::Applied(node)) => self.apply_node(node),
            Change::Node(Event::Deleted(key)) => self.set_zone(&key.name, None),
            Change::Faults { .. } | Change::Synced => {}
        }
    }

    /// A Service exists with this content.
    pub fn apply_service(&mut self, object: &core::Service) {
        let key = key_of(&object.metadata);
        let last = self.services.get(&key).map(|held| &held.object);
        let read = Service::read(object, last.and_then(|last| last.options));
        // A last good version that was not opted in has neither addresses nor ports: it is no better.
        let better = last.filter(|last| read.broken && last.options.is_some()).cloned();
        let object = match better {
            Some(last) => Service { options: read.object.options, ..last },
            None => read.object,
        };
        self.services.insert(key.clone(), Held { object, faults: read.faults });
        self.dirty.insert(key);
    }

    /// A Service is gone.
    pub fn remove_service(&mut self, key: &ObjectKey) {
        if self.services.remove(key).is_some() {
            self.dirty.insert(key.clone());
        }
    }

    /// An EndpointSlice exists with this content.
    pub fn apply_slice(&mut self, object: &discovery::EndpointSlice) {
        let key = key_of(&object.metadata);
        let last = self.slices.get(&key).map(|held| &held.object);
        let read = Slice::read(object, last.map(|last| last.weight));
        let object = match last.filter(|_| read.broken).cloned() {
            Some(last) => last,
            None => read.object,
        };
        self.unlink(&key);
        if let Some(service) = &object.service {
            self.by_service.entry(service.clone()).or_default().insert(key.clone());
            self.dirty.insert(service.clone());
        }
        self.slices.insert(key, Held { object, faults: read.faults });
    }

    /// An EndpointSlice is gone.
    pub fn remove_slice(&mut self, key: &ObjectKey) {
        self.unlink(key);
        self.slices.remove(key);
    }

    /// A Node exists with this content.
    pub fn apply_node(&mut self, node: &core::Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.set_zone(&name, objects::zone_of(node));
    }

    /// Services that may have changed since the last call, in a stable order.
    pub fn take_dirty(&mut self) -> BTreeSet<ObjectKey> {
        mem::take(&mut self.dirty)
    }

    /// A Service as it is now.
    pub fn resolve(&self, key: &ObjectKey) -> Resolved {
        let Some(held) = self.services.get(key) else { return Resolved { view: None, faults: Vec::new() } };
        let slices: Vec<&Held<Slice>> = self
            .by_service
            .get(key)
            .into_iter()
            .flatten()
            .filter_map(|slice| self.slices.get(slice))
            .collect();
        let mut faults = held.faults.clone();
        // The slices of a Service that has not opted in are none of our business, faults included.
        if held.object.options.is_some() {
            faults.extend(slices.iter().flat_map(|slice| slice.faults.iter().cloned()));
        }
        let objects: Vec<&Slice> = slices.iter().map(|slice| &slice.object).collect();
        let view = view::resolve(&held.object, &objects, &self.zones, faults.clone());
        let faults = view.as_ref().map_or(faults, |view| view.faults.clone());
        Resolved { view, faults }
    }

    fn unlink(&mut self, slice: &ObjectKey) {
        let Some(service) = self.slices.get(slice).and_then(|held| held.object.service.clone()) else {
            return;
        };
        if let Some(slices) = self.by_service.get_mut(&service) {
            slices.remove(slice);
            if slices.is_empty() {
                self.by_service.remove(&service);
            }
        }
        self.dirty.insert(service);
    }

    /// A Node's zone rarely changes, but Nodes are updated all the time: only a new zone costs a look at the slices.
    fn set_zone(&mut self, node: &str, zone: Option<&str>) {
        let before = match zone {
            Some(zone) => self.zones.insert(node.to_owned(), zone.to_owned()),
            None => self.zones.remove(node),
        };
        if before.as_deref() == zone {
            return;
        }
        let affected = self
            .slices
            .values()
            .map(|held| &held.object)
            .filter(|slice| {
                slice.endpoints.iter().any(|endpoint| endpoint.zone.is_none() && endpoint.node == node)
            })
            .filter_map(|slice| slice.service.clone());
        self.dirty.extend(affected);
    }

    /// Counts for metrics: Services, those opted in, EndpointSlices, Nodes with a zone.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let opted_in = self.services.values().filter(|held| held.object.options.is_some()).count();
        BTreeMap::from([
            ("services", self.services.len()),
            ("services_opted_in", opted_in),
            ("slices", self.slices.len()),
            ("nodes", self.zones.len()),
        ])
    }
}

#[cfg(test)]
mod tests;
