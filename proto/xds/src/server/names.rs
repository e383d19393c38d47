// SPDX-License-Identifier: Apache-2.0
//! The names that a client has subscribed to: a sorted list, because thousands of clients hold thousands of names and
//! a hash table would be more than twice the size.
//!
//! What must always be true: sorted, no name twice. Changes come in batches: a batch costs one pass, whatever its size.

use std::{collections::BTreeSet, sync::Arc};

use xxhash_rust::xxh3::xxh3_128;

/// Unused places that are kept. Lists mostly grow when a client starts.
const SPARE: usize = 16;

/// A set of names.
#[derive(Debug, Default)]
pub(super) struct NameSet(Vec<Arc<str>>);

impl NameSet {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter()
    }

    /// Adds names. Those that are there already keep their place in memory.
    pub(super) fn extend(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        self.0.extend(names);
        // Stable, so that of equal names the older one stays.
        self.0.sort();
        self.0.dedup();
        self.shrink();
    }

    /// Removes names and returns those that were there.
    pub(super) fn remove_all<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Vec<Arc<str>> {
        let gone: BTreeSet<usize> = names.into_iter().filter_map(|name| self.find(name).ok()).collect();
        self.remove_places(&gone)
    }

    /// Removes all names but these, which are sorted, and returns those that went.
    pub(super) fn keep_only(&mut self, keep: &[String]) -> Vec<Arc<str>> {
        let kept = |name: &Arc<str>| keep.binary_search_by(|other| other.as_str().cmp(name)).is_ok();
        let places = self.0.iter().enumerate();
        let gone: BTreeSet<usize> = places.filter(|(_, name)| !kept(name)).map(|(place, _)| place).collect();
        self.remove_places(&gone)
    }

    /// Replaces a name by an equal one that is shared with others.
    pub(super) fn share(&mut self, name: &Arc<str>) {
        if let Ok(place) = self.find(name) {
            self.0[place] = name.clone();
        }
    }

    /// The same for the same names in any order; see [`fingerprint`].
    pub(super) fn fingerprint(&self) -> u128 {
        fingerprint(self.0.iter().map(|name| &**name))
    }

    fn remove_places(&mut self, gone: &BTreeSet<usize>) -> Vec<Arc<str>> {
        if gone.is_empty() {
            return Vec::new();
        }
        let removed = gone.iter().map(|place| self.0[*place].clone()).collect();
        let mut place = 0..;
        self.0.retain(|_| place.next().is_some_and(|place| !gone.contains(&place)));
        self.shrink();
        removed
    }

    fn shrink(&mut self) {
        if self.0.capacity() > self.0.len() + SPARE {
            self.0.shrink_to_fit();
        }
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|other| (**other).cmp(name))
    }
}

/// A hash of a list of names in which their order does not matter. State-of-the-world clients repeat all names with each
/// acknowledgement, in an order of their own; this tells at a glance that nothing is different.
pub(super) fn fingerprint<'a>(names: impl IntoIterator<Item = &'a str>) -> u128 {
    // Added, not combined with XOR, so that a name that is there twice makes a difference.
    names.into_iter().fold(0, |sum, name| sum.wrapping_add(xxh3_128(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> NameSet {
        let mut set = NameSet::default();
        set.extend(names.iter().map(|name| Arc::from(*name)));
        set
    }

    fn list(set: &NameSet) -> Vec<&str> {
        set.iter().map(|name| &**name).collect()
    }

    #[test]
    fn names_are_held_once_and_in_order() {
        let set = set(&["b", "a", "c", "a"]);
        assert_eq!(list(&set), ["a", "b", "c"]);
        assert!(set.contains("b") && !set.contains("bb"));
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn what_is_removed_is_returned_and_phantoms_are_not() {
        let mut names = set(&["a", "b", "c", "d"]);
        let gone = names.remove_all(["d", "zz", "b", "b"]);
        assert_eq!(gone.iter().map(|name| &**name).collect::<Vec<_>>(), ["b", "d"]);
        let gone = names.keep_only(&["0".into(), "c".into()]);
        assert_eq!(gone.iter().map(|name| &**name).collect::<Vec<_>>(), ["a"]);
        assert_eq!(list(&names), ["c"]);
    }

    #[test]
    fn a_fingerprint_ignores_order_and_notices_everything_else() {
        let names = set(&["a", "b", "c"]);
        assert_eq!(names.fingerprint(), fingerprint(["c", "a", "b"]));
        for other in [&["a", "b"][..], &["a", "b", "d"], &["a", "b", "c", "c"], &[]] {
            assert_ne!(names.fingerprint(), fingerprint(other.iter().copied()));
        }
    }

    #[test]
    fn an_equal_name_can_be_shared_instead() {
        let mut names = set(&["a"]);
        let shared: Arc<str> = "a".into();
        names.share(&shared);
        assert!(Arc::ptr_eq(names.iter().next().unwrap(), &shared));
    }
}
