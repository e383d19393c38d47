// SPDX-License-Identifier: Apache-2.0
//! `maglev`: the same key to the same endpoint, by one look into a table in which shares are as even as weights say.
//!
//! Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4:
//! each endpoint walks the table in an order of its own, and endpoints take turns to claim the next free entry of
//! their order. Weights as in Envoy: a heavier endpoint has more turns. Turn k of weight w is due at (2k + 1) / 2w,
//! so that an endpoint's entries are within one of its exact share.
//!
//! Always true: the table depends on ids and weights, not on order or seed; every endpoint with a place has an entry
//! when the table has room; a key whose endpoint is unavailable is hashed on, so that the keys of a lost endpoint
//! spread over all others and come back to it.
//!
//! A pick costs one read of the table. Building costs about m ln m steps for m entries (and a sort of them when
//! weights differ): a few milliseconds for 65 537 entries, tens of milliseconds for 655 373. When one of n endpoints
//! comes or goes, 1/n of the keys must move; a few more do: fewer the larger the table is against n.
//!
//! It fails where a key is most of the traffic: nothing bounds an endpoint's load (that is `ring-hash`). When the
//! number of endpoints crosses 4 096 or 40 960 the default table changes size, and nearly all keys move.

use super::{
    Picker, View,
    draw::last_resort,
    hashing::{Member, key, members, placed, sequence},
};
use crate::rng::{Rng, mix};

/// Table sizes by default: the least of these with [`ENTRIES`] entries per endpoint, so that shares of equal
/// endpoints differ by one in sixteen at most. Both of the paper's, and Envoy's largest.
const SIZES: [u32; 3] = [65_537, 655_373, MAX_SIZE];
/// Largest table, as in Envoy: 20 MB.
pub const MAX_SIZE: u32 = 5_000_011;
/// See [`SIZES`].
const ENTRIES: usize = 16;
/// How often a key is hashed on before a linear search takes over.
const REHASHES: usize = 8;

/// Why a table cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Walks would not reach every entry.
    #[error("a Maglev table needs a prime number of entries, and {size} is not prime")]
    NotPrime {
        /// What was asked for.
        size: u32,
    },
    /// More entries than [`MAX_SIZE`].
    #[error("a Maglev table of {size} entries is too large: at most {MAX_SIZE}")]
    TooLarge {
        /// What was asked for.
        size: u32,
    },
    /// Somebody would have no entry.
    #[error("a Maglev table of {size} entries is too small for {endpoints} endpoints")]
    TooSmall {
        /// What was asked for.
        size: u32,
        /// How many endpoints have a place.
        endpoints: usize,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Maglev {
    /// Indices of endpoints.
    table: Vec<u32>,
    /// Of all endpoints; zero for those without a place.
    weights: Vec<u32>,
}

impl Maglev {
    /// A picker over endpoints (id, weight), with a table size by their number.
    #[must_use]
    pub fn new(endpoints: &[(u64, u32)]) -> Self {
        let members = members(endpoints);
        let fits = |size: &&u32| **size as usize >= members.len().saturating_mul(ENTRIES);
        let size = SIZES.iter().find(fits).unwrap_or(&SIZES[SIZES.len() - 1]);
        Self { table: fill(&members, *size), weights: placed(&members, endpoints.len()) }
    }

    /// A picker with a table of `size` entries.
    ///
    /// # Errors
    /// When `size` is not prime, above [`MAX_SIZE`], or less than the number of endpoints that have a place.
    pub fn with_size(endpoints: &[(u64, u32)], size: u32) -> Result<Self, SizeError> {
        if size > MAX_SIZE {
            return Err(SizeError::TooLarge { size });
        }
        if !is_prime(size) {
            return Err(SizeError::NotPrime { size });
        }
        let members = members(endpoints);
        if (size as usize) < members.len() {
            return Err(SizeError::TooSmall { size, endpoints: members.len() });
        }
        Ok(Self { table: fill(&members, size), weights: placed(&members, endpoints.len()) })
    }

    fn at(&self, key: u64) -> usize {
        self.table[((u128::from(key) * self.table.len() as u128) >> 64) as usize] as usize
    }
}

impl Picker for Maglev {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        if self.table.is_empty() {
            return last_resort(&self.weights, view, rng);
        }
        let mut key = key(view, rng);
        for _ in 0..=REHASHES {
            let picked = self.at(key);
            if view.available(picked) {
                return Some(picked);
            }
            key = mix(key);
        }
        last_resort(&self.weights, view, rng)
    }
}

/// An endpoint's walk over the table: every entry once, because the size is prime.
struct Walk {
    at: u64,
    step: u64,
}

impl Walk {
    fn new(id: u64, size: u64) -> Self {
        let mut numbers = sequence(id);
        Self { at: numbers.next_u64() % size, step: numbers.next_u64() % (size - 1) + 1 }
    }

    /// Claims the next free entry of the walk. There is one.
    fn claim(&mut self, taken: &mut [u64], size: u64) -> usize {
        loop {
            let entry = self.at as usize;
            self.at += self.step;
            if self.at >= size {
                self.at -= size;
            }
            let (word, bit) = (&mut taken[entry / 64], 1 << (entry % 64));
            if *word & bit == 0 {
                *word |= bit;
                return entry;
            }
        }
    }
}

fn fill(members: &[Member], size: u32) -> Vec<u32> {
    if members.is_empty() {
        return Vec::new();
    }
    let mut table = vec![0; size as usize];
    // Bits, because most looks find an entry taken: these stay in the cache where the table does not.
    let mut taken = vec![0; table.len().div_ceil(64)];
    let mut walks: Vec<Walk> = members.iter().map(|m| Walk::new(m.id, u64::from(size))).collect();
    let mut claim = |place: usize| {
        let entry = walks[place].claim(&mut taken, u64::from(size));
        table[entry] = members[place].index;
    };
    let size = size as usize;
    if members.windows(2).all(|w| w[0].weight == w[1].weight) {
        (0..size).for_each(|turn| claim(turn % members.len()));
        return table;
    }
    // Everybody has a first turn, however light: 1 entry rather than none.
    let first = members.len().min(size);
    (0..first).for_each(&mut claim);
    further_turns(&members[..first], size).take(size - first).for_each(claim);
    table
}

/// Whose turn is next, after each had one: at least as many as are left.
fn further_turns(members: &[Member], size: usize) -> impl Iterator<Item = usize> {
    /// The table as a whole, in units of time. With a place of 23 bits a turn fits into a word, which sorts fast.
    const WHOLE: u128 = 1 << 40;
    const PLACE: u32 = MAX_SIZE.ilog2() + 1;
    let total: u128 = members.iter().map(|m| u128::from(m.weight)).sum();
    let mut turns = Vec::with_capacity(size + members.len());
    for (place, member) in members.iter().enumerate() {
        let part = u128::from(member.weight) * size as u128;
        // Turns of the very light are due after all is over; when exactly does not matter.
        let every = (total * WHOLE / part).min(WHOLE) as u64;
        let due = |turn: u64| (turn * every + every / 2).min(2 * WHOLE as u64 - 1);
        turns.extend((1..=(part / total) as u64 + 1).map(|turn| due(turn) << PLACE | place as u64));
    }
    turns.sort_unstable();
    turns.into_iter().map(|turn| (turn & ((1 << PLACE) - 1)) as usize)
}

fn is_prime(size: u32) -> bool {
    size >= 2
        && (2..)
            .take_while(|d| u64::from(*d) * u64::from(*d) <= u64::from(size))
            .all(|d| !size.is_multiple_of(d))
}

#[cfg(test)]
#[path = "maglev_tests.rs"]
mod tests;
