// SPDX-License-Identifier: Apache-2.0
//! What one client wants of one type, and what it has not been told yet.
//!
//! What it has been told is not stored: it is the view that the session had last, except for the names in `pending`,
//! which carry what was told of them. Being told means that a response was built, not that it was acknowledged, so a
//! rejected version counts as told and is not repeated. The content of pending names is looked up when a response is
//! built, so several changes of one resource while a response is unacknowledged become one.
//!
//! What must always be true: a name in `pending` is of interest to the client; a name is pending if the client may not
//! know what the view says of it.
//! Deliberately not here: limits, nonces across types, ordering between types.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use envoy_types::pb::google::rpc::Status;

use super::{ResourceSource, TypeReport, WILDCARD, names::NameSet};
use crate::{nack, resource::EncodedResource, version::Version};

mod interest;
mod respond;

pub(super) use interest::Interest;

/// How resources of a type are put into responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// What is different, removals by name: the delta variant.
    Differences,
    /// All in every response, removals by absence: state-of-the-world listeners and clusters.
    Whole,
    /// What is different, removals not at all: the other state-of-the-world types.
    Parts,
}

/// One type of one view.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) type_url: &'a str,
    pub(super) view: &'a dyn ResourceSource,
}

/// What the client was told about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Nothing.
    Nothing,
    /// It has this version, or has rejected it.
    Version(Version),
    /// It says it has a version that is not one of ours.
    Foreign,
    /// It knows that there is no such resource.
    Missing,
}

/// Why a name is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Perhaps changed: tell if it differs from what was told.
    Changed,
    /// Asked for by name: tell in any case.
    Asked,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    told: Told,
    why: Why,
}

/// A response that was not answered yet, and what was new in it.
#[derive(Debug)]
struct Outstanding {
    nonce: u64,
    sent: Vec<(Arc<str>, Version)>,
}

/// A version that the client rejected.
#[derive(Debug)]
struct Rejected {
    version: Version,
    reason: Arc<str>,
}

/// One client's subscription to one type.
#[derive(Debug)]
pub(super) struct Subscription {
    grouping: Grouping,
    wildcard: bool,
    /// Whether names were ever given, which ends the legacy wildcard of an empty list.
    named: bool,
    names: NameSet,
    pending: BTreeMap<Arc<str>, Pending>,
    /// The first request is answered even if there is nothing to tell: the client learns that it is in sync.
    owed: bool,
    outstanding: Option<Outstanding>,
    rejected: BTreeMap<Arc<str>, Rejected>,
}

// === impl Scope ===

impl Scope<'_> {
    fn get(&self, name: &str) -> Option<EncodedResource> {
        self.view.get(self.type_url, name)
    }

    fn for_each(&self, visit: &mut dyn FnMut(&EncodedResource)) {
        self.view.for_each(self.type_url, visit);
    }

    /// The view's own copy of a name, which all clients share; else a new one.
    fn share(&self, name: &str) -> Arc<str> {
        self.get(name).map_or_else(|| name.into(), |resource| resource.name().clone())
    }
}

// === impl Told ===

impl Told {
    fn of(resource: Option<&EncodedResource>) -> Self {
        resource.map_or(Self::Missing, |resource| Self::Version(resource.version()))
    }

    /// What a client that says that it holds this version was told.
    fn held(version: &str) -> Self {
        Version::parse(version).map_or(Self::Foreign, Self::Version)
    }

    /// Whether there is something to tell. `named`: a client that asked by name is told also that there is nothing.
    fn differs(self, now: Option<&EncodedResource>, named: bool) -> bool {
        match (self, now) {
            (Self::Version(told), Some(resource)) => told != resource.version(),
            (Self::Missing, None) => false,
            (Self::Nothing, None) => named,
            _ => true,
        }
    }
}

// === impl Subscription ===

impl Subscription {
    pub(super) fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            wildcard: false,
            named: false,
            names: NameSet::default(),
            pending: BTreeMap::new(),
            owed: false,
            outstanding: None,
            rejected: BTreeMap::new(),
        }
    }

    /// Takes an ACK or, with an error, a NACK. A stale nonce answers nothing; what else is in such a request counts, and
    /// is answered once the client has seen the last response: a client that gave a name up and asked for it again
    /// meanwhile could not be told from one that holds it.
    pub(super) fn acknowledge(&mut self, nonce: &str, error: Option<&Status>, reasons: usize) {
        let latest = |outstanding: &mut Outstanding| outstanding.nonce.to_string() == nonce;
        let Some(outstanding) = self.outstanding.take_if(latest) else { return };
        match error {
            Some(error) => self.reject(outstanding.sent, error, reasons),
            None => self.accept(&outstanding.sent),
        }
    }

    fn accept(&mut self, sent: &[(Arc<str>, Version)]) {
        if self.grouping == Grouping::Whole {
            self.rejected.clear();
        }
        for (name, _) in sent {
            self.rejected.remove(name);
        }
    }

    fn reject(&mut self, sent: Vec<(Arc<str>, Version)>, error: &Status, reasons: usize) {
        let named: HashMap<String, String> = nack::per_resource(error).into_iter().collect();
        let whole: Arc<str> = nack::cut(&error.message).into();
        for (name, version) in sent {
            let reason = match named.get(&*name) {
                Some(_) if self.rejected.len() >= reasons => whole.clone(),
                Some(reason) => reason.as_str().into(),
                // Details were given, and not about this one: it was accepted.
                None if !named.is_empty() => {
                    self.rejected.remove(&name);
                    continue;
                }
                None => whole.clone(),
            };
            if self.wants(&name) {
                self.rejected.insert(name, Rejected { version, reason });
            }
        }
    }

    /// Makes pending, of these names, what the client wants and does not know of the new view.
    pub(super) fn compare(&mut self, names: &[Arc<str>], old: Scope<'_>, new: Scope<'_>) {
        for name in names {
            self.compare_one(name, old, new);
        }
    }

    /// The same for all names there are.
    pub(super) fn compare_all(&mut self, old: Scope<'_>, new: Scope<'_>) {
        let mut names: Vec<Arc<str>> = self.names.iter().cloned().collect();
        if self.wildcard {
            new.for_each(&mut |resource| names.push(resource.name().clone()));
            old.for_each(&mut |resource| names.push(resource.name().clone()));
        }
        self.compare(&names, old, new);
    }

    fn compare_one(&mut self, name: &Arc<str>, old: Scope<'_>, new: Scope<'_>) {
        // One that is pending remembers what was told, which the old view no longer says.
        if !self.wants(name) || self.pending.contains_key(name) {
            return;
        }
        let told = Told::of(self.look(name, old).as_ref());
        if told.differs(self.look(name, new).as_ref(), false) {
            self.pending.insert(name.clone(), Pending { told, why: Why::Changed });
        }
    }

    /// Tells of a name again, if the client wants it, whether or not it has changed.
    pub(super) fn repeat(&mut self, name: &Arc<str>, scope: Scope<'_>) {
        if self.wants(name) {
            let told = self.told(name, scope);
            self.ask(name.clone(), told);
        }
    }

    fn ask(&mut self, name: Arc<str>, told: Told) {
        self.pending.entry(name).or_insert(Pending { told, why: Why::Asked }).why = Why::Asked;
    }

    /// What the client was told of a name.
    fn told(&self, name: &str, scope: Scope<'_>) -> Told {
        match self.pending.get(name) {
            Some(pending) => pending.told,
            None if self.wants(name) => Told::of(self.look(name, scope).as_ref()),
            None => Told::Nothing,
        }
    }

    /// What this client sees under a name.
    fn look(&self, name: &str, scope: Scope<'_>) -> Option<EncodedResource> {
        let seen =
            self.names.contains(name) || (self.wildcard && scope.view.in_wildcard(scope.type_url, name));
        seen.then(|| scope.get(name)).flatten()
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn forget(&mut self, name: &str) {
        self.pending.remove(name);
        self.rejected.remove(name);
    }

    /// Number of names subscribed to.
    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// What was new in the response that is not answered yet.
    pub(super) fn unacknowledged(&self) -> impl Iterator<Item = &(Arc<str>, Version)> {
        self.outstanding.iter().flat_map(|outstanding| &outstanding.sent)
    }

    /// What was rejected: name, version, the client's words.
    pub(super) fn rejections(&self) -> impl Iterator<Item = (&Arc<str>, Version, &Arc<str>)> {
        self.rejected.iter().map(|(name, rejected)| (name, rejected.version, &rejected.reason))
    }

    /// Whether nothing is unacknowledged or waiting.
    pub(super) fn in_sync(&self) -> bool {
        self.outstanding.is_none() && self.pending.is_empty() && !self.owed
    }

    pub(super) fn report(&self, type_url: Arc<str>, scope: Scope<'_>) -> TypeReport {
        let mut told = BTreeMap::new();
        let mut note = |name: &Arc<str>| {
            if let Told::Version(version) = self.told(name, scope) {
                told.insert(name.clone(), version);
            }
        };
        self.names.iter().chain(self.pending.keys()).for_each(&mut note);
        if self.wildcard {
            scope.for_each(&mut |resource| note(resource.name()));
        }
        let rejected =
            self.rejections().map(|(name, version, reason)| (name.clone(), version, reason.clone()));
        TypeReport {
            type_url,
            wildcard: self.wildcard,
            names: self.names.iter().cloned().collect(),
            told: told.into_iter().collect(),
            unacknowledged: self.unacknowledged().cloned().collect(),
            pending: self.pending.keys().cloned().collect(),
            rejected: rejected.collect(),
            in_sync: self.in_sync(),
        }
    }
}
