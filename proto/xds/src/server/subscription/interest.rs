// SPDX-License-Identifier: Apache-2.0
//! What a request changes about a client's interest.
//!
//! Source: `xds_protocol.rst`, "How the client specifies what resources to return" and "Unsubscribing From Resources".

use std::collections::HashMap;

use super::{Grouping, Pending, Scope, Subscription, Told, WILDCARD, Why};
use crate::server::names;

/// The names in a request.
#[derive(Debug)]
pub(in crate::server) enum Interest {
    /// Delta: what to add and to take away, and what the client holds from before.
    Difference {
        /// Names to add.
        subscribe: Vec<String>,
        /// Names to take away.
        unsubscribe: Vec<String>,
        /// Version by name; counts in the first request only.
        held: HashMap<String, String>,
    },
    /// State of the world: all names that are wanted from now on.
    All(Vec<String>),
}

impl Subscription {
    /// Applies the names in a request.
    pub(in crate::server) fn change(&mut self, first: bool, interest: Interest, scope: Scope<'_>) {
        match interest {
            Interest::Difference { subscribe, unsubscribe, held } if first => {
                // The legacy wildcard: a client that has never named anything wants everything.
                self.wildcard = subscribe.is_empty() || subscribe.iter().any(|name| name == WILDCARD);
                self.add(&listed(&subscribe), scope);
                self.wildcard &= !unsubscribe.iter().any(|name| name == WILDCARD);
                self.names.remove_all(unsubscribe.iter().map(String::as_str));
                self.begin(held, scope);
            }
            Interest::Difference { subscribe, unsubscribe, .. } => {
                // In this order a client that goes from names to the wildcard in one request is told what became of
                // the names.
                self.subscribe(&subscribe, scope);
                self.unsubscribe(&unsubscribe, scope);
            }
            Interest::All(names) => self.replace(first, names, scope),
        }
    }

    /// Compares what the client says it holds with all that it wants.
    fn begin(&mut self, mut held: HashMap<String, String>, scope: Scope<'_>) {
        self.owed = true;
        let Self { names, wildcard, .. } = self;
        let mut pending = Vec::with_capacity(names.len());
        let mut told = |name: &str| held.remove(name).map_or(Told::Nothing, |version| Told::held(&version));
        for name in names.iter() {
            let told = told(name);
            // What was never told differs from whatever there is.
            if told == Told::Nothing || told.differs(scope.get(name).as_ref(), true) {
                pending.push(Pending::new(name.clone(), told, Why::Changed));
            }
        }
        if *wildcard {
            scope.for_each(&mut |resource| {
                let name = resource.name();
                let told = told(name);
                if !names.contains(name) && told.differs(Some(resource), false) {
                    pending.push(Pending::new(name.clone(), told, Why::Changed));
                }
            });
            // What is left is nothing that the client would be sent, so it is gone.
            let gone = held.into_iter();
            pending.extend(
                gone.map(|(name, version)| Pending::new(name.into(), Told::held(&version), Why::Changed)),
            );
        }
        self.pending.extend(pending);
    }

    // === delta ===

    fn subscribe(&mut self, names: &[String], scope: Scope<'_>) {
        if names.iter().any(|name| name == WILDCARD) {
            self.start_wildcard(scope);
        }
        // Asking means that the client holds nothing of the name, or wants to be told again.
        let names = listed(names);
        let told: Vec<Told> = names.iter().map(|name| self.told(name, scope)).collect();
        self.add(&names, scope);
        let asked = names.into_iter().zip(told).filter_map(|(name, told)| {
            // It was added just now, if it was not there.
            let name = self.names.get(name)?.clone();
            Some(Pending::new(name, told, Why::Asked))
        });
        let asked = asked.collect();
        self.pending.extend(asked);
    }

    fn unsubscribe(&mut self, names: &[String], scope: Scope<'_>) {
        if names.iter().any(|name| name == WILDCARD) {
            self.end_wildcard();
        }
        if !self.wildcard {
            let gone = self.names.remove_all(names.iter().map(String::as_str));
            return self.forget(&gone);
        }
        let told = names.iter().map(|name| (name.as_str(), self.told(name, scope)));
        let told: HashMap<&str, Told> = told.collect();
        let gone = self.names.remove_all(names.iter().map(String::as_str)).into_iter();
        // Only we know whether the wildcard still covers it, so tell.
        let asked = gone.filter_map(|name| {
            let told = *told.get(&*name)?;
            Some(Pending::new(name, told, Why::Asked))
        });
        self.pending.extend(asked.collect());
    }

    // === state of the world ===

    /// From now on exactly these.
    fn replace(&mut self, first: bool, mut names: Vec<String>, scope: Scope<'_>) {
        let whole = self.grouping == Grouping::Whole;
        // Only listeners and clusters have a wildcard. An empty first list of endpoints is a client that has no cluster
        // yet, or no longer.
        let wildcard =
            whole && (names.iter().any(|name| name == WILDCARD) || (names.is_empty() && !self.named));
        self.named |= !names.is_empty();
        names.retain(|name| name != WILDCARD);
        if first {
            self.wildcard = wildcard;
            self.add(&listed(&names), scope);
            self.begin(HashMap::new(), scope);
            return;
        }
        if wildcard != self.wildcard {
            match wildcard {
                true => self.start_wildcard(scope),
                false => self.end_wildcard(),
            }
        }
        let same = names::fingerprint(names.iter().map(String::as_str)) == self.names.fingerprint();
        if !same {
            self.replace_names(names, scope);
        }
    }

    fn replace_names(&mut self, mut names: Vec<String>, scope: Scope<'_>) {
        names.sort_unstable();
        names.dedup();
        let gone = self.names.keep_only(&names);
        if !self.wildcard {
            self.forget(&gone);
        }
        names.retain(|name| !self.names.contains(name));
        self.subscribe(&names, scope);
    }

    // === both ===

    /// Adds names as [`listed`] returns them.
    fn add(&mut self, names: &[&str], scope: Scope<'_>) {
        self.names.add(names, |name| scope.share(name));
    }

    fn start_wildcard(&mut self, scope: Scope<'_>) {
        if std::mem::replace(&mut self.wildcard, true) {
            return;
        }
        // Also with nothing to tell the whole state is an answer.
        self.owed |= self.grouping == Grouping::Whole;
        let mut pending = Vec::new();
        scope.for_each(&mut |resource| {
            if !self.names.contains(resource.name()) {
                pending.push(Pending::new(resource.name().clone(), Told::Nothing, Why::Changed));
            }
        });
        self.pending.extend(pending);
        // A client that left the wildcard and is back may still receive what was under way when it left.
        let under_way = self.unacknowledged().map(|(name, _)| {
            let told = match self.names.contains(name) {
                true => self.told(name, scope),
                false => Told::Nothing,
            };
            Pending::new(name.clone(), told, Why::Asked)
        });
        let under_way = under_way.collect();
        self.pending.extend(under_way);
    }

    fn end_wildcard(&mut self) {
        self.wildcard = false;
        let names = &self.names;
        self.pending.retain(|name| names.contains(name));
        self.rejected.retain(|name, _| names.contains(name));
    }
}

/// Names without the wildcard, sorted, each once.
fn listed(names: &[String]) -> Vec<&str> {
    let mut listed: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != WILDCARD).collect();
    listed.sort_unstable();
    listed.dedup();
    listed
}
