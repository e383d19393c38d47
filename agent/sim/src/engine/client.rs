// SPDX-License-Identifier: Apache-2.0
//! Requests as their clients see them: sent, answered or given up, sent elsewhere.
//!
//! Arrivals are open loop: nobody waits for an answer before the next request. A request ends exactly once: with an answer, at
//! its deadline, or for want of an endpoint; only then its outcome is recorded, and only then its agent forgets it. It is
//! sent elsewhere only when it was not begun (refused, or its server could not be reached).

use std::collections::VecDeque;

use evenkeel_balance::rng::Rng;

use super::{
    Kind, World,
    arrival::Next,
    request::{At, COUNTED, FAILED, LIVE, MEASURED, NONE, REFUSED, Request, SLOW},
};
use crate::{
    model::{LostClients, Per},
    outcome::Balance,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) service: u32,
    pub(super) zone: u32,
    /// What picks for it.
    pub(super) table: u32,
    /// Its first connection, how many it has, and which one is next.
    pub(super) connection: u32,
    pub(super) connections: u32,
    pub(super) turn: u32,
}

/// Requests of a service in order of their deadlines.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    after: Option<u64>,
    waiting: VecDeque<(u64, u32)>,
    armed: bool,
}

impl Deadlines {
    pub(super) fn new(after: Option<u64>) -> Self {
        Self { after, ..Self::default() }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Completed,
    /// An error was answered, or nobody took it.
    Failed,
    NoEndpoint,
    /// No answer in time, or no way to the server.
    TimedOut,
}

impl World<'_> {
    /// A stream's turn: its request is sent, the next one drawn.
    pub(super) fn arrival(&mut self, what: u64) {
        let index = what as u32;
        let stream = &self.streams[index as usize];
        // The generation is that of the stream's factor; its lowest bit says whether this is a request.
        let (generation, is_request) =
            (((what >> 32) as u32 % super::request::GENERATIONS) >> 1, (what >> 32) & 1 == 1);
        if generation != stream.generation {
            return;
        }
        if is_request {
            let arrivals = &self.scenario.arrivals[index as usize];
            let clients = &self.scenario.clients[arrivals.clients];
            let seed = self.random.arrivals.next_u64();
            let drawn = self.first_clients[arrivals.clients]
                + self.random.arrivals.below(clients.count as usize) as u32;
            self.arrive(drawn, arrivals.cost, seed);
        }
        self.next_arrival(index);
    }

    pub(super) fn next_arrival(&mut self, index: u32) {
        let stream = &self.streams[index as usize];
        let (at, is_request) = match stream.next(self.now, &mut self.random.arrivals) {
            Next::Request(at) => (at, 1),
            Next::Ask(at) => (at, 0),
            Next::Never => return,
        };
        if at < self.end {
            self.queue.push_soon(at, Kind::Arrival.with(stream.generation << 1 | is_request, index));
        }
    }

    /// The trace's turn.
    pub(super) fn trace(&mut self) {
        let trace = &self.scenario.trace;
        let row = trace[self.trace_next];
        self.trace_next += 1;
        if let Some(next) = trace.get(self.trace_next) {
            self.queue.push(super::ns(next.at), Kind::Trace.with(0, 0));
        }
        let seed = self.random.arrivals.next_u64();
        if let Some(client) = self.callers.next(row.service, row.zone) {
            self.arrive(client, row.cost, seed);
        }
    }

    /// A user makes a request, usually through this client.
    #[inline(always)]
    fn arrive(&mut self, client: u32, cost: f64, seed: u64) {
        let Client { service, zone, .. } = self.clients[client as usize];
        let client = match self.lost[zone as usize] {
            None | Some(LostClients::Stay) => client,
            Some(LostClients::Gone) => return,
            Some(LostClients::Move) => match self.callers.elsewhere(service as usize, seed, &self.lost) {
                Some(client) => client,
                None => return,
            },
        };
        self.endpoints[service as usize].sent[self.clients[client as usize].zone as usize] += 1;
        let keys = self.scenario.services[service as usize].keys;
        let key = if keys == 0 || self.policy.per == Per::Connection {
            NONE
        } else {
            (((seed >> 32) * u64::from(keys)) >> 32) as u32
        };
        let measured = if self.now >= self.measured_from { MEASURED } else { 0 };
        let slot = self.requests.insert(Request {
            born: self.now,
            sent: self.now,
            seed,
            seen_pause: 0,
            cost: cost as f32,
            server: NONE,
            client,
            bound: key,
            next: NONE,
            generation: 0,
            load: 0,
            at: At::ToServer,
            flags: LIVE | measured,
            tries: 0,
        });
        self.balance.arrived += 1;
        self.balance.in_flight += 1;
        self.expect(service, slot);
        self.send(slot);
    }

    /// Notes the deadline.
    #[inline(always)]
    fn expect(&mut self, service: u32, slot: u32) {
        let deadlines = &mut self.deadlines[service as usize];
        let Some(after) = deadlines.after else { return };
        let at = self.now + after;
        // Those that are through need not be kept until their deadline.
        while let Some((deadline, slot)) = deadlines.waiting.front().copied() {
            if self.requests.expects(slot, deadline - after) {
                break;
            }
            deadlines.waiting.pop_front();
        }
        deadlines.waiting.push_back((at, slot));
        if !std::mem::replace(&mut deadlines.armed, true) {
            self.queue.push(at, Kind::Deadline.with(0, service));
        }
    }

    /// The earliest deadline of a service may have passed.
    pub(super) fn deadline(&mut self, service: usize) {
        self.deadlines[service].armed = false;
        let after = self.deadlines[service].after.unwrap_or(0);
        while let Some((deadline, slot)) = self.deadlines[service].waiting.front().copied() {
            let expected = self.requests.expects(slot, deadline - after);
            if expected && deadline > self.now {
                self.deadlines[service].armed = true;
                self.queue.push(deadline, Kind::Deadline.with(0, service as u32));
                return;
            }
            self.deadlines[service].waiting.pop_front();
            if expected {
                self.end(slot, End::TimedOut);
                if self.requests.get(slot).at == At::Hung {
                    self.requests.release(slot);
                }
            }
        }
    }

    /// Picks an endpoint and sends the request there.
    #[inline(always)]
    fn send(&mut self, slot: u32) {
        let server = match self.policy.per {
            Per::Request => self.pick(slot),
            Per::Connection => self.connected(slot),
        };
        let Some(server) = server else {
            let first = self.requests.get(slot).tries == 0;
            self.end(slot, if first { End::NoEndpoint } else { End::Failed });
            self.requests.release(slot);
            return;
        };
        let request = self.requests.get(slot);
        request.server = server;
        request.sent = self.now;
        request.at = At::ToServer;
        let (from, to) = (self.clients[request.client as usize].zone, self.servers[server as usize].zone);
        if request.is(MEASURED) {
            let service = self.servers[server as usize].service as usize;
            self.record.sent(from, to, self.scenario.services[service].request_bytes);
        }
        self.admit(slot);
        self.travel(from, to, 0, Kind::AtServer, slot);
    }

    pub(super) fn at_client(&mut self, slot: u32) {
        let request = *self.requests.get(slot);
        if !request.is(LIVE) {
            self.requests.release(slot);
            return;
        }
        if request.is(MEASURED) {
            let (from, to) =
                (self.servers[request.server as usize].zone, self.clients[request.client as usize].zone);
            let service = self.servers[request.server as usize].service as usize;
            self.record.answered(from, to, self.scenario.services[service].response_bytes);
        }
        self.read_report(slot);
        if request.is(REFUSED) && self.send_elsewhere(slot) {
            return;
        }
        self.end(slot, if request.is(FAILED) { End::Failed } else { End::Completed });
        self.requests.release(slot);
    }

    /// The server cannot be reached.
    pub(super) fn give_up(&mut self, slot: u32) {
        let request = *self.requests.get(slot);
        if request.is(LIVE) {
            // What was being served may have had its effect.
            if request.load == 0 && self.send_elsewhere(slot) {
                return;
            }
            self.end(slot, End::TimedOut);
        }
        self.requests.release(slot);
    }

    /// Sends a request that was not begun to another server, if the policy allows.
    fn send_elsewhere(&mut self, slot: u32) -> bool {
        let request = *self.requests.get(slot);
        if u32::from(request.tries) >= self.policy.retries {
            return false;
        }
        self.let_go(slot, End::Failed);
        self.tried(slot);
        let request = self.requests.get(slot);
        request.tries += 1;
        request.flags &= !(FAILED | REFUSED | SLOW);
        request.load = 0;
        let measured = request.is(MEASURED);
        self.record.figures.moved += u64::from(measured);
        self.send(slot);
        true
    }

    /// The request has ended for its client. Its slot is the caller's to release.
    #[inline(always)]
    fn end(&mut self, slot: u32, end: End) {
        self.let_go(slot, end);
        let request = self.requests.get(slot);
        request.flags &= !LIVE;
        let Balance { completed, failed, in_flight, .. } = &mut self.balance;
        *in_flight -= 1;
        *(if end == End::Completed { completed } else { failed }) += 1;
        let request = *request;
        let from = self.clients[request.client as usize].zone;
        let to = self.servers.get(request.server as usize).map(|s| s.zone);
        let crossed = to.is_some_and(|to| to != from);
        self.record.ended(self.now, self.now - request.born, end, crossed, request.is(MEASURED));
    }

    /// The agent (and, per connection, the connection) learns how a try ended.
    #[inline(always)]
    fn let_go(&mut self, slot: u32, end: End) {
        let request = self.requests.get(slot);
        if request.flags & COUNTED == 0 {
            return;
        }
        request.flags &= !COUNTED;
        let request = *request;
        let table = self.clients[request.client as usize].table as usize;
        let server = &self.servers[request.server as usize];
        let (local, known) = (server.local, self.tables[table].known as usize);
        let count = self.policy.per == Per::Request;
        let ok = end == End::Completed;
        self.known[known].ended(local, self.now - request.sent, ok, count, self.now);
        if let Some(ticket) = self.ticket(slot)
            && self.known[known].judged(local, ticket, ok, self.now)
        {
            self.judge(known);
        }
        if self.policy.per == Per::Connection {
            self.after_request(&request, end);
        }
    }
}
