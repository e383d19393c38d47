// SPDX-License-Identifier: Apache-2.0
//! Subsets: the endpoints whose label has the value that a request names, and what to do when there are none.
//!
//! Source: Envoy's subset load balancer ("Load Balancer Subsets" in its documentation, `lb_subset_config`) with one
//! selector of one key, and its three fallback policies under the same names. As there, the fallback decides when a
//! request names no value and when no endpoint has it, and an empty default subset is as good as no fallback.
//!
//! Always true: an endpoint is in at most one subset, that of its value; the empty value is a value, and no label is
//! none; the answer says which rule gave it. A look-up is a binary search over the values and does not allocate.
//!
//! It fails where values are many and their endpoints few: each subset is balanced on its own, and one with a single
//! endpoint not at all. A subset whose endpoints are all unavailable is still the subset: falling back on health
//! would send a shard's requests to those who do not have the shard.
//!
//! Deliberately not here: several keys, and who reads the labels. A picker for a subset is built over its members;
//! [`Within`] lets it see them.

use std::collections::BTreeMap;

use crate::picker::{Probe, View};

/// What serves a request that names no value, or one that no endpoint has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Nobody: the request fails. Envoy's `NO_FALLBACK` and its default.
    #[default]
    NoFallback,
    /// Any endpoint, also those without the label. `ANY_ENDPOINT`.
    AnyEndpoint,
    /// The endpoints of this value. `DEFAULT_SUBSET`.
    DefaultSubset(String),
}

/// Which rule gave the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Endpoints have the value.
    Matched,
    /// Nobody has it: any endpoint.
    AnyEndpoint,
    /// Nobody has it: those of the default value.
    DefaultSubset,
    /// Nobody has it, and nobody stands in.
    NoSubset,
}

impl Reason {
    /// The code shown to users.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Matched => "subset-matched",
            Self::AnyEndpoint => "subset-any-endpoint",
            Self::DefaultSubset => "subset-default",
            Self::NoSubset => "subset-none",
        }
    }
}

/// Who may serve a request, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    /// Which of [`Subsets::iter`]: where the caller keeps this subset's picker. `None` for all endpoints and for
    /// nobody.
    pub subset: Option<usize>,
    /// Indices of endpoints, ascending.
    pub members: &'a [usize],
    /// See [`Reason`].
    pub reason: Reason,
}

/// Endpoints by the value of their label.
#[derive(Clone, Debug)]
pub struct Subsets {
    /// By ascending value.
    subsets: Vec<(Box<str>, Vec<usize>)>,
    all: Vec<usize>,
    fallback: Fallback,
}

impl Subsets {
    /// Groups endpoints by the value of their label, in the order of their indices. `None`: the endpoint has no such
    /// label.
    #[must_use]
    pub fn new<'a>(labels: impl IntoIterator<Item = Option<&'a str>>, fallback: Fallback) -> Self {
        let (mut by_value, mut count) = (BTreeMap::<&str, Vec<usize>>::new(), 0);
        for label in labels {
            if let Some(value) = label {
                by_value.entry(value).or_default().push(count);
            }
            count += 1;
        }
        let subsets = by_value.into_iter().map(|(value, members)| (value.into(), members)).collect();
        Self { subsets, all: (0..count).collect(), fallback }
    }

    /// Who may serve a request that names `value`, or no value.
    #[must_use]
    pub fn select(&self, value: Option<&str>) -> Selection<'_> {
        let named = value.and_then(|value| self.find(value, Reason::Matched));
        named.unwrap_or_else(|| match &self.fallback {
            Fallback::AnyEndpoint if !self.all.is_empty() => {
                Selection { subset: None, members: &self.all, reason: Reason::AnyEndpoint }
            }
            Fallback::DefaultSubset(value) => {
                self.find(value, Reason::DefaultSubset).unwrap_or(Selection::NOBODY)
            }
            Fallback::AnyEndpoint | Fallback::NoFallback => Selection::NOBODY,
        })
    }

    /// Values with their endpoints, by ascending value.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.subsets.iter().map(|(value, members)| (&**value, members.as_slice()))
    }

    fn find(&self, value: &str, reason: Reason) -> Option<Selection<'_>> {
        let at = self.subsets.binary_search_by(|(v, _)| (**v).cmp(value)).ok()?;
        Some(Selection { subset: Some(at), members: &self.subsets[at].1, reason })
    }
}

impl Selection<'_> {
    const NOBODY: Self = Self { subset: None, members: &[], reason: Reason::NoSubset };
}

/// A view of the members of a subset, for a picker that was built over them: its endpoint i is member i.
#[derive(Clone, Copy)]
pub struct Within<'a> {
    /// The view of all endpoints.
    pub view: &'a dyn View,
    /// Indices of the members in it.
    pub members: &'a [usize],
}

impl View for Within<'_> {
    fn in_flight(&self, endpoint: usize) -> u64 {
        self.view.in_flight(self.members[endpoint])
    }

    fn available(&self, endpoint: usize) -> bool {
        self.view.available(self.members[endpoint])
    }

    fn latency(&self, endpoint: usize) -> Option<f64> {
        self.view.latency(self.members[endpoint])
    }

    fn probe(&self, endpoint: usize) -> Option<Probe> {
        self.view.probe(self.members[endpoint])
    }

    fn hash(&self) -> Option<u64> {
        self.view.hash()
    }
}

#[cfg(test)]
#[path = "subset_tests.rs"]
mod tests;
