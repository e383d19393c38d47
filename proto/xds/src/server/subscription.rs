// SPDX-License-Identifier: Apache-2.0
//! What one client wants of one type, what it was told, and what is still to be told.
//!
//! `told` is the server's picture of the client: it moves when a response is built, not when it is acknowledged, so a
//! rejected version counts as told and is not repeated. `pending` holds names only; the content is looked up when the
//! response is built, so several changes of one resource while a response is unacknowledged become one.
//!
//! What must always be true: a name in `told` or `pending` is of interest to the client; a name is pending if the
//! client may not know the truth about it.
//! Deliberately not here: limits, nonces across types, ordering between types.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use envoy_types::pb::{envoy::service::discovery::v3::DeltaDiscoveryResponse, google::rpc::Status};

use super::ResourceSource;
use crate::{
    nack,
    resource::EncodedResource,
    version::{Nonces, Version},
};

/// The name that stands for all resources.
pub(crate) const WILDCARD: &str = "*";
/// Bytes of one resource in a response beside its name and body: version, type URL, tags.
const OVERHEAD: usize = 128;

/// The parts of a request that change a subscription.
pub(super) struct Request {
    pub(super) first: bool,
    pub(super) subscribe: Vec<String>,
    pub(super) unsubscribe: Vec<String>,
    pub(super) held: HashMap<String, String>,
}

/// A version that the client rejected.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) version: Version,
    pub(super) reason: String,
}

/// What the client was told about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
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

#[derive(Debug)]
struct Outstanding {
    nonce: String,
    sent: Vec<(Arc<str>, Version)>,
}

/// One client's subscription to one type.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    wildcard: bool,
    names: HashSet<Arc<str>>,
    told: HashMap<Arc<str>, Told>,
    pending: BTreeMap<Arc<str>, Why>,
    /// Compare everything when the next response is built.
    scan: bool,
    /// The first request is answered even if there is nothing to tell: the client learns that it is in sync.
    owed: bool,
    outstanding: Option<Outstanding>,
    rejected: BTreeMap<Arc<str>, Rejected>,
}

impl Subscription {
    /// Takes an ACK or, with an error, a NACK. A stale nonce answers nothing.
    pub(super) fn acknowledge(&mut self, nonce: &str, error: Option<&Status>) {
        let Some(outstanding) = self.outstanding.take_if(|o| o.nonce == nonce) else { return };
        let Some(error) = error else {
            for (name, _) in &outstanding.sent {
                self.rejected.remove(name);
            }
            return;
        };
        let reasons: HashMap<String, String> = nack::per_resource(error).into_iter().collect();
        for (name, version) in outstanding.sent {
            let reason = match reasons.get(&*name) {
                Some(reason) => reason.clone(),
                // Details were given, and not about this one: it was accepted.
                None if !reasons.is_empty() => {
                    self.rejected.remove(&name);
                    continue;
                }
                None => nack::cut(&error.message).to_owned(),
            };
            if self.wants(&name) {
                self.rejected.insert(name, Rejected { version, reason });
            }
        }
    }

    /// Applies the subscription part of a request.
    pub(super) fn change(&mut self, request: Request) {
        if request.first {
            self.owed = true;
            self.scan = true;
            // The legacy wildcard: a client that has never named anything wants everything.
            self.wildcard = request.subscribe.is_empty();
        }
        // In this order a client that goes from names to the wildcard in one request is told what became of the names.
        for name in request.subscribe {
            self.subscribe(&name, request.first);
        }
        for name in request.unsubscribe {
            self.unsubscribe(&name);
        }
        if request.first {
            for (name, version) in request.held {
                if self.wants(&name) {
                    let told = Version::parse(&version).map_or(Told::Foreign, Told::Version);
                    self.told.insert(name.into(), told);
                }
            }
        }
    }

    fn subscribe(&mut self, name: &str, first: bool) {
        if name == WILDCARD {
            if !std::mem::replace(&mut self.wildcard, true) {
                self.scan = true;
                // A client that left the wildcard and is back may still receive what was under way when it left.
                for (name, _) in self.outstanding.iter().flat_map(|o| &o.sent) {
                    self.pending.insert(name.clone(), Why::Asked);
                }
            }
            return;
        }
        let name: Arc<str> = name.into();
        // With the first request the client says what it holds; later, asking means that it holds nothing.
        if !first {
            self.pending.insert(name.clone(), Why::Asked);
        }
        self.names.insert(name);
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == WILDCARD {
            self.wildcard = false;
            let names = &self.names;
            self.told.retain(|name, _| names.contains(name));
            self.pending.retain(|name, _| names.contains(name));
            self.rejected.retain(|name, _| names.contains(name));
        } else if let Some(name) = self.names.take(name) {
            if self.wildcard {
                // Only we know whether the wildcard still covers it, so tell.
                self.pending.insert(name, Why::Asked);
            } else {
                self.forget(&name);
            }
        }
    }

    fn forget(&mut self, name: &str) {
        self.told.remove(name);
        self.pending.remove(name);
        self.rejected.remove(name);
    }

    /// Notes that a resource of this name appeared, changed or went.
    pub(super) fn changed(&mut self, name: &Arc<str>) {
        if self.wants(name) {
            self.pending.entry(name.clone()).or_insert(Why::Changed);
        }
    }

    /// Notes that anything may have changed.
    pub(super) fn rescan(&mut self) {
        self.scan = true;
    }

    /// The next response, if there is something to tell and nothing is unacknowledged.
    pub(super) fn respond(
        &mut self,
        type_url: &str,
        source: &impl ResourceSource,
        budget: usize,
        nonces: &mut Nonces,
    ) -> Option<DeltaDiscoveryResponse> {
        if self.outstanding.is_some() {
            return None;
        }
        if std::mem::take(&mut self.scan) {
            self.compare_all(type_url, source);
        }
        let mut response = DeltaDiscoveryResponse { type_url: type_url.to_owned(), ..Default::default() };
        let sent = self.fill(&mut response, source, budget);
        let empty = response.resources.is_empty() && response.removed_resources.is_empty();
        if empty && !self.owed {
            return None;
        }
        self.owed = false;
        response.nonce = nonces.next();
        self.outstanding = Some(Outstanding { nonce: response.nonce.clone(), sent });
        Some(response)
    }

    /// Moves pending names into the response until the budget is used up.
    fn fill(
        &mut self,
        response: &mut DeltaDiscoveryResponse,
        source: &impl ResourceSource,
        budget: usize,
    ) -> Vec<(Arc<str>, Version)> {
        let mut sent = Vec::new();
        let mut used = 0;
        while let Some((name, why)) = self.pending.pop_first() {
            let resource = source.get(&response.type_url, &name);
            if why == Why::Changed && !self.differs(&name, resource.as_ref()) {
                continue;
            }
            let size = name.len() + OVERHEAD + resource.as_ref().map_or(0, |r| r.body().len());
            if used > 0 && used + size > budget {
                self.pending.insert(name, why);
                break;
            }
            used += size;
            match resource {
                Some(resource) => {
                    // The source's own name is shared by all clients; the one from the request is not.
                    sent.push((resource.name().clone(), resource.version()));
                    self.told.insert(resource.name().clone(), Told::Version(resource.version()));
                    response.resources.push(resource.to_delta());
                }
                None => {
                    response.removed_resources.push(name.to_string());
                    self.tell_missing(name);
                }
            }
        }
        sent
    }

    fn tell_missing(&mut self, name: Arc<str>) {
        self.rejected.remove(&name);
        if self.names.contains(&name) {
            self.told.insert(name, Told::Missing);
        } else {
            self.told.remove(&name);
        }
    }

    /// Makes every name pending about which the client does not know the truth.
    fn compare_all(&mut self, type_url: &str, source: &impl ResourceSource) {
        let Self { wildcard, names, told, pending, .. } = self;
        if *wildcard {
            source.for_each(type_url, &mut |resource| {
                if told.get(resource.name()) != Some(&Told::Version(resource.version())) {
                    pending.entry(resource.name().clone()).or_insert(Why::Changed);
                }
            });
        }
        // Whether these differ is decided when they are looked up.
        for name in names.iter().chain(told.keys()) {
            pending.entry(name.clone()).or_insert(Why::Changed);
        }
    }

    fn differs(&self, name: &str, resource: Option<&EncodedResource>) -> bool {
        match (self.told.get(name), resource) {
            (Some(Told::Version(told)), Some(resource)) => *told != resource.version(),
            (Some(Told::Foreign | Told::Missing) | None, Some(_)) => true,
            (Some(Told::Version(_) | Told::Foreign), None) => true,
            (Some(Told::Missing), None) => false,
            (None, None) => self.names.contains(name),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Number of names subscribed to.
    pub(super) fn names(&self) -> usize {
        self.names.len()
    }

    /// What was rejected, by name.
    pub(super) fn rejections(&self) -> impl Iterator<Item = (&str, &Rejected)> {
        self.rejected.iter().map(|(name, rejected)| (&**name, rejected))
    }

    /// Whether nothing is unacknowledged or waiting.
    pub(super) fn in_sync(&self) -> bool {
        self.outstanding.is_none() && self.pending.is_empty() && !self.scan && !self.owed
    }
}
