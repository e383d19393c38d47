// SPDX-License-Identifier: Apache-2.0
//! Picks for requests and connections, and the agents' regular work.

use evenkeel_balance::{outlier::Ticket, rng::Rng, rng::SplitMix64};

use super::{
    Kind, World,
    agent::TRIED,
    draw, ns,
    request::{COUNTED, NONE},
};
use crate::model::{Per, ZonePolicy};

impl World<'_> {
    /// A server for the request, by what its agent knows.
    #[inline(always)]
    pub(super) fn pick(&mut self, slot: u32) -> Option<u32> {
        let request = self.requests.get(slot);
        let (client, tries) = (request.client, request.tries);
        let key = if self.policy.per == Per::Request { request.bound } else { NONE };
        let table = self.clients[client as usize].table;
        let server = if tries == 0 {
            self.pick_for(table, client, key, &[])
        } else {
            let tried = self.tried.get(&slot).cloned().unwrap_or_default();
            self.pick_for(table, client, key, &tried)
        }?;
        self.requests.get(slot).flags |= COUNTED;
        if key != NONE && !self.pins.is_empty() {
            let service = self.servers[server as usize].service as usize;
            let last = std::mem::replace(&mut self.pins[service][key as usize], server);
            if last != NONE && last != server && self.now >= self.measured_from {
                self.record.figures.remapped += 1;
            }
        }
        Some(server)
    }

    /// A server by what `table` knows, other than those tried. It counts as in flight from here on.
    #[inline(always)]
    pub(super) fn pick_for(&mut self, table: u32, client: u32, key: u32, tried: &[u32]) -> Option<u32> {
        let of = &self.tables[table as usize];
        let known = &mut self.known[of.known as usize];
        for server in tried {
            known.barred[self.servers[*server as usize].local as usize] |= TRIED;
        }
        let pinned_by = if key == NONE { client } else { key };
        // Connections are pinned by their client, requests by their key if they have one.
        let hash = (key != NONE || self.policy.per == Per::Connection)
            .then(|| SplitMix64::new(u64::from(pinned_by)).next_u64());
        let picked = of.pick(known, hash, self.now, &mut self.random.picks);
        for server in tried {
            known.barred[self.servers[*server as usize].local as usize] &= !TRIED;
        }
        let picked = picked?;
        known.began(picked);
        let service = of.service;
        if self.needs.probes {
            self.send_probes(table);
        }
        Some(self.endpoints[service as usize].servers[picked as usize])
    }

    /// Remembers that the request's server has had it.
    pub(super) fn tried(&mut self, slot: u32) {
        let server = self.requests.get(slot).server;
        if self.requests.get(slot).tries == 0 {
            self.tried.insert(slot, vec![server]);
        } else {
            self.tried.entry(slot).or_default().push(server);
        }
    }

    /// The request goes to its server: outlier detection lets it through, as a probe perhaps.
    #[inline]
    pub(super) fn admit(&mut self, slot: u32) {
        if self.policy.outlier.is_none() {
            return;
        }
        let request = *self.requests.get(slot);
        let known = self.tables[self.clients[request.client as usize].table as usize].known as usize;
        let local = self.servers[request.server as usize].local;
        let Some(health) = &mut self.known[known].health else { return };
        let ticket = health.admit(local, self.now);
        if self.tickets.len() <= slot as usize {
            self.tickets.resize(slot as usize + 1, None);
        }
        self.tickets[slot as usize] = Some(ticket);
    }

    /// The ticket that the request was let through with.
    #[inline]
    pub(super) fn ticket(&mut self, slot: u32) -> Option<Ticket> {
        self.tickets.get_mut(slot as usize)?.take()
    }

    /// Whether ejections of this agent are still to be believed.
    pub(super) fn judge(&mut self, known: usize) {
        for table in &self.known_tables[known] {
            self.tables[*table as usize].judge(&self.known[known]);
        }
    }

    // Updates are numbered: services (their governor), then tables (their weights), then what is known (its sweeps).

    /// Schedules the first of all regular work, agents at different times.
    pub(super) fn start_updates(&mut self) {
        let every = ns(self.policy.update_every);
        let (services, tables) = (self.endpoints.len(), self.tables.len());
        if self.policy.zones != ZonePolicy::Ignore {
            (0..services).for_each(|i| self.schedule_update(i, every));
        }
        if self.needs.reports || !self.policy.slow_start.is_zero() {
            for i in 0..tables {
                let phase = draw::up_to(every, &mut self.random.world).max(1);
                self.schedule_update(services + i, phase);
            }
        }
        for i in 0..self.known.len() {
            if let Some(interval) = self.known[i].health.as_ref().map(super::health::Health::interval) {
                let phase = draw::up_to(interval, &mut self.random.world).max(1);
                self.schedule_update(services + tables + i, phase);
            }
        }
    }

    fn schedule_update(&mut self, index: usize, after: u64) {
        let at = self.now.saturating_add(after);
        if at < self.last {
            self.queue.push(at, Kind::Update.with(0, index as u32));
        }
    }

    pub(super) fn update(&mut self, index: usize) {
        let (services, tables) = (self.endpoints.len(), self.tables.len());
        let mut every = ns(self.policy.update_every);
        if index < services {
            self.govern(index);
        } else if index < services + tables {
            if self.tables[index - services].stale(self.policy) {
                self.rebuild(index - services);
            }
        } else {
            let (now, index) = (self.now, index - services - tables);
            let known = &mut self.known[index];
            let Some(health) = &mut known.health else { return };
            every = health.interval();
            if health.sweep(now, &mut known.barred) {
                self.judge(index);
            }
        }
        self.schedule_update(index, every);
    }
}
