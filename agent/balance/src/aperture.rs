// SPDX-License-Identifier: Apache-2.0
//! Deterministic aperture: each client talks to a bounded, contiguous share of a large set of servers, and together
//! they load all servers alike.
//!
//! Source: Twitter's "Deterministic Aperture: A distributed, load balancing algorithm" (2019) and Finagle's
//! documentation of aperture balancers; weights as in its weighted aperture. Servers lie on a ring, each as wide as
//! its weight. Client c of n starts at c / n and covers k / n of the ring, the same k for all, so that every point
//! lies in exactly k apertures. The servers at the two edges are covered in part and take part of a share. Positions
//! are exact integers (the ring is n × sum of weights long), so that nothing rounds.
//!
//! Always true, for clients that agree on n, on the servers, and each has its own ordinal:
//! * the shares of a server over all clients sum to its weight's part of the whole, exactly;
//! * with m servers of equal weight a client's aperture holds min(`least`, m) servers at least, and at most
//!   `least` + ⌈m / n⌉ + 2;
//! * one server or one client more or less, and a client gains at most 2 × ⌈m / n⌉ + 2 servers and loses at most as
//!   many.
//!
//! Servers are ordered by their mixed ids, so that the neighbours on the ring are not those of a node or a zone.
//! Building costs a sort of the servers; there is nothing to pay per pick but the picker's own cost over fewer
//! endpoints.
//!
//! It fails where clients send unequal traffic: each server gets its share of each client, and loud clients lie
//! somewhere on the ring. While clients disagree on n, or two have one ordinal, coverage is uneven until they agree.
//! With few clients each has nearly all servers: 3 clients of 1 000 servers cannot have 12 each and leave nobody out.
//! Weights of a power-of-two choice at a fractional edge are honoured only approximately with very few servers: keep
//! `least` at 4 or more, as Finagle does. Servers of very unequal weight: the count of an aperture is bounded on
//! average only.
//!
//! Deliberately not here: how a client learns its ordinal ([`ordinal`] gives it from a list that all share), and
//! widening under load.

use crate::{alias::WHOLE, rng::mix};

/// Finagle's default: enough for power of two choices to honour the weights at the edges.
pub const LEAST: usize = 12;

/// Why there is no aperture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client {ordinal} of {clients} has no place on the ring: ordinals count from zero")]
pub struct NoPlace {
    /// What was given as this client's ordinal.
    pub ordinal: u32,
    /// How many clients there are.
    pub clients: u32,
}

/// A client's place among all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    ordinal: u32,
    clients: u32,
}

impl Place {
    /// Client `ordinal` (from zero) of `clients`.
    ///
    /// # Errors
    /// When there is no such client.
    pub const fn new(ordinal: u32, clients: u32) -> Result<Self, NoPlace> {
        if ordinal < clients { Ok(Self { ordinal, clients }) } else { Err(NoPlace { ordinal, clients }) }
    }
}

/// The place of client `own` in a list of client ids that all clients share, in any order. `None` when it is not
/// listed. An id that is listed twice counts once.
#[must_use]
pub fn ordinal(own: u64, clients: &[u64]) -> Option<Place> {
    let mut mixed: Vec<u64> = clients.iter().map(|id| mix(*id)).collect();
    mixed.sort_unstable();
    mixed.dedup();
    let ordinal = mixed.binary_search(&mix(own)).ok()?;
    Place::new(ordinal as u32, mixed.len() as u32).ok()
}

/// A server in the aperture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Index in the list given.
    pub server: usize,
    /// Length of the ring that this client covers of it. One unit is one of weight over the number of clients.
    pub length: u128,
}

/// What one client talks to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aperture {
    /// In the order of the ring.
    pub shares: Vec<Share>,
}

impl Aperture {
    /// The aperture of the client at `place` over servers (id, weight), with at least `least` servers if there are as
    /// many. A server of weight zero is in nobody's aperture unless all weights are zero: then all count alike. Of
    /// servers with one id only the first listed has a place.
    #[must_use]
    pub fn new(place: Place, servers: &[(u64, u32)], least: usize) -> Self {
        let ring = Ring::new(servers);
        if ring.servers.is_empty() {
            return Self::default();
        }
        let clients = u128::from(place.clients);
        // In units of one client's step: wide enough for `least` servers of mean weight, and no wider than the ring.
        let steps = (least.max(1) as u128 * clients).div_ceil(ring.servers.len() as u128).min(clients);
        let start = u128::from(place.ordinal) * ring.weight;
        let end = start + steps * ring.weight;
        let length = clients * ring.weight;
        // What lies beyond the end of the ring is its beginning.
        let beyond = end.saturating_sub(length);
        let mut head = Vec::new();
        ring.cover(clients, start, end.min(length), &mut head);
        let mut tail = Vec::new();
        ring.cover(clients, 0, beyond, &mut tail);
        Self { shares: join(head, tail) }
    }

    /// Weights for a picker over [`Self::shares`], in the same order: in proportion to the lengths, the largest is 65
    /// 536, none is zero.
    #[must_use]
    pub fn weights(&self) -> Vec<u32> {
        let longest = self.shares.iter().map(|s| s.length).max().unwrap_or(1);
        let scaled = |s: &Share| (s.length * u128::from(WHOLE) + longest / 2) / longest;
        self.shares.iter().map(|s| scaled(s).max(1) as u32).collect()
    }
}

/// Servers in the order of the ring.
struct Ring {
    /// Index in the list given, and weight.
    servers: Vec<(usize, u32)>,
    weight: u128,
}

impl Ring {
    fn new(servers: &[(u64, u32)]) -> Self {
        let all_zero = servers.iter().all(|(_, weight)| *weight == 0);
        let mut placed: Vec<(u64, usize, u32)> = servers
            .iter()
            .enumerate()
            .map(|(i, (id, weight))| (mix(*id), i, if all_zero { 1 } else { *weight }))
            .collect();
        placed.sort_unstable();
        placed.dedup_by_key(|(id, ..)| *id);
        let servers: Vec<_> =
            placed.into_iter().map(|(_, i, weight)| (i, weight)).filter(|(_, weight)| *weight > 0).collect();
        let weight = servers.iter().map(|(_, weight)| u128::from(*weight)).sum();
        Self { servers, weight }
    }

    /// What lies between two points of a ring on which one of weight is `clients` long.
    fn cover(&self, clients: u128, from: u128, to: u128, shares: &mut Vec<Share>) {
        let mut at = 0;
        for (server, weight) in &self.servers {
            let next = at + u128::from(*weight) * clients;
            if next > from && at < to {
                shares.push(Share { server: *server, length: next.min(to) - at.max(from) });
            }
            at = next;
        }
    }
}

/// One list of both: a server that a nearly full circle ends in where it began has one share.
fn join(head: Vec<Share>, mut tail: Vec<Share>) -> Vec<Share> {
    let mut shares = head;
    if let (Some(first), Some(last)) = (shares.first_mut(), tail.last())
        && first.server == last.server
    {
        first.length += last.length;
        tail.pop();
    }
    shares.append(&mut tail);
    shares
}

#[cfg(test)]
#[path = "aperture_tests.rs"]
mod tests;
