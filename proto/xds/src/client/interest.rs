// SPDX-License-Identifier: Apache-2.0
//! Which resources of a type a client wants.
//!
//! What must always be true: an empty set of names is never sent as a first request, where it would mean everything
//! (the legacy wildcard).
//! Deliberately not here: a wildcard and names at the same time; the wildcard covers them.

use std::collections::BTreeSet;

use crate::server::WILDCARD;

/// Which resources of a type a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// All that the server thinks fit for this client.
    Wildcard,
    /// Exactly these.
    Names(BTreeSet<String>),
}

impl Interest {
    /// Whether a resource of this name is wanted.
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::Wildcard => true,
            Self::Names(names) => names.contains(name),
        }
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Names(names) if names.is_empty())
    }

    /// The names to subscribe to.
    pub(super) fn subscribe(&self) -> Vec<String> {
        match self {
            Self::Wildcard => vec![WILDCARD.to_owned()],
            Self::Names(names) => names.iter().cloned().collect(),
        }
    }

    /// What to subscribe to and to unsubscribe from to get from here to `next`.
    pub(super) fn difference(&self, next: &Self) -> (Vec<String>, Vec<String>) {
        match (self, next) {
            (Self::Wildcard, Self::Wildcard) => (Vec::new(), Vec::new()),
            (Self::Names(old), Self::Names(new)) => {
                (new.difference(old).cloned().collect(), old.difference(new).cloned().collect())
            }
            _ => (next.subscribe(), self.subscribe()),
        }
    }
}

impl Default for Interest {
    fn default() -> Self {
        Self::Names(BTreeSet::new())
    }
}
