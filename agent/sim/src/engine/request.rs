// SPDX-License-Identifier: Apache-2.0
//! Requests on their way: a slab, so that a request costs no allocation and memory follows the most that ever were under way.
//!
//! Always true: a slot is free, or its request is at exactly one place ([`At`]); at most one pending event carries the
//! slot's current generation. Events of an older generation are stale and are dropped. A request whose client has gone
//! (`!LIVE`) keeps its slot until the server is through with it.

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

/// Generations go round after so many; an event does not stay pending for that long.
pub(crate) const GENERATIONS: u32 = 1 << 26;

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Free,
    ToServer,
    Waiting,
    Serving,
    ToClient,
    /// In a lost zone: nothing comes back.
    Hung,
}

/// The client still waits for it.
pub(crate) const LIVE: u8 = 1;
/// Its answer is an error.
pub(crate) const FAILED: u8 = 2;
/// It was not begun: safe to send elsewhere.
pub(crate) const REFUSED: u8 = 4;
/// It arrived after the warm-up.
pub(crate) const MEASURED: u8 = 8;
/// It will fail slowly.
pub(crate) const SLOW: u8 = 16;
/// It counts as in flight in what its agent knows.
pub(crate) const COUNTED: u8 = 32;

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Request {
    /// When its client sent it first.
    pub(crate) born: u64,
    /// When it was sent to the present server.
    pub(crate) sent: u64,
    /// All that is random about it: the same request needs the same work under any policy.
    pub(crate) seed: u64,
    /// Pauses of the server that its completion has taken into account.
    pub(crate) seen_pause: u64,
    pub(crate) cost: f32,
    pub(crate) server: u32,
    pub(crate) client: u32,
    /// What it is bound to, if to anything: per request the key that it is pinned by, per connection its connection.
    pub(crate) bound: u32,
    /// The one behind it in the server's queue.
    pub(crate) next: u32,
    pub(crate) generation: u32,
    /// Requests in the server when it came, itself included.
    pub(crate) load: u32,
    pub(crate) at: At,
    pub(crate) flags: u8,
    /// How often it was sent before.
    pub(crate) tries: u8,
}

const _: () = assert!(size_of::<Request>() == 64);

impl Request {
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    slots: Vec<Request>,
    free: Vec<u32>,
}

impl Slab {
    #[inline(always)]
    pub(crate) fn insert(&mut self, mut request: Request) -> u32 {
        if let Some(slot) = self.free.pop() {
            request.generation = self.slots[slot as usize].generation;
            self.slots[slot as usize] = request;
            return slot;
        }
        self.slots.push(request);
        self.slots.len() as u32 - 1
    }

    #[inline]
    pub(crate) fn get(&mut self, slot: u32) -> &mut Request {
        &mut self.slots[slot as usize]
    }

    #[inline(always)]
    pub(crate) fn release(&mut self, slot: u32) {
        self.invalidate(slot);
        self.get(slot).at = At::Free;
        self.free.push(slot);
    }

    /// Whether the client still waits for the request that it sent at `born`.
    pub(crate) fn expects(&self, slot: u32, born: u64) -> bool {
        let request = &self.slots[slot as usize];
        request.at != At::Free && request.is(LIVE) && request.born == born
    }

    /// Makes all pending events of the request stale.
    #[inline(always)]
    pub(crate) fn invalidate(&mut self, slot: u32) {
        let request = self.get(slot);
        request.generation = (request.generation + 1) % GENERATIONS;
    }

    /// Slots of all requests that are somewhere, in order.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (u32, &Request)> {
        self.slots.iter().enumerate().filter(|(_, r)| r.at != At::Free).map(|(i, r)| (i as u32, r))
    }
}
