// SPDX-License-Identifier: Apache-2.0
//! The index of all objects: one writer, plain methods, no I/O.
//!
//! What must always be true: an object that cannot be read leaves its last good version in force; [`Index::take_dirty`]
//! names every Service whose view may have changed since it was last asked, and no Service that has not been touched;
//! an update costs what it touches, never a look at everything.
//! Deliberately not here: what a view means to a client ([`crate::translate`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;

use self::claims::Claims;
use self::places::Places;
use self::pods::Pods;
use crate::fault::{Fault, FaultKind};
use crate::objects::{self, Service, key_of};
use crate::source::{Change, Event, ObjectKey};
use crate::strings::Strings;
use crate::view::{self, Abroad, Ask, ServiceView, Zones};

mod claims;
mod places;
mod pods;

/// All objects, and which Services are to be looked at again.
#[derive(Debug, Default)]
pub struct Index {
    services: HashMap<ObjectKey, Held<Service>>,
    /// The cluster whose Services are balanced.
    home: Places,
    /// Fallback clusters by name. Their Services are not read: an endpoint is all that is wanted from there.
    abroad: BTreeMap<Arc<str>, Places>,
    pods: Pods,
    claims: Claims,
    strings: Strings,
    dirty: BTreeSet<ObjectKey>,
    opted_in: usize,
    /// Slices of ours whose Service is not known.
    orphans: usize,
}

/// What became of a Service.
#[derive(Debug, PartialEq)]
pub struct Resolved {
    /// `None`: it is not there, not opted in, or has nothing to balance.
    pub view: Option<ServiceView>,
    /// Everything that is wrong with it and its slices.
    pub faults: Vec<Fault>,
}

/// How many objects of each kind there are.
pub type Counts = [(&'static str, usize); 7];

/// The version in force, and what is wrong with the newest.
#[derive(Debug, PartialEq)]
struct Held<T> {
    object: T,
    faults: Vec<Fault>,
}

// === impl Index ===

impl Index {
    /// An empty index with these fallback clusters.
    pub fn new(fallbacks: impl IntoIterator<Item = Arc<str>>) -> Self {
        let abroad = fallbacks.into_iter().map(|name| (name, Places::default())).collect();
        Self { abroad, ..Self::default() }
    }

    /// Applies one change of our own cluster (`None`) or of a fallback. Faults of files, the end of the first sync and
    /// the state of the connection are not the index's business.
    pub fn apply(&mut self, cluster: Option<&str>, change: &Change) {
        if let Some(cluster) = cluster {
            return self.apply_abroad(cluster, change);
        }
        match change {
            Change::Service(Event::Applied(service)) => self.apply_service(service),
            Change::Service(Event::Deleted(key)) => self.remove_service(key),
            Change::Slice(Event::Applied(slice)) => self.apply_slice(slice),
            Change::Slice(Event::Deleted(key)) => self.remove_slice(key),
            Change::Node(Event::Applied(node)) => self.apply_node(node),
            Change::Node(Event::Deleted(key)) => self.home.set_zone(&key.name, None, &mut self.strings),
            Change::Pod(Event::Applied(pod)) => {
                if self.pods.apply(pod, &mut self.strings) {
                    self.touch_pod(&pod.key);
                }
            }
            Change::Pod(Event::Deleted(key)) => {
                if self.pods.remove(key) {
                    self.touch_pod(key);
                }
            }
            Change::Faults { .. } | Change::Synced | Change::Link { .. } => {}
        }
    }

    /// A Service exists with this content.
    pub fn apply_service(&mut self, object: &core::Service) {
        let key = key_of(&object.metadata);
        let last = self.services.get(&key);
        let read = Service::read(object, last.and_then(|last| last.object.options.as_ref()));
        // A last good version that was not opted in has neither addresses nor ports: it is no better.
        let better = last.filter(|last| read.broken && last.object.options.is_some());
        let object = match better {
            Some(last) => Service { options: read.object.options, ..last.object.clone() },
            None => read.object,
        };
        let new = Held { object, faults: read.faults };
        if last == Some(&new) {
            return;
        }
        let new_to_us = last.is_none();
        self.forget(&key);
        self.claims.add(&new.object, &mut self.dirty);
        self.opted_in += usize::from(new.object.options.is_some());
        let wants_subsets = new.object.options.as_ref().is_some_and(|options| options.subset_label.is_some());
        self.pods.set_wanted(&key, wants_subsets);
        if new_to_us {
            self.orphans -= self.home.count(&key);
        }
        self.services.insert(key.clone(), new);
        self.dirty.insert(key);
    }

    /// A Service is gone.
    pub fn remove_service(&mut self, key: &ObjectKey) {
        if self.services.contains_key(key) {
            self.forget(key);
            self.services.remove(key);
            self.pods.set_wanted(key, false);
            self.orphans += self.home.count(key);
            self.dirty.insert(key.clone());
        }
    }

    /// Takes back what the version in force has claimed.
    fn forget(&mut self, key: &ObjectKey) {
        let Some(held) = self.services.get(key) else { return };
        self.claims.remove(&held.object, &mut self.dirty);
        self.opted_in -= usize::from(held.object.options.is_some());
    }

    /// An EndpointSlice exists with this content.
    pub fn apply_slice(&mut self, object: &discovery::EndpointSlice) {
        let key = key_of(&object.metadata);
        self.change_slice(|home, strings| {
            let before = home.owner(&key);
            let touched = home.apply_slice(object, strings);
            (touched, before, home.owner(&key))
        });
    }

    /// An EndpointSlice is gone.
    pub fn remove_slice(&mut self, key: &ObjectKey) {
        self.change_slice(|home, _| {
            let before = home.owner(key);
            (home.remove_slice(key), before, None)
        });
    }

    fn change_slice(
        &mut self,
        change: impl FnOnce(&mut Places, &mut Strings) -> (Vec<ObjectKey>, Option<ObjectKey>, Option<ObjectKey>),
    ) {
        let (touched, before, after) = change(&mut self.home, &mut self.strings);
        let orphan = |owner: Option<ObjectKey>| {
            usize::from(owner.is_some_and(|owner| !self.services.contains_key(&owner)))
        };
        if before != after {
            self.orphans = self.orphans + orphan(after) - orphan(before);
        }
        self.dirty.extend(touched);
    }

    /// A Node exists with this content.
    pub fn apply_node(&mut self, node: &core::Node) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        self.home.set_zone(name, objects::zone_of(node), &mut self.strings);
    }

    fn apply_abroad(&mut self, cluster: &str, change: &Change) {
        let Some(places) = self.abroad.get_mut(cluster) else { return };
        let strings = &mut self.strings;
        let touched = match change {
            Change::Slice(Event::Applied(slice)) => places.apply_slice(slice, strings),
            Change::Slice(Event::Deleted(key)) => places.remove_slice(key),
            Change::Node(Event::Applied(node)) => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                places.set_zone(name, objects::zone_of(node), strings);
                return;
            }
            Change::Node(Event::Deleted(key)) => return places.set_zone(&key.name, None, strings),
            _ => return,
        };
        let leaning = touched.into_iter().filter(|key| leans_on(&self.services, key, cluster));
        self.dirty.extend(leaning);
    }

    fn touch_pod(&mut self, pod: &ObjectKey) {
        for service in self.pods.asking(&pod.namespace) {
            let mut endpoints = self.home.held(service).flat_map(|held| &held.object.endpoints);
            if endpoints.any(|endpoint| *endpoint.pod == *pod.name) {
                self.dirty.insert(service.clone());
            }
        }
    }

    /// Services that may have changed since the last call, in a stable order.
    pub fn take_dirty(&mut self) -> BTreeSet<ObjectKey> {
        self.dirty.append(&mut self.home.take_moved());
        for (cluster, places) in &mut self.abroad {
            let moved = places.take_moved();
            self.dirty.extend(moved.into_iter().filter(|key| leans_on(&self.services, key, cluster)));
        }
        mem::take(&mut self.dirty)
    }

    /// A Service as it is now.
    pub fn resolve(&self, key: &ObjectKey) -> Resolved {
        let nothing = |faults| Resolved { view: None, faults };
        let Some(held) = self.services.get(key) else { return nothing(Vec::new()) };
        // The slices of a Service that has not opted in are none of our business, faults included.
        let Some(options) = &held.object.options else { return nothing(held.faults.clone()) };
        let mut faults = held.faults.clone();
        faults.extend(self.home.held(key).flat_map(|slice| slice.faults.iter().cloned()));
        let mut service = held.object.clone();
        self.give_up_addresses(&mut service, &mut faults);
        let abroad = options.fallback.as_ref().and_then(|name| self.abroad(name, key, &mut faults));
        let subset = |pod: &str| {
            let label = options.subset_label.as_deref()?;
            self.pods.value(&key.namespace, pod, label)
        };
        let ask = Ask { service, options: options.clone(), home: self.home.of(key), abroad, subset: &subset };
        let view = view::resolve(ask, faults);
        Resolved { faults: view.faults.clone(), view: Some(view) }
    }

    /// An address that an older Service has on some port is left to that one.
    fn give_up_addresses(&self, service: &mut Service, faults: &mut Vec<Fault>) {
        let mut lost = BTreeSet::new();
        for ((address, port, protocol), owner) in self.claims.lost(service) {
            let (key, protocol) = (&service.key, view::protocol_name(protocol));
            faults.push(Fault::new(
                FaultKind::Duplicate,
                format!(
                    "Service {key}: {address} port {port} ({protocol}) is also Service {owner}'s, which is older and \
                     keeps it; connections to {address} are not balanced for {key}: give it an address of its own"
                ),
            ));
            lost.insert(address);
        }
        service.addresses.retain(|address| !lost.contains(address));
    }

    fn abroad<'a>(
        &'a self,
        name: &'a Arc<str>,
        key: &ObjectKey,
        faults: &mut Vec<Fault>,
    ) -> Option<Abroad<'a>> {
        let Some(places) = self.abroad.get(name) else {
            let known: Vec<&str> = self.abroad.keys().map(|name| &**name).collect();
            faults.push(Fault::new(
                FaultKind::Option,
                format!(
                    "Service {key}: annotation {} is {name:?}, and discovery was given no cluster of that name; there \
                     are: {known:?} (flag --fallback)",
                    crate::options::FALLBACK
                ),
            ));
            return None;
        };
        let read = places.held(key).flat_map(|slice| &slice.faults);
        faults.extend(read.map(|fault| Fault::new(fault.kind, format!("cluster {name}: {fault}"))));
        Some(Abroad { cluster: name, places: places.of(key) })
    }

    /// The zone of each Node of our own cluster.
    pub fn zones(&self) -> &Zones {
        self.home.zones()
    }

    /// Counts for metrics.
    pub fn counts(&self) -> Counts {
        [
            ("services", self.services.len()),
            ("services_opted_in", self.opted_in),
            ("slices", self.home.len()),
            ("slices_without_service", self.orphans + self.home.ownerless()),
            ("slices_of_fallbacks", self.abroad.values().map(Places::len).sum()),
            ("nodes", self.home.zones().len()),
            ("pods", self.pods.len()),
        ]
    }
}

/// Whether a Service wants the endpoints of this fallback cluster.
fn leans_on(services: &HashMap<ObjectKey, Held<Service>>, key: &ObjectKey, cluster: &str) -> bool {
    let options = services.get(key).and_then(|held| held.object.options.as_ref());
    options.is_some_and(|options| options.fallback.as_deref() == Some(cluster))
}

#[cfg(test)]
mod tests;
