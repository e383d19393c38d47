// SPDX-License-Identifier: Apache-2.0
//! Which file holds which objects, and what follows when one changes. Pure: no files are touched here.
//!
//! An object that is in several files is taken from the first in name order; the others have a fault. What must always
//! be true: objects of a refused file stay until it is loaded or removed, and equal content tells nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::fault::{Fault, FaultKind};
use crate::source::{Change, Event, ObjectKey, PodLabels};

/// The kinds that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Node,
    Pod,
    Slice,
    Service,
}

/// What identifies an object among all kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectId {
    pub(super) kind: Kind,
    pub(super) key: ObjectKey,
}

/// An object as it was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Node(Box<Node>),
    Pod(Box<PodLabels>),
    Slice(Box<EndpointSlice>),
    Service(Box<Service>),
}

/// The objects of one file.
pub(super) type Objects = BTreeMap<ObjectId, Object>;

/// All files.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    files: BTreeMap<String, Held>,
    owners: BTreeMap<ObjectId, BTreeSet<String>>,
}

/// The last good objects of a file, and what is wrong with its newest content.
#[derive(Debug, Default)]
struct Held {
    objects: Objects,
    faults: Vec<Fault>,
}

// === impl Kind ===

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Slice => "EndpointSlice",
            Self::Service => "Service",
        }
    }
}

// === impl Object ===

impl Object {
    fn applied(&self) -> Change {
        match self.clone() {
            Self::Node(node) => Change::Node(Event::Applied(node)),
            Self::Pod(pod) => Change::Pod(Event::Applied(pod)),
            Self::Slice(slice) => Change::Slice(Event::Applied(slice)),
            Self::Service(service) => Change::Service(Event::Applied(service)),
        }
    }
}

// === impl ObjectId ===

impl ObjectId {
    fn deleted(&self) -> Change {
        let key = self.key.clone();
        match self.kind {
            Kind::Node => Change::Node(Event::Deleted(key)),
            Kind::Pod => Change::Pod(Event::Deleted(key)),
            Kind::Slice => Change::Slice(Event::Deleted(key)),
            Kind::Service => Change::Service(Event::Deleted(key)),
        }
    }
}

// === impl Catalog ===

impl Catalog {
    /// Files that are held, good or refused.
    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// A file was read without fault.
    pub(super) fn load(&mut self, file: &str, objects: Objects) -> Vec<Change> {
        self.swap(file, Some(Held { objects, faults: Vec::new() }))
    }

    /// A file could not be read, or has a fault: its objects stay.
    pub(super) fn refuse(&mut self, file: &str, faults: Vec<Fault>) -> Vec<Change> {
        self.files.entry(file.to_owned()).or_default().faults = faults;
        vec![self.faults_of(file)]
    }

    /// A file is gone, and with it its objects.
    pub(super) fn remove(&mut self, file: &str) -> Vec<Change> {
        if self.files.contains_key(file) { self.swap(file, None) } else { Vec::new() }
    }

    fn swap(&mut self, file: &str, new: Option<Held>) -> Vec<Change> {
        let old = self.files.remove(file).unwrap_or_default().objects;
        let none = Objects::new();
        let fresh = new.as_ref().map_or(&none, |new| &new.objects);
        let touched: BTreeSet<ObjectId> = old.keys().chain(fresh.keys()).cloned().collect();
        let before: Vec<Option<Object>> =
            touched.iter().map(|id| self.in_force(id, Some((file, &old))).cloned()).collect();

        for id in old.keys() {
            if let Some(owners) = self.owners.get_mut(id) {
                owners.remove(file);
            }
        }
        for id in fresh.keys() {
            self.owners.entry(id.clone()).or_default().insert(file.to_owned());
        }
        if let Some(new) = new {
            self.files.insert(file.to_owned(), new);
        }

        let mut changes = Vec::new();
        let mut affected = BTreeSet::from([file.to_owned()]);
        for (id, before) in touched.iter().zip(before) {
            affected.extend(self.owners.get(id).into_iter().flatten().cloned());
            match self.in_force(id, None) {
                Some(after) if before.as_ref() == Some(after) => {}
                Some(after) => changes.push(after.applied()),
                None => changes.push(id.deleted()),
            }
        }
        // Not a look at all objects: a change costs what its file holds.
        for id in &touched {
            if self.owners.get(id).is_some_and(BTreeSet::is_empty) {
                self.owners.remove(id);
            }
        }
        changes.extend(affected.iter().map(|file| self.faults_of(file)));
        changes
    }

    /// The object of the first file that holds it. `aside`: a file that has been taken out of the map for a moment.
    fn in_force<'a>(&'a self, id: &ObjectId, aside: Option<(&str, &'a Objects)>) -> Option<&'a Object> {
        let first = self.owners.get(id)?.first()?;
        match aside {
            Some((file, objects)) if file == first => objects.get(id),
            _ => self.files.get(first)?.objects.get(id),
        }
    }

    fn faults_of(&self, file: &str) -> Change {
        let mut faults = Vec::new();
        if let Some(held) = self.files.get(file) {
            faults.clone_from(&held.faults);
            for id in held.objects.keys() {
                let first = self.owners.get(id).and_then(BTreeSet::first);
                if let Some(first) = first.filter(|first| *first != file) {
                    let what = format!(
                        "file {file}: {} {} is also in file {first}; the one in {first} stays",
                        id.kind.as_str(),
                        id.key
                    );
                    faults.push(Fault::new(FaultKind::Duplicate, what));
                }
            }
        }
        Change::Faults { origin: file.to_owned(), faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, zone: &str) -> (ObjectId, Object) {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        node.metadata.labels = Some(BTreeMap::from([("zone".into(), zone.into())]));
        (ObjectId { kind: Kind::Node, key: ObjectKey::new("", name) }, Object::Node(Box::new(node)))
    }

    fn told(changes: &[Change]) -> Vec<String> {
        changes
            .iter()
            .map(|change| match change {
                Change::Node(Event::Applied(node)) => {
                    format!("+{}", node.metadata.labels.as_ref().unwrap()["zone"])
                }
                Change::Node(Event::Deleted(key)) => format!("-{key}"),
                Change::Faults { origin, faults } => format!("{origin}!{}", faults.len()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn equal_content_tells_nothing() {
        let mut catalog = Catalog::default();
        assert_eq!(told(&catalog.load("a", Objects::from([node("n", "1")]))), ["+1", "a!0"]);
        assert_eq!(told(&catalog.load("a", Objects::from([node("n", "1")]))), ["a!0"]);
        assert_eq!(told(&catalog.load("a", Objects::from([node("n", "2")]))), ["+2", "a!0"]);
        assert_eq!(told(&catalog.load("a", Objects::new())), ["-n", "a!0"]);
    }

    #[test]
    fn a_refused_file_keeps_its_objects_until_it_is_removed() {
        let mut catalog = Catalog::default();
        catalog.load("a", Objects::from([node("n", "1")]));
        assert_eq!(told(&catalog.refuse("a", vec![Fault::new(FaultKind::Syntax, "bad")])), ["a!1"]);
        assert_eq!(told(&catalog.remove("a")), ["-n", "a!0"]);
        assert_eq!(told(&catalog.remove("a")), Vec::<String>::new());
        assert!(catalog.owners.is_empty());
    }

    #[test]
    fn an_object_in_two_files_is_taken_from_the_first() {
        let mut catalog = Catalog::default();
        catalog.load("b", Objects::from([node("n", "b")]));
        assert_eq!(told(&catalog.load("a", Objects::from([node("n", "a")]))), ["+a", "a!0", "b!1"]);
        assert_eq!(told(&catalog.load("b", Objects::from([node("n", "c")]))), ["a!0", "b!1"]);
        assert_eq!(told(&catalog.remove("a")), ["+c", "a!0", "b!0"]);
    }
}
