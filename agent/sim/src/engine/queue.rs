// SPDX-License-Identifier: Apache-2.0
//! What happens next: events in order of time.
//!
//! A calendar queue (Brown, "Calendar Queues: A Fast O(1) Priority Queue Implementation for the Simulation Event Set Problem",
//! CACM 1988) with buckets that are a power of two wide. The bucket that is being worked off is kept sorted, the ones after it
//! are unsorted lists in one slab, and what lies beyond them waits in a heap. The width follows the mean gap between events.
//!
//! Always true: events come out in order of (time, what), whatever the width is, so that tuning cannot change a result; nothing
//! is pushed before the last event that was popped. Cost: O(1) per event when gaps are alike, for any number of pending
//! events; no allocation once the slab has grown to the most that were ever pending. It fails to be fast where very many
//! events fall on one instant: each push there moves its neighbours.

use std::{cmp::Reverse, collections::BinaryHeap};

const BUCKETS: u64 = 1_024;
const WORDS: usize = (BUCKETS / 64) as usize;
/// Mean gaps that a bucket is wide, before rounding down to a power of two.
const GAPS: u64 = 6;
/// Events between two looks at the width.
const TUNE_EVERY: u32 = 32_768;
/// Bits of width to start with: 65 µs.
const START_BITS: u32 = 16;
/// The widest buckets are an hour.
const MOST_BITS: u32 = 42;
/// Up to so many events are sorted by insertion.
const FEW: usize = 20;

const NONE: u32 = u32::MAX;

/// Time in the upper half, what happens in the lower: one comparison orders both.
type Event = u128;

/// After all events.
const NEVER: Event = Event::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    event: Event,
    next: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Width of a bucket, as a power of two.
    bits: u32,
    /// Number of the bucket (time >> bits) that `near` holds; the lists hold the `BUCKETS` − 1 ones after it.
    current: u64,
    /// Events of the current bucket and before, the last first.
    near: Vec<Event>,
    heads: Box<[u32; BUCKETS as usize]>,
    occupied: [u64; WORDS],
    nodes: Vec<Node>,
    free: u32,
    far: BinaryHeap<Reverse<Event>>,
    /// One event outside of all that, or `NEVER`.
    aside: Event,
    until_tuning: u32,
    tuned_at: u64,
}

fn time_of(event: Event) -> u64 {
    (event >> 64) as u64
}

fn place_of(bucket: u64) -> usize {
    (bucket % BUCKETS) as usize
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            bits: START_BITS,
            current: 0,
            near: Vec::new(),
            heads: Box::new([NONE; BUCKETS as usize]),
            occupied: [0; WORDS],
            nodes: Vec::new(),
            free: NONE,
            far: BinaryHeap::new(),
            aside: NEVER,
            until_tuning: TUNE_EVERY,
            tuned_at: 0,
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, time: u64, what: u64) {
        let (event, bucket) = (Event::from(time) << 64 | Event::from(what), time >> self.bits);
        if bucket <= self.current {
            self.near.push(event);
            sink(&mut self.near);
        } else if bucket - self.current < BUCKETS {
            self.list(bucket, event);
        } else {
            self.far.push(Reverse(event));
        }
    }

    /// As [`Self::push`], for an event that is likely to be the next, or nearly: it is kept aside, unless an earlier one is.
    #[inline]
    pub(crate) fn push_soon(&mut self, time: u64, what: u64) {
        let event = Event::from(time) << 64 | Event::from(what);
        let later = event.max(self.aside);
        self.aside = event.min(self.aside);
        if later != NEVER {
            self.push(time_of(later), later as u64);
        }
    }

    #[inline]
    fn list(&mut self, bucket: u64, event: Event) {
        let place = place_of(bucket);
        let node = Node { event, next: self.heads[place] };
        self.occupied[place / 64] |= 1 << (place % 64);
        if let Some(free) = self.nodes.get_mut(self.free as usize) {
            self.heads[place] = std::mem::replace(&mut self.free, free.next);
            *free = node;
        } else {
            self.heads[place] = self.nodes.len() as u32;
            self.nodes.push(node);
        }
    }

    /// The next event.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(u64, u64)> {
        if self.near.is_empty() {
            self.advance();
        }
        let next = self.near.last().copied().unwrap_or(NEVER);
        if self.aside < next {
            let event = std::mem::replace(&mut self.aside, NEVER);
            return Some((time_of(event), event as u64));
        }
        let event = self.near.pop()?;
        self.until_tuning -= 1;
        if self.until_tuning == 0 {
            self.tune(time_of(event));
        }
        Some((time_of(event), event as u64))
    }

    /// Makes the next bucket that holds something the current one, if there is one.
    #[inline(never)]
    fn advance(&mut self) {
        let far = self.far.peek().map(|Reverse(event)| time_of(*event) >> self.bits);
        self.current = match (self.next_occupied(), far) {
            (Some(listed), Some(far)) => listed.min(far),
            (Some(next), None) | (None, Some(next)) => next,
            (None, None) => return,
        };
        let place = place_of(self.current);
        let mut at = std::mem::replace(&mut self.heads[place], NONE);
        self.occupied[place / 64] &= !(1 << (place % 64));
        while let Some(node) = self.nodes.get_mut(at as usize) {
            self.near.push(node.event);
            let next = std::mem::replace(&mut node.next, self.free);
            self.free = std::mem::replace(&mut at, next);
        }
        if far.is_some() {
            self.bring_near();
        }
        if self.near.len() > FEW {
            self.near.sort_unstable_by_key(|event| Reverse(*event));
        } else {
            (2..=self.near.len()).for_each(|sorted| sink(&mut self.near[..sorted]));
        }
    }

    /// Takes from the heap what the buckets now reach.
    fn bring_near(&mut self) {
        while let Some(Reverse(event)) = self.far.peek().copied() {
            let bucket = time_of(event) >> self.bits;
            if bucket - self.current >= BUCKETS {
                return;
            }
            self.far.pop();
            if bucket == self.current {
                self.near.push(event);
            } else {
                self.list(bucket, event);
            }
        }
    }

    /// Number of the next bucket after the current one whose list is not empty.
    #[inline]
    fn next_occupied(&self) -> Option<u64> {
        let start = place_of(self.current + 1);
        let first = self.occupied[start / 64] >> (start % 64);
        if first != 0 {
            return Some(self.current + 1 + u64::from(first.trailing_zeros()));
        }
        // The last word looked at is the first again: its bits below the start are furthest ahead.
        let base = self.current + 1 - (start % 64) as u64;
        (1..=WORDS).find_map(|ahead| match self.occupied[(start / 64 + ahead) % WORDS] {
            0 => None,
            bits => Some(base + (ahead * 64) as u64 + u64::from(bits.trailing_zeros())),
        })
    }

    /// Makes buckets a few mean gaps wide. Only when they are off by a factor of four, because all pending events move.
    #[cold]
    fn tune(&mut self, now: u64) {
        self.until_tuning = TUNE_EVERY;
        let gap = (now - self.tuned_at) / u64::from(TUNE_EVERY);
        self.tuned_at = now;
        let bits = (gap * GAPS).max(1).ilog2().min(MOST_BITS);
        if bits.abs_diff(self.bits) < 2 {
            return;
        }
        let mut pending = std::mem::take(&mut self.near);
        for head in self.heads.iter_mut() {
            let mut at = std::mem::replace(head, NONE);
            while let Some(node) = self.nodes.get(at as usize) {
                pending.push(node.event);
                at = node.next;
            }
        }
        self.nodes.clear();
        self.free = NONE;
        self.occupied.fill(0);
        pending.extend(self.far.drain().map(|Reverse(event)| event));
        self.bits = bits;
        self.current = now >> bits;
        // The last first, so that those of the current bucket are each put at its end.
        pending.sort_unstable_by_key(|event| Reverse(*event));
        for event in pending {
            self.push(time_of(event), event as u64);
        }
    }
}

/// Moves the last of `events` to its place among the others, which are sorted, the last first.
#[inline]
fn sink(events: &mut [Event]) {
    // Moved one by one: there are few, and the library's rotation copies through memory.
    let Some(last) = events.len().checked_sub(1) else { return };
    let (event, mut place) = (events[last], last);
    while place > 0 && events[place - 1] < event {
        events[place] = events[place - 1];
        place -= 1;
    }
    events[place] = event;
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_balance::rng::{Rng, SplitMix64};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn events_come_out_in_order_whatever_their_gaps(
            seed in any::<u64>(), scale in 0u32..45, rounds in 1usize..2_000,
        ) {
            let (mut queue, mut model, mut rng) = (Queue::new(), BinaryHeap::new(), SplitMix64::new(seed));
            let mut now = 0;
            for _ in 0..rounds {
                for _ in 0..rng.below(3) {
                    // Gaps of all orders of magnitude up to the scale, and many ties.
                    let gap = rng.next_u64() >> (63 - rng.below(scale as usize + 1));
                    let event = (now + gap, rng.next_u64() % 4);
                    if rng.below(4) == 0 {
                        queue.push_soon(event.0, event.1);
                    } else {
                        queue.push(event.0, event.1);
                    }
                    model.push(Reverse(event));
                }
                let (got, want) = (queue.pop(), model.pop().map(|Reverse(e)| e));
                prop_assert_eq!(got, want);
                now = got.map_or(now, |e| e.0);
            }
            while let Some(Reverse(want)) = model.pop() {
                prop_assert_eq!(queue.pop(), Some(want));
            }
            prop_assert_eq!(queue.pop(), None);
        }
    }

    #[test]
    fn order_survives_a_change_of_pace() {
        let (mut queue, mut rng, mut last) = (Queue::new(), SplitMix64::new(1), 0);
        for what in 0..500 {
            queue.push(what, what);
        }
        for round in 0..400_000u64 {
            let (time, _) = queue.pop().expect("one for each that was pushed");
            assert!(time >= last);
            last = time;
            // From nanoseconds to seconds and back.
            let gap = if (100_000..250_000).contains(&round) { 1_000_000_000 } else { 1_000 };
            queue.push(time + rng.next_u64() % gap, round);
        }
    }
}
