// SPDX-License-Identifier: Apache-2.0
//! The EndpointSlices and Nodes of one cluster, ours or a fallback: where endpoints are.
//!
//! What must always be true: equal content touches nothing, and a Node that changes its zone touches the Services with
//! endpoints there whose slice does not say the zone itself.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as discovery;

use super::Held;
use crate::objects::{Slice, key_of};
use crate::source::ObjectKey;
use crate::strings::Strings;
use crate::view::{Slices, Zones};

/// One cluster's slices and zones.
#[derive(Debug, Default)]
pub(super) struct Places {
    slices: HashMap<ObjectKey, Held<Slice>>,
    /// Slices of each Service, in a stable order.
    by_service: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    zones: Zones,
    /// Nodes whose zone has changed and whose endpoints have not been looked at yet. Many Nodes cost one look.
    moved: BTreeSet<Arc<str>>,
    /// Slices that name no Service.
    ownerless: usize,
}

// === impl Places ===

impl Places {
    /// An EndpointSlice exists with this content. Returns the Services that it touches.
    pub(super) fn apply_slice(
        &mut self,
        object: &discovery::EndpointSlice,
        strings: &mut Strings,
    ) -> Vec<ObjectKey> {
        let key = key_of(&object.metadata);
        let last = self.slices.get(&key);
        let read = Slice::read(object, last.map(|last| &last.object), strings);
        let object = match last.filter(|_| read.broken) {
            Some(last) => last.object.clone(),
            None => read.object,
        };
        let new = Held { object, faults: read.faults };
        if last == Some(&new) {
            return Vec::new();
        }
        if let Some(held) = self.slices.get_mut(&key)
            && held.object.service == new.object.service
        {
            *held = new;
            return held.object.service.iter().cloned().collect();
        }
        let mut touched = self.remove_slice(&key);
        match &new.object.service {
            Some(service) => {
                self.by_service.entry(service.clone()).or_default().insert(key.clone());
                touched.push(service.clone());
            }
            None => self.ownerless += 1,
        }
        self.slices.insert(key, new);
        touched
    }

    /// An EndpointSlice is gone. Returns the Service that it touches.
    pub(super) fn remove_slice(&mut self, key: &ObjectKey) -> Vec<ObjectKey> {
        let Some(held) = self.slices.remove(key) else { return Vec::new() };
        let Some(service) = held.object.service else {
            self.ownerless -= 1;
            return Vec::new();
        };
        if let Some(slices) = self.by_service.get_mut(&service) {
            slices.remove(key);
            if slices.is_empty() {
                self.by_service.remove(&service);
            }
        }
        vec![service]
    }

    /// A Node is in this zone; `None`: it has none, or is gone.
    pub(super) fn set_zone(&mut self, node: &str, zone: Option<&str>, strings: &mut Strings) {
        // Nodes are updated all the time, their zones hardly ever.
        if self.zones.get(node).map(|zone| &**zone) == zone {
            return;
        }
        let node = strings.share(node);
        match zone {
            Some(zone) => self.zones.insert(node.clone(), strings.share(zone)),
            None => self.zones.remove(&node),
        };
        self.moved.insert(node);
    }

    /// Services that Nodes have touched since the last call.
    pub(super) fn take_moved(&mut self) -> BTreeSet<ObjectKey> {
        let moved = mem::take(&mut self.moved);
        if moved.is_empty() {
            return BTreeSet::new();
        }
        let touched = |slice: &&Slice| {
            slice.endpoints.iter().any(|endpoint| endpoint.zone.is_none() && moved.contains(&endpoint.node))
        };
        let slices = self.slices.values().map(|held| &held.object);
        slices.filter(touched).filter_map(|slice| slice.service.clone()).collect()
    }

    /// The slices of a Service, and where their Nodes are.
    pub(super) fn of(&self, service: &ObjectKey) -> Slices<'_> {
        Slices { slices: self.held(service).map(|held| &held.object).collect(), zones: &self.zones }
    }

    /// The slices of a Service with their faults, in a stable order.
    pub(super) fn held(&self, service: &ObjectKey) -> impl Iterator<Item = &Held<Slice>> {
        let keys = self.by_service.get(service).into_iter().flatten();
        keys.filter_map(|key| self.slices.get(key))
    }

    /// The Service that a slice names.
    pub(super) fn owner(&self, slice: &ObjectKey) -> Option<ObjectKey> {
        self.slices.get(slice)?.object.service.clone()
    }

    /// How many slices name this Service.
    pub(super) fn count(&self, service: &ObjectKey) -> usize {
        self.by_service.get(service).map_or(0, BTreeSet::len)
    }

    /// Zones by Node.
    pub(super) fn zones(&self) -> &Zones {
        &self.zones
    }

    /// How many slices there are.
    pub(super) fn len(&self) -> usize {
        self.slices.len()
    }

    /// How many slices name no Service.
    pub(super) fn ownerless(&self) -> usize {
        self.ownerless
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.by_service.is_empty() && self.ownerless == 0
    }
}
