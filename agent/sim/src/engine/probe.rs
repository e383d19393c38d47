// SPDX-License-Identifier: Apache-2.0
//! Probes: small messages that ask a server for its load, and come back as late as any message.
//!
//! Sent with each request to endpoints drawn at random, as in Prequal; a probe of a server that is dead or cannot be reached is
//! lost. They keep no place busy and are not in the price.

use super::{Kind, World, server::State};

/// A probe on its way.
#[derive(Clone, Copy, Debug)]
struct Probe {
    table: u32,
    server: u32,
    /// Requests in flight and latency, on the way back.
    answer: Option<(u64, u64)>,
}

/// All that are on their way.
#[derive(Debug, Default)]
pub(super) struct Probes {
    slots: Vec<Probe>,
    free: Vec<u32>,
}

impl Probes {
    fn insert(&mut self, probe: Probe) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = probe;
            return slot;
        }
        self.slots.push(probe);
        self.slots.len() as u32 - 1
    }
}

impl World<'_> {
    /// Asks a few endpoints.
    pub(super) fn send_probes(&mut self, table: u32) {
        for _ in 0..self.policy.probes {
            let of = &self.tables[table as usize];
            let Some(local) = of.any_member(&mut self.random.network) else { return };
            let server = self.endpoints[of.service as usize].servers[local as usize];
            let way = self.network.way(of.zone, self.servers[server as usize].zone, &mut self.random.network);
            let slot = self.probes.insert(Probe { table, server, answer: None });
            self.queue.push(self.now + way, Kind::Probe.with(0, slot));
        }
    }

    /// A probe is at its server, or back.
    pub(super) fn probe(&mut self, slot: usize) {
        let Probe { table, server: index, answer } = self.probes.slots[slot];
        let (of, server) = (&self.tables[table as usize], &self.servers[index as usize]);
        if let Some((in_flight, latency_ns)) = answer {
            self.known[of.known as usize].probe_came(server.local, in_flight, latency_ns, self.now);
        } else if server.state == State::Serving && server.reachable {
            let load = server.load();
            let expected = self.stats[index as usize].expected(load + 1);
            self.probes.slots[slot].answer = Some((u64::from(load), expected));
            let way = self.network.way(server.zone, of.zone, &mut self.random.network);
            self.queue.push(self.now + way, Kind::Probe.with(0, slot as u32));
            return;
        }
        self.probes.free.push(slot as u32);
    }
}
