// SPDX-License-Identifier: Apache-2.0
//! Building a response from what is pending.
//!
//! What must always be true: what leaves `pending` is what the client is told of by the response, or knows already.

use std::sync::Arc;

use super::{Grouping, Outstanding, Scope, Subscription, Why};
use crate::{
    resource::EncodedResource,
    server::Response,
    version::{Nonces, Version},
};

/// Bytes of a removal in a response beside its name.
const REMOVAL: usize = 8;

/// What is new in a response.
type Sent = Vec<(Arc<str>, Version)>;

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
        let mut response = Response { type_url: type_url.clone(), ..Response::default() };
        let sent = match self.grouping {
            Grouping::Whole => self.fill_whole(&mut response, scope),
            Grouping::Differences | Grouping::Parts => self.fill(&mut response, scope, budget),
        };
        let owed = std::mem::take(&mut self.owed);
        let sent = match (sent, self.grouping) {
            (None, Grouping::Parts) => return None,
            (None, _) if !owed => return None,
            (sent, _) => sent.unwrap_or_default(),
        };
        let nonce = nonces.next();
        response.nonce = nonce.to_string();
        self.outstanding = Some(Outstanding { nonce, sent });
        Some(response)
    }

    /// Moves pending names into the response until the budget is used up. `None`: there was nothing to tell.
    fn fill(&mut self, response: &mut Response, scope: Scope<'_>, budget: usize) -> Option<Sent> {
        let mut sent = Vec::new();
        let mut used = 0;
        while let Some(pending) = self.pending.pop_first() {
            let (resource, named) = self.look(&pending.name, scope);
            if pending.why == Why::Changed && !pending.told().differs(resource.as_ref(), named) {
                continue;
            }
            let name = &pending.name;
            let size = resource.as_ref().map_or(name.len() + REMOVAL, |r| r.delta_wire().len());
            if used > 0 && used + size > budget {
                self.pending.put_back(pending);
                break;
            }
            match resource {
                Some(resource) => {
                    used += size;
                    sent.push((resource.name().clone(), resource.version()));
                    response.resources.push(resource);
                }
                None => {
                    self.rejected.remove(name);
                    if self.grouping == Grouping::Differences {
                        used += size;
                        response.removed.push(pending.name);
                    }
                }
            }
        }
        (used > 0).then_some(sent)
    }

    /// Puts all that the client wants into the response, if any of it is news. `None`: nothing is.
    fn fill_whole(&mut self, response: &mut Response, scope: Scope<'_>) -> Option<Sent> {
        let mut sent = Vec::new();
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
            return None;
        }
        response.resources = self.names.iter().filter_map(|name| scope.get(name)).collect();
        if self.wildcard {
            scope.for_each(&mut |resource: &EncodedResource| response.resources.push(resource.clone()));
        }
        // In one order, because the version is a hash over all of it.
        response.resources.sort_by(|one, other| one.name().cmp(other.name()));
        response.resources.dedup_by(|one, other| one.name() == other.name());
        Some(sent)
    }
}
