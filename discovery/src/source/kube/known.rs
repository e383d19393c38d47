// SPDX-License-Identifier: Apache-2.0
//! Which objects of one kind have been told, so that a list that is read again tells only what differs.
//!
//! Keys and a hash of the version, no contents: a resync costs no second copy of anything. What must always be true: an
//! object is reported gone only at the end of a complete round that did not show it. Pure.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::source::ObjectKey;

/// The objects of one kind.
#[derive(Debug, Default)]
pub(super) struct Known {
    objects: HashMap<ObjectKey, Entry>,
    round: u32,
    hasher: RandomState,
}

/// What is remembered of one object.
#[derive(Clone, Copy, Debug)]
struct Entry {
    version: u64,
    round: u32,
    faulty: bool,
}

/// What is new about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// This version has not been told yet.
    pub(super) changed: bool,
    /// The version before could not be read.
    pub(super) was_faulty: bool,
}

impl Known {
    /// A list begins. A round that breaks off is simply begun again.
    pub(super) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// An object is there. `faulty`: this version of it cannot be read.
    pub(super) fn saw(&mut self, key: &ObjectKey, uid: &str, version: &str, faulty: bool) -> Seen {
        let version = self.hasher.hash_one((uid, version));
        let entry = Entry { version, round: self.round, faulty };
        match self.objects.get_mut(key) {
            Some(held) => {
                let seen = Seen { changed: held.version != version, was_faulty: held.faulty };
                *held = entry;
                seen
            }
            None => {
                self.objects.insert(key.clone(), entry);
                Seen { changed: true, was_faulty: false }
            }
        }
    }

    /// An object is gone. `Some(faulty)` if it was there.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<bool> {
        self.objects.remove(key).map(|entry| entry.faulty)
    }

    /// A list is complete: those that it did not show, and whether they were faulty.
    pub(super) fn end(&mut self) -> Vec<(ObjectKey, bool)> {
        let round = self.round;
        self.take(|entry| entry.round != round)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> Vec<(ObjectKey, bool)> {
        self.take(|_| true)
    }

    fn take(&mut self, gone: impl Fn(&Entry) -> bool) -> Vec<(ObjectKey, bool)> {
        let taken = self.objects.extract_if(|_, entry| gone(entry));
        let mut taken: Vec<_> = taken.map(|(key, entry)| (key, entry.faulty)).collect();
        taken.sort();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("demo", name)
    }

    #[test]
    fn a_list_read_again_tells_only_what_differs_and_what_is_gone() {
        let mut known = Known::default();
        known.begin();
        for name in ["a", "b", "c"] {
            assert!(known.saw(&key(name), "uid", "1", false).changed);
        }
        assert_eq!(known.end(), []);
        known.begin();
        assert!(!known.saw(&key("a"), "uid", "1", false).changed);
        assert!(known.saw(&key("b"), "uid", "2", false).changed);
        assert_eq!(known.end(), [(key("c"), false)]);
    }

    #[test]
    fn an_object_made_anew_under_the_same_name_is_another_one() {
        let mut known = Known::default();
        known.saw(&key("a"), "first", "1", false);
        assert!(known.saw(&key("a"), "second", "1", false).changed);
    }

    #[test]
    fn a_round_that_breaks_off_deletes_nothing() {
        let mut known = Known::default();
        known.begin();
        known.saw(&key("a"), "uid", "1", false);
        known.saw(&key("b"), "uid", "1", true);
        known.begin();
        known.saw(&key("a"), "uid", "1", false);
        known.begin();
        assert_eq!(known.saw(&key("b"), "uid", "2", false), Seen { changed: true, was_faulty: true });
        known.saw(&key("a"), "uid", "1", false);
        assert_eq!(known.end(), []);
    }
}
