// SPDX-License-Identifier: Apache-2.0
//! Servers at work: a request comes, waits its turn, keeps a place busy, leaves.
//!
//! What comes to a dead server or to a full queue is refused; what comes to a server in a lost zone hangs. A server does not
//! notice that a client has gone before the request's turn comes: then it is dropped, unserved. What is being served is served
//! to its end.

use evenkeel_balance::rng::SplitMix64;

use super::{
    Kind, World, draw,
    request::{At, FAILED, LIVE, NONE, REFUSED, SLOW},
    server::{Server, State},
};

/// What becomes of the requests of servers that go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Their connections are reset: an error now.
    Reset,
    /// Nothing comes back.
    Hang,
}

impl World<'_> {
    pub(super) fn at_server(&mut self, slot: u32) {
        let request = self.requests.get(slot);
        if !request.is(LIVE) {
            self.requests.release(slot);
            return;
        }
        let server = &mut self.servers[request.server as usize];
        if !server.reachable {
            request.at = At::Hung;
            let until = request.sent + self.network.unreachable_after;
            self.at(until.max(self.now), Kind::GiveUp, slot);
            return;
        }
        if server.state != State::Serving {
            self.refuse(slot);
            return;
        }
        request.load = server.load() + 1;
        if server.fails {
            // Another draw for each try: failing is the server's doing, not the request's.
            let tries = u64::from(request.tries) + 1;
            let chance =
                draw::unit(&mut SplitMix64::new(request.seed ^ tries.wrapping_mul(0xa24b_aed4_963e_e407)));
            if chance < server.fast {
                let after = server.fast_after;
                request.flags |= FAILED;
                self.served(slot);
                self.reply(slot, after);
                return;
            }
            if chance < server.fast + server.slow {
                request.flags |= SLOW;
            }
        }
        if server.busy < server.concurrency {
            self.begin(slot);
        } else if server.waiting < server.queue {
            request.at = At::Waiting;
            request.next = NONE;
            let tail = std::mem::replace(&mut server.tail, slot);
            server.waiting += 1;
            if tail == NONE {
                server.head = slot;
            } else {
                self.requests.get(tail).next = slot;
            }
        } else {
            self.refuse(slot);
        }
    }

    /// Gives the request a free place.
    #[inline(always)]
    fn begin(&mut self, slot: u32) {
        let request = self.requests.get(slot);
        let server = &mut self.servers[request.server as usize];
        let work = if request.is(SLOW) {
            server.slow_after
        } else {
            server.work(f64::from(request.cost), &mut SplitMix64::new(request.seed))
        };
        request.at = At::Serving;
        request.seen_pause = server.pause_total;
        server.account(self.now);
        server.busy += 1;
        let done = self.now.max(server.paused_until) + work;
        self.queue.push(done, Kind::Done.with(request.generation, slot));
    }

    pub(super) fn done(&mut self, slot: u32) {
        let request = self.requests.get(slot);
        let server = &mut self.servers[request.server as usize];
        if server.pause_total > request.seen_pause {
            let missed = server.pause_total - request.seen_pause;
            request.seen_pause = server.pause_total;
            self.at(self.now + missed, Kind::Done, slot);
            return;
        }
        server.account(self.now);
        server.busy -= 1;
        server.served += 1;
        let index = request.server;
        if request.is(SLOW) {
            request.flags |= FAILED;
        }
        let live = request.is(LIVE);
        self.served(slot);
        if live {
            self.reply(slot, 0);
        } else {
            self.requests.release(slot);
        }
        while let Some(next) = self.take(index) {
            if self.requests.get(next).is(LIVE) {
                self.begin(next);
                break;
            }
            self.requests.release(next);
        }
    }

    /// The server notes what it says of itself in reports and to probes.
    #[inline]
    fn served(&mut self, slot: u32) {
        if self.needs.reports || self.needs.probes {
            let request = *self.requests.get(slot);
            let server = &mut self.servers[request.server as usize];
            // Without the jitter, which the server cannot know of either.
            let client = self.clients[request.client as usize].zone;
            let came = request.sent
                + self.network.latency[client as usize * self.network.zones + server.zone as usize];
            let (elapsed, ok) = (self.now - came, !request.is(FAILED));
            let (busy, places) = (server.busy_ns(self.now), server.concurrency);
            self.stats[request.server as usize].ended(self.now, request.load, elapsed, ok, busy, places);
        }
    }

    /// An answer carries its server's last report.
    #[inline]
    pub(super) fn read_report(&mut self, slot: u32) {
        if !self.needs.reports {
            return;
        }
        let request = *self.requests.get(slot);
        if let Some(report) = self.stats[request.server as usize].report() {
            let known = self.tables[self.clients[request.client as usize].table as usize].known;
            let local = self.servers[request.server as usize].local;
            self.known[known as usize].report(local, &report, self.now);
        }
    }

    /// The first of the queue.
    #[inline]
    fn take(&mut self, server: u32) -> Option<u32> {
        let server = &mut self.servers[server as usize];
        if server.head == NONE {
            return None;
        }
        let slot = server.head;
        server.head = self.requests.get(slot).next;
        server.waiting -= 1;
        if server.head == NONE {
            server.tail = NONE;
        }
        Some(slot)
    }

    fn refuse(&mut self, slot: u32) {
        self.requests.get(slot).flags |= FAILED | REFUSED;
        self.reply(slot, 0);
    }

    /// Sends the answer on its way, `after` from now.
    #[inline(always)]
    fn reply(&mut self, slot: u32, after: u64) {
        let request = self.requests.get(slot);
        request.at = At::ToClient;
        let from = self.servers[request.server as usize].zone;
        let to = self.clients[request.client as usize].zone;
        self.travel(from, to, after, Kind::AtClient, slot);
    }

    /// Takes everything out of the servers that `gone` names.
    pub(super) fn empty(&mut self, fate: Fate, gone: impl Fn(&Server) -> bool) {
        let inside = |at| matches!(at, At::Waiting | At::Serving);
        let slots: Vec<u32> = (self.requests.taken())
            .filter(|(_, r)| inside(r.at) && gone(&self.servers[r.server as usize]))
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            self.requests.invalidate(slot);
            let request = self.requests.get(slot);
            if !request.is(LIVE) {
                self.requests.release(slot);
            } else if fate == Fate::Reset {
                request.flags |= FAILED;
                self.reply(slot, 0);
            } else {
                request.at = At::Hung;
                self.at(self.now + self.network.unreachable_after, Kind::GiveUp, slot);
            }
        }
        for server in self.servers.iter_mut().filter(|s| gone(s)) {
            server.fall(self.now);
        }
    }

    /// A stop-the-world pause begins; the next is scheduled.
    pub(super) fn pause(&mut self, index: usize) {
        let server = &mut self.servers[index];
        let group = &self.scenario.services[server.service as usize].groups[server.group as usize];
        let Some(pauses) = group.pauses else { return };
        let length = super::ns(pauses.length);
        if server.state == State::Serving && server.reachable {
            server.pause_total += length;
            server.paused_until = self.now + length;
        }
        self.next_pause(index, length);
    }

    /// Schedules the next pause, from `after` on.
    pub(super) fn next_pause(&mut self, index: usize, after: u64) {
        let server = &self.servers[index];
        let group = &self.scenario.services[server.service as usize].groups[server.group as usize];
        let Some(pauses) = group.pauses else { return };
        let gap = draw::exponential(&mut self.random.world) * super::ns(pauses.every) as f64;
        let at = self.now.saturating_add(after).saturating_add(gap as u64);
        if at < self.last {
            self.queue.push(at, Kind::Pause.with(0, index as u32));
        }
    }
}
