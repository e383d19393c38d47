// SPDX-License-Identifier: Apache-2.0
//! News of endpoints: what is published, when it reaches whom, and the plan that goes with it.
//!
//! A change waits for the debounce, then one snapshot of the service goes to every agent, each after a delay of its own and in
//! order. With zones that matter, the snapshot carries the split from each zone to each zone. It is planned here, once for
//! all agents, from what agents and servers report: requests sent per client zone, requests served and busy places per
//! server zone, as an average over a few updates. Capacity is requests served over utilisation; below 5 % utilisation that
//! quotient says nothing, and the last one holds.
//!
//! It fails as such loops do: the plan is as old as its reports. Deliberately not here: the arithmetic of plans
//! ([`evenkeel_balance::zone`]), and a protocol.

use std::{rc::Rc, time::Duration};

use evenkeel_balance::{
    priority::Health,
    zone::{self, Plan, Planner, Steadiness},
};

use super::{Kind, World, draw, ns, server::State};
use crate::model::{Knowledge, Policy, ZonePolicy};

/// An endpoint as published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed {
    /// Number in its service.
    pub(super) local: u32,
    /// The same in every snapshot and in every run.
    pub(super) id: u64,
    pub(super) zone: u32,
    pub(super) weight: u32,
    pub(super) draining: bool,
    /// Was not there at the start.
    pub(super) newcomer: bool,
    pub(super) ready_at: u64,
}

/// What is published of a service.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) endpoints: Vec<Listed>,
    /// `None`: zones do not matter.
    pub(super) plan: Option<Rc<Plan>>,
}

/// Counters of a zone at the last update, and what they came to.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    sent: u64,
    served: u64,
    busy_ns: u128,
    demand: Option<f64>,
    capacity: Option<f64>,
}

/// The control plane's side of a service.
#[derive(Debug)]
pub(super) struct Endpoints {
    /// Servers by their number in the service.
    pub(super) servers: Vec<u32>,
    /// Agents that want news.
    pub(super) tables: Vec<u32>,
    /// Something changed that is not published yet.
    changed: bool,
    planner: Option<Planner>,
    plan: Option<Rc<Plan>>,
    /// Requests sent so far, by the client's zone.
    pub(super) sent: Vec<u64>,
    loads: Vec<Load>,
    updated_at: u64,
}

/// What a new reading of a load weighs.
const NEW: f64 = 0.3;

/// Below this utilisation a zone's capacity cannot be told.
const TOO_IDLE: f64 = 0.05;

impl Endpoints {
    pub(super) fn new(policy: &Policy, zones: usize) -> Self {
        let planned = match policy.zones {
            ZonePolicy::Ignore => None,
            ZonePolicy::Prefer => Some(zone::Policy::Prefer),
            ZonePolicy::Strict => Some(zone::Policy::Strict),
        };
        let planner = planned.and_then(|policy| {
            Planner::new(zone::Config { policy, ..zone::Config::default() }, Steadiness::default()).ok()
        });
        Self {
            servers: Vec::new(),
            tables: Vec::new(),
            changed: false,
            planner,
            plan: None,
            sent: vec![0; zones],
            loads: vec![Load::default(); zones],
            updated_at: 0,
        }
    }
}

fn smooth(old: Option<f64>, new: f64) -> f64 {
    old.map_or(new, |old| old + (new - old) * NEW)
}

impl World<'_> {
    /// Something about the endpoints of a service has changed.
    pub(super) fn changed(&mut self, service: u32) {
        if !std::mem::replace(&mut self.endpoints[service as usize].changed, true) {
            let at = self.now + ns(self.scenario.discovery.debounce);
            self.queue.push(at, Kind::Publish.with(0, service));
        }
    }

    pub(super) fn publish(&mut self, service: usize) {
        self.endpoints[service].changed = false;
        let snapshot = Rc::new(self.snapshot(service));
        for place in 0..self.endpoints[service].tables.len() {
            let table = self.endpoints[service].tables[place];
            let discovery = &self.scenario.discovery;
            let wait = ns(discovery.delay) + draw::up_to(ns(discovery.jitter), &mut self.random.world);
            // Everybody knows everything at once.
            let wait = if self.policy.knowledge == Knowledge::Global { 0 } else { wait };
            let incoming = &mut self.tables[table as usize].incoming;
            let at = (self.now + wait).max(incoming.back().map_or(0, |(at, _)| *at));
            incoming.push_back((at, Rc::clone(&snapshot)));
            self.queue.push(at, Kind::News.with(0, table));
        }
    }

    /// News reaches an agent.
    pub(super) fn news(&mut self, table: usize) {
        let Some((_, snapshot)) = self.tables[table].incoming.pop_front() else { return };
        self.tables[table].snapshot = snapshot;
        // Older news of the same instant need not be built.
        if self.tables[table].incoming.front().is_some_and(|(at, _)| *at <= self.now) {
            return;
        }
        self.rebuild(table);
    }

    pub(super) fn rebuild(&mut self, table: usize) {
        let table = &mut self.tables[table];
        let known = &mut self.known[table.known as usize];
        known.grow(self.endpoints[table.service as usize].servers.len());
        table.rebuild(known, self.policy, self.now);
        if let Some(health) = &mut known.health {
            // Who shares what is known with other zones may not forget what only they can reach.
            let alone = self.known_tables[table.known as usize].len() == 1;
            let listed = table.snapshot.endpoints.iter().map(|e| e.local);
            let ids: Vec<u32> = if alone { table.members().collect() } else { listed.collect() };
            health.set_endpoints(ids, &mut known.barred);
        }
        table.judge(known);
    }

    /// What there is to say of a service now.
    pub(super) fn snapshot(&mut self, service: usize) -> Snapshot {
        let endpoints = self.listed(service);
        self.replan(service, &endpoints);
        Snapshot { endpoints, plan: self.endpoints[service].plan.clone() }
    }

    fn listed(&self, service: usize) -> Vec<Listed> {
        (self.endpoints[service].servers.iter())
            .map(|index| (*index, &self.servers[*index as usize]))
            .filter(|(_, server)| server.listed)
            .map(|(_, server)| Listed {
                local: server.local,
                id: identity(server.service, server.group, server.ordinal),
                zone: server.zone,
                weight: server.weight,
                draining: server.draining,
                newcomer: server.newcomer,
                ready_at: server.ready_at,
            })
            .collect()
    }

    /// Plans the split between zones anew. True when it has changed.
    fn replan(&mut self, service: usize, endpoints: &[Listed]) -> bool {
        let zones = self.network.zones;
        let Endpoints { planner: Some(planner), plan, loads, .. } = &mut self.endpoints[service] else {
            return false;
        };
        let listed: Vec<zone::Endpoint> = endpoints
            .iter()
            .map(|e| zone::Endpoint {
                zone: e.zone as usize,
                weight: e.weight,
                health: if e.draining { Health::Draining } else { Health::Healthy },
            })
            .collect();
        let mut known = zone::tally(&listed, zones);
        for (zone, load) in known.iter_mut().zip(loads) {
            (zone.demand, zone.capacity) = (load.demand, load.capacity);
        }
        let decision = planner.update(&known, Duration::from_nanos(self.now));
        let adopted = decision.why.adopted() || plan.is_none();
        // Whether demand is covered is of now, also in a plan that is kept.
        if adopted || plan.as_ref().is_some_and(|plan| plan.covered != decision.plan.covered) {
            *plan = Some(Rc::new(decision.plan.clone()));
            return true;
        }
        false
    }

    /// Reads what was reported since the last time, and publishes if that changes the plan.
    pub(super) fn govern(&mut self, service: usize) {
        if self.endpoints[service].planner.is_none() {
            return;
        }
        let seconds = (self.now - self.endpoints[service].updated_at) as f64 / 1e9;
        self.endpoints[service].updated_at = self.now;
        if seconds > 0.0 {
            for zone in 0..self.network.zones {
                self.read_load(service, zone, seconds);
            }
        }
        let endpoints = self.listed(service);
        if self.replan(service, &endpoints) {
            self.changed(service as u32);
        }
    }

    fn read_load(&mut self, service: usize, zone: usize, seconds: f64) {
        let (mut served, mut busy_ns, mut places) = (0, 0, 0);
        for index in &self.endpoints[service].servers {
            let server = &mut self.servers[*index as usize];
            if server.zone as usize == zone {
                served += server.served;
                busy_ns += server.busy_ns(self.now);
                places +=
                    if server.state == State::Serving && server.reachable { server.concurrency } else { 0 };
            }
        }
        let endpoints = &mut self.endpoints[service];
        let (sent, load) = (endpoints.sent[zone], &mut endpoints.loads[zone]);
        load.demand = Some(smooth(load.demand, (sent - load.sent) as f64 / seconds));
        let utilization = (busy_ns - load.busy_ns) as f64 / (f64::from(places) * seconds * 1e9);
        if places > 0 && utilization > TOO_IDLE {
            let rate = (served - load.served) as f64 / seconds;
            load.capacity = Some(smooth(load.capacity, rate / utilization.min(1.0)));
        }
        (load.sent, load.served, load.busy_ns) = (sent, served, busy_ns);
    }
}

/// What identifies a server in every snapshot and in every run, as the hash of an address would.
fn identity(service: u32, group: u32, ordinal: u32) -> u64 {
    let mut rng = evenkeel_balance::rng::SplitMix64::new(
        u64::from(service) << 48 ^ u64::from(group) << 32 ^ u64::from(ordinal),
    );
    evenkeel_balance::rng::Rng::next_u64(&mut rng)
}
