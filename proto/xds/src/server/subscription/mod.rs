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

use std::{collections::BTreeMap, sync::Arc};

use super::{Difference, NamePool, ResourceSource, TypeReport, WILDCARD, names::NameSet};
use crate::{resource::EncodedResource, version::Version};

mod acknowledge;
mod interest;
mod pending;
mod respond;
mod sent;

pub(super) use interest::Interest;
use pending::{Pending, Queue};
use sent::{Outstanding, Sent};

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
    pending: Queue,
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

    fn in_wildcard(&self, name: &str) -> bool {
        self.view.in_wildcard(self.type_url, name)
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
    pub(super) fn new(grouping: Grouping, names: NamePool) -> Self {
        Self {
            grouping,
            wildcard: false,
            named: false,
            names: NameSet::new(names),
            pending: Queue::default(),
            owed: false,
            outstanding: None,
            rejected: BTreeMap::new(),
        }
    }

    /// Makes pending, of these names, what the client wants and does not know of the new view. That it is pending already
    /// is not looked at: what is pending remembers what was told, which the old view no longer says.
    pub(super) fn compare(
        &mut self,
        names: &[Arc<str>],
        difference: impl Fn(usize) -> Option<Difference>,
        new: Scope<'_>,
    ) {
        let seen = names.iter().enumerate().filter(|(_, name)| self.sees_one(name, new));
        let news = seen.filter_map(|(place, name)| Some(Pending::news(name, &difference(place)?)));
        let news = news.collect();
        self.pending.extend(news);
    }

    /// The same for all names there are.
    pub(super) fn compare_all(&mut self, old: Scope<'_>, new: Scope<'_>) {
        let mut news: Vec<Pending> = self.names.iter().filter_map(|name| self.news(name, old, new)).collect();
        if self.wildcard {
            let mut note = |resource: &EncodedResource| news.extend(self.news(resource.name(), old, new));
            new.for_each(&mut note);
            old.for_each(&mut note);
        }
        self.pending.extend(news);
    }

    /// What is to be told of a name, if the client sees it and it is not the same in both views.
    fn news(&self, name: &Arc<str>, old: Scope<'_>, new: Scope<'_>) -> Option<Pending> {
        let difference = || Difference::between(old.get(name).as_ref(), new.get(name));
        let difference = self.sees(name, new).then(difference).flatten();
        difference.map(|difference| Pending::news(name, &difference))
    }

    /// Tells of names again, if the client wants them, whether or not they have changed.
    pub(super) fn repeat<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>, scope: Scope<'_>) {
        let wanted = names.filter(|name| self.wants(name));
        let asked =
            wanted.map(|name| Pending::new(name.clone(), self.told(name, scope), Why::Asked)).collect();
        self.pending.extend(asked);
    }

    /// What the client was told of a name.
    fn told(&self, name: &str, scope: Scope<'_>) -> Told {
        match self.pending.get(name) {
            Some(pending) => pending.told(),
            None if self.sees(name, scope) => Told::of(scope.get(name).as_ref()),
            // It wants all, and this is not part of that.
            None if self.wildcard => Told::Missing,
            None => Told::Nothing,
        }
    }

    /// Whether the client is shown what is under a name. The same in all views that it is given.
    fn sees(&self, name: &str, scope: Scope<'_>) -> bool {
        (self.wildcard && scope.in_wildcard(name)) || self.names.contains(name)
    }

    /// The same of a name that other clients are told of as well.
    fn sees_one(&self, name: &Arc<str>, scope: Scope<'_>) -> bool {
        (self.wildcard && scope.in_wildcard(name)) || self.names.contains_again(name)
    }

    /// What the client is shown under a name that is pending, and whether it asked for it by name if that is nothing.
    fn look(&self, name: &str, scope: Scope<'_>) -> (Option<EncodedResource>, bool) {
        debug_assert!(self.wants(name), "{name} is pending and not wanted");
        // Without a wildcard all that is pending was asked for by name, so the names need not be searched.
        let named = || !self.wildcard || self.names.contains(name);
        let seen = (self.wildcard && scope.in_wildcard(name)) || named();
        let resource = seen.then(|| scope.get(name)).flatten();
        let named = resource.is_none() && named();
        (resource, named)
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Forgets what there is of names that the client no longer wants; they are sorted.
    fn forget(&mut self, names: &[Arc<str>]) {
        let forgotten = |name: &str| names.binary_search_by(|other| (**other).cmp(name)).is_ok();
        if !names.is_empty() {
            self.pending.retain(|name| !forgotten(name));
            self.rejected.retain(|name, _| !forgotten(name));
        }
    }

    /// Number of names subscribed to.
    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// What was new in the response that is not answered yet.
    pub(super) fn unacknowledged(&self) -> impl Iterator<Item = (&Arc<str>, Version)> {
        self.outstanding.iter().flat_map(|outstanding| outstanding.sent.iter())
    }

    /// How many resources are rejected.
    pub(super) fn rejected(&self) -> usize {
        self.rejected.len()
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
        self.names.iter().chain(self.pending.names()).for_each(&mut note);
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
            unacknowledged: self.unacknowledged().map(|(name, version)| (name.clone(), version)).collect(),
            pending: self.pending.names().cloned().collect(),
            rejected: rejected.collect(),
            in_sync: self.in_sync(),
        }
    }
}
