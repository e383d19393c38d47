// SPDX-License-Identifier: Apache-2.0
//! `ring-hash`: the same key to the same endpoint while the endpoint has room, then to the next on the ring.
//!
//! Sources: Karger et al., "Consistent Hashing and Random Trees", STOC 1997, with virtual nodes by weight as in Envoy
//! and gRFC A42; Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018: nobody holds
//! more than [`BOUND_PERCENT`] of its fair share of what is in flight, counted with the request to be placed and
//! rounded up. Where this differs from A42: the number of virtual nodes follows from the endpoint's weight and the
//! mean weight rounded down to a power of two, not from the smallest weight and the number of endpoints. So equal
//! endpoints keep all their places when one comes or goes.
//!
//! Always true: while the mean weight stays between two powers of two, a key moves only to an endpoint that came or
//! from one that went, about 1/n of the keys; the ring depends on ids and weights, not on order or seed; what is
//! unavailable is skipped.
//!
//! What is in flight altogether is not summed for each pick. Each pick looks at `LOOKS` more endpoints in turn and
//! corrects a running total, which is therefore at most n / `LOOKS` picks old. A pick costs one look into an index
//! (no search), these looks, and the walk: measured 90 ns for 100 endpoints and 320 ns for 10 000, which no cache
//! holds. Building costs a sort of 256 to 512 virtual nodes per endpoint, a million at most: milliseconds for a
//! hundred endpoints, tens of milliseconds for thousands.
//!
//! It fails where keys are few or one key is most of the traffic: then the bound moves requests off their endpoint,
//! by design, and caches miss. With next to nothing in flight the fair share is one request, and a key's second
//! request at the same time goes elsewhere. About half of the keys move at once when the mean weight crosses a power
//! of two, or the number of endpoints about 4 096 or a double of it. The bound knows only this node's requests in
//! flight; when loads have changed faster than picks have looked (after a pause), it is that of before for n /
//! `LOOKS` picks.
//!
//! Deliberately not here: hashing of headers and addresses, which is the caller's ([`View::hash`]).

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::{
    Picker, View,
    draw::last_resort,
    hashing::{Member, key, members, placed, sequence},
};
use crate::rng::Rng;

/// How much of its fair share an endpoint may hold, unless said otherwise: the paper's c = 1 + ε with ε = 1/4.
pub const BOUND_PERCENT: u32 = 125;
/// Virtual nodes of an endpoint whose weight is the mean's power of two. Shares then deviate by about 1/√256 of
/// themselves.
const REPLICAS: u64 = 256;
/// More virtual nodes than this (4 096 equal endpoints' worth) are not laid out; each endpoint then has half as many,
/// or a quarter.
const MAX_RING: u64 = 1 << 20;
/// Endpoints looked at with each pick to keep the total up to date.
const LOOKS: usize = 4;
/// Longest walk along the ring. At the bound the expected walk is short (a few steps for ε = 1/4); after this many the
/// lightest of those met is taken.
const WALK: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct RingHash {
    /// Position on the ring (upper half) and member (lower half), ascending.
    ring: Vec<u64>,
    /// For each value of a position's upper bits, where in `ring` positions with it or a larger one begin.
    starts: Vec<u32>,
    /// By how much a position is shifted to index `starts`.
    shift: u32,
    members: Vec<Member>,
    bound_percent: u32,
    /// Of all endpoints; zero for those without a place.
    weights: Vec<u32>,
    total: Total,
}

impl RingHash {
    /// A picker over endpoints (id, weight) with the default bound.
    #[must_use]
    pub fn new(endpoints: &[(u64, u32)]) -> Self {
        Self::with_bound(endpoints, BOUND_PERCENT)
    }

    /// A picker that lets an endpoint hold `bound_percent` of its fair share. Below 100 there would not be room for
    /// all: it counts as 100. `u32::MAX` is as good as no bound.
    #[must_use]
    pub fn with_bound(endpoints: &[(u64, u32)], bound_percent: u32) -> Self {
        let members = members(endpoints);
        let ring = lay_out(&members);
        let (starts, shift) = index(&ring);
        let total = Total::new(members.len());
        let weights = placed(&members, endpoints.len());
        Self { ring, starts, shift, members, bound_percent: bound_percent.max(100), weights, total }
    }

    /// Where on the ring the walk of a key begins.
    fn start(&self, key: u64) -> usize {
        let position = key >> 32;
        let mut at = self.starts[(position >> self.shift) as usize] as usize;
        while at < self.ring.len() && self.ring[at] >> 32 < position {
            at += 1;
        }
        if at == self.ring.len() { 0 } else { at }
    }

    /// Whether a load lies below the bound. No division: load < ⌈x⌉ is load < x.
    fn has_room(&self, load: u64, weight: u32) -> bool {
        let (in_flight, weights) = self.total.read();
        let held = u128::from(load) * 100 * u128::from(weights.max(u64::from(weight)));
        held < u128::from(self.bound_percent) * (u128::from(in_flight) + 1) * u128::from(weight)
    }
}

impl Picker for RingHash {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        if self.ring.is_empty() {
            return last_resort(&self.weights, view, rng);
        }
        self.total.look(&self.members, view);
        let mut at = self.start(key(view, rng));
        let mut lightest: Option<(u64, Member)> = None;
        for _ in 0..WALK.min(self.ring.len()) {
            let place = (self.ring[at] & u64::from(u32::MAX)) as usize;
            let member = self.members[place];
            if let Some(load) = self.total.see(place, member, view) {
                if self.has_room(load, member.weight) {
                    return Some(member.index as usize);
                }
                if lightest.is_none_or(|(l, m)| lighter((load, member.weight), (l, m.weight))) {
                    lightest = Some((load, member));
                }
            }
            at = if at + 1 == self.ring.len() { 0 } else { at + 1 };
        }
        lightest.map_or_else(|| last_resort(&self.weights, view, rng), |(_, m)| Some(m.index as usize))
    }
}

fn lighter(a: (u64, u32), b: (u64, u32)) -> bool {
    u128::from(a.0) * u128::from(b.1) < u128::from(b.0) * u128::from(a.1)
}

/// The virtual nodes of all members in the order of the ring; where two share a position the lower id comes first.
fn lay_out(members: &[Member]) -> Vec<u64> {
    let total: u64 = members.iter().map(|m| u64::from(m.weight)).sum();
    if total == 0 {
        return Vec::new();
    }
    let mean = total / members.len() as u64;
    // A virtual node for each `unit` / REPLICAS of weight.
    let mut unit = 1u64 << mean.max(1).ilog2();
    while u128::from(total) * u128::from(REPLICAS) > u128::from(MAX_RING) * u128::from(unit) {
        unit *= 2;
    }
    let replicas = |m: &Member| (u64::from(m.weight) * REPLICAS / unit).max(1);
    let mut ring = Vec::with_capacity(members.iter().map(replicas).sum::<u64>() as usize);
    for (place, member) in members.iter().enumerate() {
        let mut positions = sequence(member.id);
        ring.extend((0..replicas(member)).map(|_| u64::from(positions.next_u32()) << 32 | place as u64));
    }
    ring.sort_unstable();
    ring
}

/// An index with about one entry per virtual node. Positions are even, so that a look-up walks a step or two from
/// there.
fn index(ring: &[u64]) -> (Vec<u32>, u32) {
    let bits = ring.len().max(2).ilog2().min(24);
    let shift = 32 - bits;
    let mut starts = Vec::with_capacity(1 << bits);
    let mut at = 0;
    for upper in 0..1u64 << bits {
        while at < ring.len() && ring[at] >> 32 >> shift < upper {
            at += 1;
        }
        starts.push(at as u32);
    }
    (starts, shift)
}

/// A running total of what is in flight to available endpoints, and of their weights.
#[derive(Debug)]
struct Total {
    /// What each member was last seen with, plus one; 0: unavailable or not seen yet.
    seen: Vec<AtomicU64>,
    next: AtomicUsize,
    /// Signed, because two threads may count a change in the wrong order.
    in_flight: AtomicI64,
    weights: AtomicI64,
}

impl Total {
    fn new(count: usize) -> Self {
        Self {
            seen: (0..count).map(|_| AtomicU64::new(0)).collect(),
            next: AtomicUsize::new(0),
            in_flight: AtomicI64::new(0),
            weights: AtomicI64::new(0),
        }
    }

    /// Looks at the next few members in turn.
    fn look(&self, members: &[Member], view: &dyn View) {
        let first = self.next.fetch_add(LOOKS, Relaxed);
        for step in 0..LOOKS.min(members.len()) {
            let place = first.wrapping_add(step) % members.len();
            self.see(place, members[place], view);
        }
    }

    /// The load of a member, if it is available; what has changed is counted.
    fn see(&self, place: usize, member: Member, view: &dyn View) -> Option<u64> {
        let index = member.index as usize;
        let load = view.available(index).then(|| view.in_flight(index));
        let now = load.map_or(0, |l| l.saturating_add(1));
        // A look that finds nothing new writes nothing, so that threads do not take each other's cache lines.
        if self.seen[place].load(Relaxed) != now {
            let before = self.seen[place].swap(now, Relaxed);
            let change = now.saturating_sub(1).wrapping_sub(before.saturating_sub(1));
            self.in_flight.fetch_add(change as i64, Relaxed);
            let weight = i64::from(member.weight);
            match (before, now) {
                (0, 1..) => _ = self.weights.fetch_add(weight, Relaxed),
                (1.., 0) => _ = self.weights.fetch_sub(weight, Relaxed),
                _ => {}
            }
        }
        load
    }

    fn read(&self) -> (u64, u64) {
        (self.in_flight.load(Relaxed).max(0) as u64, self.weights.load(Relaxed).max(0) as u64)
    }
}

#[cfg(test)]
#[path = "ring_hash_tests.rs"]
mod tests;
