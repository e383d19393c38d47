// SPDX-License-Identifier: Apache-2.0
//! What a request changes about a client's interest.
//!
//! Source: `xds_protocol.rst`, "How the client specifies what resources to return" and "Unsubscribing From Resources".

use std::collections::HashMap;
use std::sync::Arc;

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
                self.add(&subscribe, scope);
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
        let Self { names, pending, wildcard, .. } = self;
        let mut told = |name: &str| held.remove(name).map_or(Told::Nothing, |version| Told::held(&version));
        for name in names.iter() {
            let told = told(name);
            if told.differs(scope.get(name).as_ref(), true) {
                pending.insert(name.clone(), Pending { told, why: Why::Changed });
            }
        }
        if !*wildcard {
            return;
        }
        scope.for_each(&mut |resource| {
            let name = resource.name();
            let told = told(name);
            if !names.contains(name) && told.differs(Some(resource), false) {
                pending.insert(name.clone(), Pending { told, why: Why::Changed });
            }
        });
        // What is left is nothing that the client would be sent, so it is gone.
        for (name, version) in held {
            pending.insert(name.into(), Pending { told: Told::held(&version), why: Why::Changed });
        }
    }

    // === delta ===

    fn subscribe(&mut self, names: &[String], scope: Scope<'_>) {
        if names.iter().any(|name| name == WILDCARD) {
            self.start_wildcard(scope);
        }
        // Asking means that the client holds nothing of the name, or wants to be told again.
        for name in names.iter().filter(|name| *name != WILDCARD) {
            let told = self.told(name, scope);
            self.ask(scope.share(name), told);
        }
        self.add(names, scope);
    }

    fn unsubscribe(&mut self, names: &[String], scope: Scope<'_>) {
        if names.iter().any(|name| name == WILDCARD) {
            self.end_wildcard();
        }
        let told: Vec<_> = match self.wildcard {
            true => names.iter().map(|name| self.told(name, scope)).collect(),
            false => Vec::new(),
        };
        let told: HashMap<&str, Told> = names.iter().map(String::as_str).zip(told).collect();
        for name in self.names.remove_all(names.iter().map(String::as_str)) {
            match told.get(&*name) {
                // Only we know whether the wildcard still covers it, so tell.
                Some(told) => self.ask(name, *told),
                None => self.forget(&name),
            }
        }
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
            self.add(&names, scope);
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
        for name in self.names.keep_only(&names) {
            if !self.wildcard {
                self.forget(&name);
            }
        }
        names.retain(|name| !self.names.contains(name));
        self.subscribe(&names, scope);
    }

    // === both ===

    fn add(&mut self, names: &[String], scope: Scope<'_>) {
        let new = names.iter().filter(|name| *name != WILDCARD && !self.names.contains(name));
        let new: Vec<Arc<str>> = new.map(|name| scope.share(name)).collect();
        if !new.is_empty() {
            self.names.extend(new);
        }
    }

    fn start_wildcard(&mut self, scope: Scope<'_>) {
        if std::mem::replace(&mut self.wildcard, true) {
            return;
        }
        // Also with nothing to tell the whole state is an answer.
        self.owed |= self.grouping == Grouping::Whole;
        let Self { names, pending, .. } = self;
        scope.for_each(&mut |resource| {
            if !names.contains(resource.name()) {
                let new = Pending { told: Told::Nothing, why: Why::Changed };
                pending.insert(resource.name().clone(), new);
            }
        });
        // A client that left the wildcard and is back may still receive what was under way when it left.
        let under_way: Vec<Arc<str>> = self.unacknowledged().map(|(name, _)| name.clone()).collect();
        for name in under_way {
            let told = match self.names.contains(&name) {
                true => self.told(&name, scope),
                false => Told::Nothing,
            };
            self.ask(name, told);
        }
    }

    fn end_wildcard(&mut self) {
        self.wildcard = false;
        let names = &self.names;
        self.pending.retain(|name, _| names.contains(name));
        self.rejected.retain(|name, _| names.contains(name));
    }
}
