// SPDX-License-Identifier: Apache-2.0
//! Free places of the arrays: ranges of slots, single backends.

use std::collections::BTreeMap;

/// Free ranges, merged with their neighbours; the first that fits is taken.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    /// Base to length.
    free: BTreeMap<u32, u32>,
}

impl Ranges {
    /// All of `first..end` is free.
    pub(super) fn new(first: u32, end: u32) -> Self {
        let mut ranges = Self { free: BTreeMap::new() };
        ranges.release(first, end.saturating_sub(first));
        ranges
    }

    /// Takes `length` places in a row.
    pub(super) fn take(&mut self, length: u32) -> Option<u32> {
        if length == 0 {
            return Some(0);
        }
        let (base, room) = self.free.iter().find(|(_, room)| **room >= length).map(|(b, r)| (*b, *r))?;
        self.free.remove(&base);
        if room > length {
            self.free.insert(base + length, room - length);
        }
        Some(base)
    }

    /// Takes exactly `base..base + length`. `false`, and nothing taken, when some of it is not free.
    pub(super) fn take_at(&mut self, base: u32, length: u32) -> bool {
        if length == 0 {
            return true;
        }
        let Some((start, room)) = self.free.range(..=base).next_back().map(|(s, r)| (*s, *r)) else {
            return false;
        };
        let (end, wanted) = (u64::from(start) + u64::from(room), u64::from(base) + u64::from(length));
        if wanted > end {
            return false;
        }
        self.free.remove(&start);
        self.release(start, base - start);
        self.release(base + length, (end - wanted) as u32);
        true
    }

    /// Gives a range back.
    pub(super) fn release(&mut self, base: u32, length: u32) {
        if length == 0 {
            return;
        }
        let (mut base, mut length) = (base, length);
        if let Some((before, room)) = self.free.range(..base).next_back().map(|(b, r)| (*b, *r))
            && before + room == base
        {
            self.free.remove(&before);
            (base, length) = (before, length + room);
        }
        if let Some(room) = self.free.remove(&(base + length)) {
            length += room;
        }
        self.free.insert(base, length);
    }

    /// Free places in all.
    pub(super) fn room(&self) -> u64 {
        self.free.values().map(|r| u64::from(*r)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_never_overlap_and_all_come_back(sizes in prop::collection::vec((1u32..20, any::<bool>()), 1..200)) {
            let mut ranges = Ranges::new(1, 500);
            let mut held: Vec<(u32, u32)> = Vec::new();
            for (size, give) in sizes {
                if give && !held.is_empty() {
                    let (base, length) = held.swap_remove(size as usize % held.len());
                    ranges.release(base, length);
                } else if let Some(base) = ranges.take(size) {
                    prop_assert!(base >= 1 && base + size <= 500);
                    prop_assert!(held.iter().all(|(b, l)| base + size <= *b || b + l <= base));
                    held.push((base, size));
                }
                let used: u64 = held.iter().map(|(_, l)| u64::from(*l)).sum();
                prop_assert_eq!(ranges.room() + used, 499);
            }
            for (base, length) in held {
                ranges.release(base, length);
            }
            prop_assert_eq!(ranges.free, BTreeMap::from([(1, 499)]));
        }
    }

    #[test]
    fn a_named_range_is_taken_once() {
        let mut ranges = Ranges::new(0, 10);
        assert!(ranges.take_at(3, 4));
        assert!(!ranges.take_at(6, 2));
        assert!(!ranges.take_at(8, 3));
        assert!(ranges.take_at(7, 3));
        assert_eq!(ranges.take(3), Some(0));
        assert_eq!(ranges.take(1), None);
    }
}
