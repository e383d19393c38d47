// SPDX-License-Identifier: Apache-2.0
//! The names that a client has subscribed to: a sorted list, because thousands of clients hold thousands of names and
//! a hash table would be more than twice the size. The list is immutable and shared by all that hold the same names, see
//! [`NamePool`], so that a client costs a pointer.
//!
//! What must always be true: sorted, no name twice. Changes come in batches: a batch costs one pass, whatever its size.
//! Deliberately not here: going over to the names of a newer view. A list has the copies of names that were the view's
//! when it was made; should a view come with others, what the old ones take is one copy per list, not one per client.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use xxhash_rust::xxh3::xxh3_128;

mod pool;

pub use pool::NamePool;

/// Fewer names than this are not worth an entry in the pool.
const WORTH_SHARING: usize = 16;

/// Names that change together are mostly no more than this.
const HINTS: usize = 4;

/// A set of names.
#[derive(Clone, Default)]
pub(super) struct NameSet {
    /// `None`: no names.
    list: Option<Arc<List>>,
    pool: NamePool,
}

/// What all that have subscribed to the same names hold in common.
#[derive(Debug)]
struct List {
    names: Box<[Arc<str>]>,
    fingerprint: u128,
    /// Where names were found last, by [`List::hint`]: all that hold the list look for the same few after a change.
    found: [AtomicU32; HINTS],
}

/// A list that is to be, as parts of the list before it, each followed by a new name or by none.
struct Change<'a> {
    parts: Vec<(Range<usize>, Option<&'a str>)>,
    fingerprint: u128,
    len: usize,
}

// === impl NameSet ===

impl NameSet {
    /// No names. The lists that it will have are looked up in the pool.
    pub(super) fn new(pool: NamePool) -> Self {
        Self { list: None, pool }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// The same of a name that others look for as well, most of them in the same list: found where it was found last.
    pub(super) fn contains_again(&self, name: &Arc<str>) -> bool {
        self.list.as_ref().is_some_and(|list| list.contains_again(name))
    }

    /// The set's own copy of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.find(name).ok().map(|place| &self.names()[place])
    }

    pub(super) fn len(&self) -> usize {
        self.names().len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names().iter()
    }

    /// The same for the same names in any order; see [`fingerprint`].
    pub(super) fn fingerprint(&self) -> u128 {
        self.list.as_ref().map_or(0, |list| list.fingerprint)
    }

    /// Adds names, which are sorted and different from each other. `copy` makes those that no list has yet.
    pub(super) fn add(&mut self, names: &[&str], copy: impl Fn(&str) -> Arc<str>) {
        let mut change = Change::of(self);
        let mut begin = 0;
        for &name in names {
            let searched = &self.names()[begin..];
            if let Err(place) = searched.binary_search_by(|other| (**other).cmp(name)) {
                change.keep(begin..begin + place);
                change.add(name);
                begin += place;
            }
        }
        if !change.parts.is_empty() {
            change.keep(begin..self.len());
            self.apply(&change, copy);
        }
    }

    /// Removes names and returns those that were there, sorted.
    pub(super) fn remove_all<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Vec<Arc<str>> {
        let mut gone: Vec<usize> = names.into_iter().filter_map(|name| self.find(name).ok()).collect();
        gone.sort_unstable();
        gone.dedup();
        self.remove(&gone)
    }

    /// Removes all names but these, which are sorted, and returns those that went, sorted.
    pub(super) fn keep_only(&mut self, keep: &[String]) -> Vec<Arc<str>> {
        let kept = |name: &Arc<str>| keep.binary_search_by(|other| other.as_str().cmp(name)).is_ok();
        let places = self.iter().enumerate();
        let gone: Vec<usize> = places.filter(|(_, name)| !kept(name)).map(|(place, _)| place).collect();
        self.remove(&gone)
    }

    /// Removes the names at these places, which are sorted, and returns them.
    fn remove(&mut self, gone: &[usize]) -> Vec<Arc<str>> {
        if gone.is_empty() {
            return Vec::new();
        }
        let removed: Vec<Arc<str>> = gone.iter().map(|place| self.names()[*place].clone()).collect();
        let mut change = Change::of(self);
        let mut begin = 0;
        for (place, name) in gone.iter().zip(&removed) {
            change.keep(begin..*place);
            change.leave_out(name);
            begin = place + 1;
        }
        change.keep(begin..self.len());
        self.apply(&change, |name| name.into());
        removed
    }

    /// Goes over to the list that the change describes: another's, if there is one.
    fn apply(&mut self, change: &Change<'_>, copy: impl Fn(&str) -> Arc<str>) {
        let share = change.len >= WORTH_SHARING;
        let found = if share { self.pool.find(change.fingerprint) } else { None };
        let found = found.filter(|list| change.leads_to(&list.names, self.names()));
        if found.is_some() || change.len == 0 {
            self.list = found;
            return;
        }
        let list = Arc::new(change.build(self.names(), copy));
        if share {
            self.pool.publish(&list);
        }
        self.list = Some(list);
    }

    fn names(&self) -> &[Arc<str>] {
        self.list.as_ref().map_or(&[], |list| &list.names)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.names().binary_search_by(|other| (**other).cmp(name))
    }
}

impl fmt::Debug for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

// === impl List ===

impl List {
    fn new(names: Box<[Arc<str>]>, fingerprint: u128) -> Self {
        Self { names, fingerprint, found: Default::default() }
    }

    fn contains_again(&self, name: &Arc<str>) -> bool {
        let hint = self.hint(name);
        let place = hint.load(Relaxed) as usize;
        if self.names.get(place).is_some_and(|found| Arc::ptr_eq(found, name) || found == name) {
            return true;
        }
        let found = self.names.binary_search(name);
        if let Ok(place) = found.map(u32::try_from).map(Result::unwrap_or_default) {
            hint.store(place, Relaxed);
        }
        found.is_ok()
    }

    /// By the address, because that is where names that begin alike differ. Any will do; a bad one costs a search.
    fn hint(&self, name: &Arc<str>) -> &AtomicU32 {
        &self.found[(name.as_ptr().addr() >> 4) % HINTS]
    }
}

// === impl Change ===

impl<'a> Change<'a> {
    /// None yet.
    fn of(set: &NameSet) -> Self {
        Self { parts: Vec::new(), fingerprint: set.fingerprint(), len: set.len() }
    }

    /// Next comes this part of the old list.
    fn keep(&mut self, part: Range<usize>) {
        self.parts.push((part, None));
    }

    /// Next comes a new name.
    fn add(&mut self, name: &'a str) {
        if let Some((_, new)) = self.parts.last_mut() {
            *new = Some(name);
        }
        self.fingerprint = self.fingerprint.wrapping_add(fingerprint([name]));
        self.len += 1;
    }

    /// Next would have come this name of the old list.
    fn leave_out(&mut self, name: &str) {
        self.fingerprint = self.fingerprint.wrapping_sub(fingerprint([name]));
        self.len -= 1;
    }

    /// Whether the change makes `old` what `list` is.
    fn leads_to(&self, list: &[Arc<str>], old: &[Arc<str>]) -> bool {
        // Most are the very same, so that their text need not be read.
        let same = |(one, other): (&Arc<str>, &Arc<str>)| Arc::ptr_eq(one, other) || one == other;
        let mut rest = list.iter();
        list.len() == self.len
            && self.parts.iter().all(|(part, new)| {
                let kept = old[part.clone()].iter();
                kept.zip(&mut rest).all(same)
                    && new.is_none_or(|new| rest.next().is_some_and(|name| **name == *new))
            })
    }

    fn build(&self, old: &[Arc<str>], copy: impl Fn(&str) -> Arc<str>) -> List {
        let mut names = Vec::with_capacity(self.len);
        for (part, new) in &self.parts {
            names.extend_from_slice(&old[part.clone()]);
            names.extend(new.map(&copy));
        }
        List::new(names.into(), self.fingerprint)
    }
}

/// A hash of a list of names in which their order does not matter. State-of-the-world clients repeat all names with each
/// acknowledgement, in an order of their own; this tells at a glance that nothing is different.
pub(super) fn fingerprint<'a>(names: impl IntoIterator<Item = &'a str>) -> u128 {
    // Added, not combined with XOR, so that a name that is there twice makes a difference.
    names.into_iter().fold(0, |sum, name| sum.wrapping_add(xxh3_128(name.as_bytes())))
}

#[cfg(test)]
mod tests;
