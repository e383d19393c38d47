// SPDX-License-Identifier: Apache-2.0
//! The names that a client has to be told of: an ordered map from a name to what it was told before.
//!
//! A first sync makes thousands of names pending for each client, so they are held in one piece of 32 bytes per name. They
//! come in batches, which are merged in one pass, and leave from the front.
//!
//! What must always be true: sorted, no name twice; memory is given back when the names have gone.
//! Deliberately not here: what may be pending, see [`super`].

use std::{collections::VecDeque, sync::Arc};

use super::{Told, Why};
use crate::{server::Difference, version::Version};

/// Unused places that are kept.
const SPARE: usize = 32;
/// So few names are not worth a pass over all.
const FEW: usize = 8;

/// One name that the client has to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) name: Arc<str>,
    /// Aside, because the most names there ever are at once have none: those of a first sync.
    version: Option<Box<Version>>,
    /// What counts where there is no version.
    told: Unversioned,
    pub(super) why: Why,
}

/// [`Told`] without versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unversioned {
    Nothing,
    Foreign,
    Missing,
}

/// Names that the client has to be told of, in their order.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Pending>);

// === impl Pending ===

impl Pending {
    pub(super) fn new(name: Arc<str>, told: Told, why: Why) -> Self {
        let (version, told) = match told {
            Told::Version(version) => (Some(Box::new(version)), Unversioned::Nothing),
            Told::Nothing => (None, Unversioned::Nothing),
            Told::Foreign => (None, Unversioned::Foreign),
            Told::Missing => (None, Unversioned::Missing),
        };
        Self { name, version, told, why }
    }

    /// What is different about a name of which the client knows what the old view said.
    pub(super) fn news(name: &Arc<str>, difference: &Difference) -> Self {
        let told = difference.old.map_or(Told::Missing, Told::Version);
        Self::new(name.clone(), told, Why::Changed)
    }

    /// What the client was told of the name.
    pub(super) fn told(&self) -> Told {
        match (&self.version, self.told) {
            (Some(version), _) => Told::Version(**version),
            (None, Unversioned::Nothing) => Told::Nothing,
            (None, Unversioned::Foreign) => Told::Foreign,
            (None, Unversioned::Missing) => Told::Missing,
        }
    }
}

// === impl Queue ===

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().map(|pending| &pending.name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Pending> {
        let place = self.0.binary_search_by(|pending| (*pending.name).cmp(name)).ok()?;
        self.0.get(place)
    }

    /// Adds names, in any order. One that is there already keeps what was told, and counts as asked for if either is.
    pub(super) fn extend(&mut self, mut new: Vec<Pending>) {
        if new.is_empty() {
            return;
        }
        if !new.is_sorted_by(|one, other| one.name < other.name) {
            // Stable, so that of equal names the first one stays.
            new.sort_by(|one, other| one.name.cmp(&other.name));
            new.dedup_by(|later, first| later.name == first.name && first.absorb(later));
        }
        if self.is_empty() {
            self.0 = new.into();
        } else {
            self.merge(new);
        }
        self.shrink();
    }

    /// Takes the first name out.
    pub(super) fn pop_first(&mut self) -> Option<Pending> {
        let first = self.0.pop_front();
        self.shrink();
        first
    }

    /// Puts back what [`Queue::pop_first`] returned.
    pub(super) fn put_back(&mut self, first: Pending) {
        debug_assert!(self.0.front().is_none_or(|next| first.name < next.name));
        self.0.push_front(first);
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|pending| keep(&pending.name));
        self.shrink();
    }

    /// Adds sorted names. A few among many are put into their places, others are merged in one pass.
    fn merge(&mut self, new: Vec<Pending>) {
        if new.len() <= FEW {
            new.into_iter().for_each(|pending| self.insert(pending));
            return;
        }
        let mut merged: VecDeque<Pending> = VecDeque::with_capacity(self.0.len() + new.len());
        let mut new = new.into_iter().peekable();
        for mut old in std::mem::take(&mut self.0) {
            while let Some(before) = new.next_if(|new| new.name < old.name) {
                merged.push_back(before);
            }
            if let Some(same) = new.next_if(|new| new.name == old.name) {
                old.absorb(&same);
            }
            merged.push_back(old);
        }
        merged.extend(new);
        self.0 = merged;
    }

    fn insert(&mut self, new: Pending) {
        match self.0.binary_search_by(|pending| pending.name.cmp(&new.name)) {
            Ok(place) => _ = self.0[place].absorb(&new),
            Err(place) => self.0.insert(place, new),
        }
    }

    fn shrink(&mut self) {
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        } else if self.0.capacity() > 2 * self.0.len() + SPARE {
            self.0.shrink_to_fit();
        }
    }
}

impl Pending {
    /// Takes over from another of the same name that it was asked for. Always true: the other one is done with.
    fn absorb(&mut self, other: &Self) -> bool {
        if other.why == Why::Asked {
            self.why = Why::Asked;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Extend(Vec<(String, Told, Why)>),
        Pop(usize),
        PopAndPutBack,
        Retain(char),
    }

    fn pending() -> impl Strategy<Value = (String, Told, Why)> {
        let told = vec![Told::Nothing, Told::Foreign, Told::Missing, Told::Version(Version::of(b"1"))];
        ("[a-e]{0,2}", select(told), select(vec![Why::Changed, Why::Asked]))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => vec(pending(), 0..40).prop_map(Step::Extend),
            4 => vec(pending(), 1..2).prop_map(Step::Extend),
            3 => (0..30usize).prop_map(Step::Pop),
            1 => Just(Step::PopAndPutBack),
            1 => (b'a'..=b'e').prop_map(|first| Step::Retain(first.into())),
        ]
    }

    fn list(queue: &Queue) -> Vec<(String, Told, Why)> {
        queue.0.iter().map(|p| (p.name.to_string(), p.told(), p.why)).collect()
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map_that_keeps_what_was_told_first(steps in vec(step(), 0..30)) {
            let mut queue = Queue::default();
            let mut model: BTreeMap<String, (Told, Why)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Extend(new) => {
                        for (name, told, why) in &new {
                            let kept = model.entry(name.clone()).or_insert((*told, *why));
                            if *why == Why::Asked {
                                kept.1 = Why::Asked;
                            }
                        }
                        let new = new.into_iter();
                        queue.extend(new.map(|(name, told, why)| Pending::new(name.into(), told, why)).collect());
                    }
                    Step::Pop(times) => for _ in 0..times {
                        let popped = queue.pop_first().map(|p| (p.name.to_string(), (p.told(), p.why)));
                        prop_assert_eq!(popped, model.pop_first());
                    }
                    Step::PopAndPutBack => if let Some(first) = queue.pop_first() {
                        queue.put_back(first);
                    }
                    Step::Retain(letter) => {
                        queue.retain(|name| !name.starts_with(letter));
                        model.retain(|name, _| !name.starts_with(letter));
                    }
                }
                let expected: Vec<_> = model.iter().map(|(name, (told, why))| (name.clone(), *told, *why)).collect();
                prop_assert_eq!(list(&queue), expected);
                for name in ["", "a", "bc", "e"] {
                    prop_assert_eq!(queue.get(name).map(|p| (p.told(), p.why)), model.get(name).copied());
                }
                prop_assert!(queue.0.capacity() <= 2 * model.len() + SPARE);
                prop_assert!(!model.is_empty() || queue.0.capacity() == 0);
            }
        }
    }

    #[test]
    fn a_name_takes_32_bytes() {
        assert_eq!(size_of::<Pending>(), 32);
    }
}
