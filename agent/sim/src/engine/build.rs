// SPDX-License-Identifier: Apache-2.0
//! The world as it is at the start: servers that serve, agents that know of them, connections that are open.
//!
//! Agents are made where clients are: for each owner of knowledge (node, client, everybody) and each service that is called
//! from there. Clients are placed on nodes in turn, and nodes are taken from the zones in turn, so that a few clients do not
//! all end up in the first zone.

use std::{collections::BTreeMap, rc::Rc};

use evenkeel_balance::rng::Rng;

use super::{
    Kind, Network, Random, World,
    agent::Known,
    arrival::Stream,
    callers::Callers,
    client::{Client, Deadlines},
    connection::Connection,
    discovery::Endpoints,
    health::{Health, Panicking},
    ns,
    queue::Queue,
    record::Recorder,
    request::{NONE, Slab},
    table::Table,
};
use crate::{
    model::{Clients, Invalid, Knowledge, Per, Policy, Scenario, ZonePolicy},
    outcome::Balance,
};

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario, policy: &'a Policy, seed: u64) -> Result<Self, Invalid> {
        let end = ns(scenario.duration);
        let zones = scenario.zones.len();
        let latency: Vec<u64> = scenario.network.latency.iter().flatten().map(|l| ns(*l)).collect();
        let network = Network {
            zones,
            latency,
            jitter: ns(scenario.network.jitter),
            unreachable_after: ns(scenario.network.unreachable_after),
        };
        let mut world = Self {
            scenario,
            policy,
            needs: policy.needs(),
            now: 0,
            end,
            // As long again: what has not ended by then is overload or a server that hangs.
            last: end.saturating_mul(2),
            measured_from: ns(scenario.warm_up),
            queue: Queue::new(),
            streams: scenario.arrivals.iter().map(|a| Stream::new(a.process)).collect(),
            trace_next: 0,
            random: Random::new(seed),
            requests: Slab::default(),
            tried: BTreeMap::new(),
            tickets: Vec::new(),
            pins: if policy.needs().hash { pins(scenario) } else { Vec::new() },
            balance: Balance::default(),
            servers: Vec::new(),
            stats: Vec::new(),
            created: scenario.services.iter().map(|s| vec![0; s.groups.len()]).collect(),
            endpoints: scenario.services.iter().map(|_| Endpoints::new(policy, zones)).collect(),
            deadlines: scenario.services.iter().map(|s| Deadlines::new(s.timeout.map(ns))).collect(),
            rollouts: Vec::new(),
            clients: Vec::new(),
            first_clients: Vec::new(),
            ages: Vec::new(),
            connections: Vec::new(),
            callers: Callers::new(scenario.services.len(), zones),
            lost: vec![None; zones],
            known: Vec::new(),
            known_tables: Vec::new(),
            tables: Vec::new(),
            probes: super::probe::Probes::default(),
            network,
            record: Recorder::new(scenario, end),
        };
        world.create_servers();
        world.create_clients();
        world.check_trace()?;
        Ok(world)
    }

    fn create_servers(&mut self) {
        for (service, of) in self.scenario.services.iter().enumerate() {
            for (group, template) in of.groups.iter().enumerate() {
                for _ in 0..template.count {
                    let index = self.create(service, group);
                    let server = &mut self.servers[index as usize];
                    server.rise(false, 0);
                    server.newcomer = false;
                }
            }
        }
        self.record.draw_lines(self.scenario, &self.servers);
    }

    fn create_clients(&mut self) {
        let mut tables = BTreeMap::new();
        for group in &self.scenario.clients {
            self.first_clients.push(self.clients.len() as u32);
            let nodes = nodes(self.scenario, group);
            for i in 0..group.count {
                let (node, zone) = nodes[i as usize % nodes.len()];
                let owner = match self.policy.knowledge {
                    Knowledge::Node => node,
                    Knowledge::Client => self.clients.len() as u32,
                    Knowledge::Global => 0,
                };
                let service = group.service as u32;
                let key = (owner, service, zone);
                let table = *tables.entry(key).or_insert_with(|| self.create_table(key));
                let index = self.clients.len() as u32;
                self.callers.of[group.service][zone as usize].0.push(index);
                let connections = if self.policy.per == Per::Connection { group.connections } else { 0 };
                self.clients.push(Client {
                    service,
                    zone,
                    table,
                    connection: self.connections.len() as u32,
                    connections,
                    turn: 0,
                });
                self.ages.push(group.connection_age.map(ns));
                let closed = Connection { server: NONE, last: NONE, opened: 0 };
                self.connections.extend((0..connections).map(|_| closed));
            }
        }
        self.number_peers();
    }

    /// Gives each agent its place among those of its service; where zones matter, among those of its zone.
    fn number_peers(&mut self) {
        let apart = self.policy.zones != ZonePolicy::Ignore;
        for endpoints in &self.endpoints {
            let mut counts = vec![0; self.network.zones];
            let zone = |table: &Table| if apart { table.zone as usize } else { 0 };
            for table in &endpoints.tables {
                let table = &mut self.tables[*table as usize];
                table.peer.0 = counts[zone(table)];
                counts[zone(table)] += 1;
            }
            for table in &endpoints.tables {
                let table = &mut self.tables[*table as usize];
                table.peer.1 = counts[zone(table)];
            }
        }
    }

    /// An agent for (owner, service, zone). All zones of an owner share what is known.
    fn create_table(&mut self, (owner, service, zone): (u32, u32, u32)) -> u32 {
        let index = self.tables.len() as u32;
        let shared = (self.policy.knowledge == Knowledge::Global)
            .then(|| self.tables.iter().find(|t| t.service == service).map(|t| t.known))
            .flatten();
        let known = shared.unwrap_or_else(|| {
            self.known.push(Known::new(
                self.policy.needs(),
                Health::new(self.policy, self.random.world.next_u64()),
            ));
            self.known_tables.push(Vec::new());
            self.known.len() as u32 - 1
        });
        self.known_tables[known as usize].push(index);
        let seed = self.random.world.next_u64() ^ u64::from(owner);
        self.tables.push(Table::new(known, service, zone, seed, Panicking::new(self.policy)));
        self.endpoints[service as usize].tables.push(index);
        index
    }

    fn check_trace(&self) -> Result<(), Invalid> {
        for (i, row) in self.scenario.trace.iter().enumerate() {
            if self.callers.of[row.service][row.zone].0.is_empty() {
                let (service, zone) = (&self.scenario.services[row.service], &self.scenario.zones[row.zone]);
                let problem = format!("service {} has no clients in zone {}", service.name, zone.name);
                return Err(Invalid { path: format!("trace[{i}].zone"), problem });
            }
        }
        Ok(())
    }

    /// Everybody hears of everything, connections are opened, and what comes by itself is scheduled.
    pub(super) fn start(&mut self) {
        for service in 0..self.endpoints.len() {
            let snapshot = Rc::new(self.snapshot(service));
            for place in 0..self.endpoints[service].tables.len() {
                let table = self.endpoints[service].tables[place] as usize;
                self.tables[table].snapshot = Rc::clone(&snapshot);
                self.rebuild(table);
            }
        }
        if self.policy.per == Per::Connection {
            self.open_all();
        }
        self.queue.push(self.measured_from, Kind::Measure.with(0, 0));
        self.first_sample();
        for (index, event) in self.scenario.events.iter().enumerate() {
            self.queue.push(ns(event.at), Kind::Action.with(0, index as u32));
        }
        for index in 0..self.streams.len() {
            self.next_arrival(index as u32);
        }
        if let Some(first) = self.scenario.trace.first() {
            self.queue.push(ns(first.at), Kind::Trace.with(0, 0));
        }
        self.start_updates();
    }
}

/// No key has a server yet.
fn pins(scenario: &Scenario) -> Vec<Vec<u32>> {
    scenario.services.iter().map(|s| vec![NONE; s.keys as usize]).collect()
}

/// Nodes that these clients run on, as (number, zone), in the order in which they are taken.
fn nodes(scenario: &Scenario, clients: &Clients) -> Vec<(u32, u32)> {
    let mut all = Vec::new();
    let mut number = 0;
    for (zone, of) in scenario.zones.iter().enumerate() {
        for place in 0..of.nodes {
            if clients.zone.is_none_or(|z| z == zone) {
                all.push((place, number, zone as u32));
            }
            number += 1;
        }
    }
    all.sort_unstable_by_key(|(place, _, zone)| (*place, *zone));
    all.into_iter().map(|(_, number, zone)| (number, zone)).collect()
}
