// SPDX-License-Identifier: Apache-2.0
//! Building a response from what is pending.
//!
//! What must always be true: what leaves `pending` is what the client is told of by the response, or knows already.

use std::sync::Arc;

use super::{Grouping, Outstanding, Pending, Scope, Sent, Subscription, Why};
use crate::{
    resource::EncodedResource,
    server::{Difference, Response},
    version::{Nonce, Nonces, Version},
};

/// Bytes of a removal in a response beside its name.
const REMOVAL: usize = 8;

/// What is new in a response.
type List = Vec<(Arc<str>, Version)>;

/// A response that is cut near a size, while it is filled.
struct Draft {
    response: Response,
    sent: List,
    used: usize,
    budget: usize,
}

// === impl Draft ===

impl Draft {
    fn new(response: Response, budget: usize) -> Self {
        Self { response, sent: Vec::new(), used: 0, budget }
    }

    /// Whether this is to be in it as well. The first is, whatever its size.
    fn has_room(&self, name: &str, resource: Option<&EncodedResource>) -> bool {
        self.used == 0 || self.used + size(name, resource) <= self.budget
    }

    fn put(&mut self, name: &Arc<str>, resource: Option<EncodedResource>) {
        self.used += size(name, resource.as_ref());
        match resource {
            Some(resource) => {
                self.sent.push((resource.name().clone(), resource.version()));
                self.response.resources.push(resource);
            }
            None => self.response.removed.push(name.clone()),
        }
    }
}

/// What this takes in a response, about.
fn size(name: &str, resource: Option<&EncodedResource>) -> usize {
    resource.map_or(name.len() + REMOVAL, |resource| resource.delta_wire().len())
}

impl Subscription {
    /// The next response, if there is something to tell and nothing is unacknowledged.
    pub(in crate::server) fn respond(
        &mut self,
        type_url: &Arc<str>,
        scope: Scope<'_>,
        budget: usize,
        nonces: &mut Nonces,
    ) -> Option<Response> {
        if self.outstanding.is_some() || (self.pending.is_empty() && !self.owed) {
            return None;
        }
        let mut draft = Draft::new(blank(type_url), budget);
        let news = match self.grouping {
            Grouping::Whole => self.fill_whole(&mut draft, scope),
            Grouping::Differences | Grouping::Parts => self.fill(&mut draft, scope),
        };
        let owed = std::mem::take(&mut self.owed);
        // State of the world has no word for a part without resources.
        let told = news || (owed && self.grouping != Grouping::Parts);
        told.then(|| self.sign(draft.response, Sent::Several(draft.sent), nonces))
    }

    /// Whether what is different about these names can be told at once: nothing else is to be told, or waits.
    pub(in crate::server) fn is_ready(&self, names: &[Arc<str>]) -> bool {
        self.grouping != Grouping::Whole && self.in_sync() && names.is_sorted()
    }

    /// Tells of these names what is different and the client sees: the response that there would be if they were made
    /// pending first. To be called if [`Subscription::is_ready`].
    pub(in crate::server) fn tell(
        &mut self,
        (type_url, names): (&Arc<str>, &[Arc<str>]),
        difference: impl Fn(usize) -> Option<Difference>,
        new: Scope<'_>,
        budget: usize,
        nonces: &mut Nonces,
    ) -> Option<Response> {
        let seen = names.iter().enumerate().filter(|(_, name)| self.sees_one(name, new));
        let mut news = seen.filter_map(|(place, name)| Some((name, difference(place)?)));
        let (first, second) = (news.next()?, news.next());
        if second.is_none()
            && let Some(resource) = first.1.new
        {
            // As after most changes.
            let response = Response { resources: vec![resource.clone()], ..blank(type_url) };
            return Some(self.sign(response, Sent::One(resource), nonces));
        }
        let news: Vec<_> = [Some(first), second].into_iter().flatten().chain(news).collect();
        let mut draft = Draft::new(blank(type_url), budget);
        for (place, (name, Difference { new, .. })) in news.iter().enumerate() {
            if !draft.has_room(name, new.as_ref()) {
                let rest = news[place..].iter();
                self.pending.extend(rest.map(|(name, news)| Pending::news(name, news)).collect());
                break;
            }
            self.put(name, new.clone(), &mut draft);
        }
        (draft.used > 0).then(|| self.sign(draft.response, Sent::Several(draft.sent), nonces))
    }

    /// Gives the response its nonce, and remembers that it is under way.
    fn sign(&mut self, mut response: Response, sent: Sent, nonces: &mut Nonces) -> Response {
        let nonce = nonces.next();
        response.nonce = Nonce::new(nonce);
        self.outstanding = Some(Outstanding { nonce, sent });
        response
    }

    /// Moves pending names into the response until the budget is used up. Whether there was something to tell.
    fn fill(&mut self, draft: &mut Draft, scope: Scope<'_>) -> bool {
        while let Some(pending) = self.pending.pop_first() {
            let (resource, named) = self.look(&pending.name, scope);
            if pending.why == Why::Changed && !pending.told().differs(resource.as_ref(), named) {
                continue;
            }
            if !draft.has_room(&pending.name, resource.as_ref()) {
                self.pending.put_back(pending);
                break;
            }
            self.put(&pending.name, resource, draft);
        }
        draft.used > 0
    }

    /// Puts what is under a name into the response, as far as the variant has a word for it.
    fn put(&mut self, name: &Arc<str>, resource: Option<EncodedResource>, draft: &mut Draft) {
        if resource.is_none() {
            self.rejected.remove(name);
        }
        if resource.is_some() || self.grouping == Grouping::Differences {
            draft.put(name, resource);
        }
    }

    /// Puts all that the client wants into the response, if any of it is news. Whether something is.
    fn fill_whole(&mut self, Draft { response, sent, .. }: &mut Draft, scope: Scope<'_>) -> bool {
        let mut news = self.owed;
        while let Some(pending) = self.pending.pop_first() {
            let (resource, named) = self.look(&pending.name, scope);
            if pending.why == Why::Changed && !pending.told().differs(resource.as_ref(), named) {
                continue;
            }
            news = true;
            match resource {
                Some(resource) => sent.push((resource.name().clone(), resource.version())),
                None => drop(self.rejected.remove(&pending.name)),
            }
        }
        if !news {
            return false;
        }
        response.resources = self.names.iter().filter_map(|name| scope.get(name)).collect();
        if self.wildcard {
            scope.for_each(&mut |resource: &EncodedResource| response.resources.push(resource.clone()));
        }
        // In one order, because the version is a hash over all of it.
        response.resources.sort_by(|one, other| one.name().cmp(other.name()));
        response.resources.dedup_by(|one, other| one.name() == other.name());
        true
    }
}

/// A response without content.
fn blank(type_url: &Arc<str>) -> Response {
    Response { type_url: type_url.clone(), ..Response::default() }
}
