// SPDX-License-Identifier: Apache-2.0
//! How one agent picks for one service: pickers built from the last news, and the view that they see.
//!
//! Endpoints are grouped by zone when zones matter: a pick draws the zone by the plan's shares and then the endpoint within
//! it, so that the shares hold whatever the loads are. When nobody in the drawn zone can be picked, the other zones that the
//! plan sends to are asked. Built off the hot path, as in the agent: when news comes, and when weights have changed.
//!
//! Deliberately not here: any rule of choice. Pickers, plans, weights and subsets are the library's; the kernel's rule is the
//! kernel's.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use evenkeel_abi::Slot;
use evenkeel_balance::{
    alias::{self, Column},
    aperture::{Aperture, Place},
    picker::{self, LeastRequest, Picker, Probe, Strategy, View},
    priority::{self, Health},
    report,
    rng::{Rng, SplitMix64},
    slow_start::SlowStart,
};

use super::{
    agent::{EJECTED, Known, TRIED},
    discovery::{Listed, Snapshot},
    health::Panicking,
};
use crate::model::{Chooser, Policy};

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    /// Whose knowledge it picks by.
    pub(super) known: u32,
    pub(super) service: u32,
    pub(super) zone: u32,
    /// Different for each agent: rotations start elsewhere, apertures lie elsewhere.
    pub(super) seed: u64,
    /// Place among the agents of the service, and how many there are.
    pub(super) peer: (u32, u32),
    /// Published and on its way, the oldest first, with the time when it arrives.
    pub(super) incoming: VecDeque<(u64, Rc<Snapshot>)>,
    pub(super) snapshot: Rc<Snapshot>,
    localities: Vec<Locality>,
    /// Shares of the localities, when there are several.
    split: Vec<Column>,
    pub(super) panicking: Panicking,
    /// Some endpoint is not at its full weight yet.
    warming: bool,
}

/// Endpoints among which one picker chooses.
#[derive(Debug)]
struct Locality {
    /// By the picker's index: the number in the service.
    members: Vec<u32>,
    choosing: Choosing,
}

#[derive(Debug)]
enum Choosing {
    Picker(Box<dyn Picker>),
    Kernel(Vec<Slot>),
}

/// What a picker sees.
struct Seen<'a> {
    members: &'a [u32],
    known: &'a Known,
    /// Bits that bar an endpoint.
    bars: u8,
    now: u64,
    key: Option<u64>,
}

impl View for Seen<'_> {
    #[inline]
    fn in_flight(&self, endpoint: usize) -> u64 {
        self.known.in_flight(self.members[endpoint])
    }

    #[inline]
    fn available(&self, endpoint: usize) -> bool {
        self.known.available(self.members[endpoint], self.bars, self.now)
    }

    fn latency(&self, endpoint: usize) -> Option<f64> {
        self.known.latency(self.members[endpoint], self.now)
    }

    fn probe(&self, endpoint: usize) -> Option<Probe> {
        self.known.probe(self.members[endpoint], self.now)
    }

    fn hash(&self) -> Option<u64> {
        self.key
    }
}

impl Table {
    pub(super) fn new(known: u32, service: u32, zone: u32, seed: u64, panicking: Panicking) -> Self {
        Self {
            known,
            service,
            zone,
            seed,
            peer: (0, 1),
            incoming: VecDeque::new(),
            snapshot: Rc::default(),
            localities: Vec::new(),
            split: Vec::new(),
            panicking,
            warming: false,
        }
    }

    /// The endpoint for a request with this key, or `None` when nobody can be picked.
    #[inline]
    pub(super) fn pick(
        &self,
        known: &Known,
        key: Option<u64>,
        now: u64,
        rng: &mut SplitMix64,
    ) -> Option<u32> {
        let bars = if self.panicking.now() { TRIED } else { TRIED | EJECTED };
        let first = match self.localities.len() {
            0 => return None,
            1 => 0,
            _ => alias::draw(&self.split, rng),
        };
        let seen = |l: &Locality, rng: &mut SplitMix64| {
            l.pick(&Seen { members: &l.members, known, bars, now, key }, rng)
        };
        seen(&self.localities[first], rng).or_else(|| {
            let others = self.localities.iter().enumerate().filter(|(i, _)| *i != first);
            others.map(|(_, l)| l).find_map(|l| seen(l, rng))
        })
    }

    /// Whether ejections are still to be believed.
    pub(super) fn judge(&mut self, known: &Known) {
        let (mut healthy, mut total) = (0, 0);
        for member in self.members() {
            healthy += u64::from(known.barred[member as usize] & EJECTED == 0);
            total += 1;
        }
        let covered = self.snapshot.plan.as_ref().is_some_and(|plan| plan.covered);
        self.panicking.judge(healthy, total, covered);
    }

    /// Endpoints that may be picked, over all localities, in order.
    pub(super) fn members(&self) -> impl Iterator<Item = u32> + '_ {
        self.localities.iter().flat_map(|l| l.members.iter().copied())
    }

    /// A member by a random draw, for probes.
    pub(super) fn any_member(&self, rng: &mut SplitMix64) -> Option<u32> {
        let all: usize = self.localities.iter().map(|l| l.members.len()).sum();
        if all == 0 {
            return None;
        }
        let mut place = rng.below(all);
        for locality in &self.localities {
            match locality.members.get(place) {
                Some(member) => return Some(*member),
                None => place -= locality.members.len(),
            }
        }
        None
    }

    /// Whether weights have changed although no news came.
    pub(super) fn stale(&self, policy: &Policy) -> bool {
        self.warming || policy.needs().reports
    }

    /// Builds everything anew from the snapshot.
    pub(super) fn rebuild(&mut self, known: &Known, policy: &Policy, now: u64) {
        let snapshot = Rc::clone(&self.snapshot);
        let health = |e: &Listed| (0, if e.draining { Health::Draining } else { Health::Healthy });
        let plan = priority::plan(&snapshot.endpoints.iter().map(health).collect::<Vec<_>>());
        let active: Vec<Listed> = plan.active.iter().map(|i| snapshot.endpoints[*i]).collect();
        self.localities.clear();
        self.warming = false;
        let Some(zones) = &snapshot.plan else {
            self.split.clear();
            self.add(&active, known, policy, now);
            return;
        };
        let (row, mut shares) = (zones.row(self.zone as usize), Vec::new());
        for (zone, share) in row.iter().enumerate().filter(|(_, share)| **share > 0) {
            let here: Vec<Listed> = active.iter().copied().filter(|e| e.zone as usize == zone).collect();
            if self.add(&here, known, policy, now) {
                shares.push(*share);
            }
        }
        self.split = alias::table(&shares);
    }

    /// Adds a locality of these endpoints; false when there are none.
    fn add(&mut self, endpoints: &[Listed], known: &Known, policy: &Policy, now: u64) -> bool {
        if endpoints.is_empty() {
            return false;
        }
        let endpoints = &self.within_reach(endpoints, policy);
        let weights = self.weights(endpoints, known, policy, now);
        let ids: Vec<u64> = endpoints.iter().map(|e| e.id).collect();
        let choosing = match policy.chooser {
            Chooser::Kernel => Choosing::Kernel(slots(&weights)),
            Chooser::Picker(strategy) => Choosing::Picker(match strategy {
                Strategy::LeastRequest => Box::new(LeastRequest::with_choices(&weights, policy.choices)),
                // Another place to start at each time, or the first places of every rotation would get more.
                _ => {
                    strategy.build(picker::Endpoints { weights: &weights, ids: &ids, seed: self.seed ^ now })
                }
            }),
        };
        self.localities.push(Locality { members: endpoints.iter().map(|e| e.local).collect(), choosing });
        true
    }

    /// The part of these endpoints that this agent talks to, with what they weigh for it.
    fn within_reach(&self, endpoints: &[Listed], policy: &Policy) -> Vec<Listed> {
        let place = Place::new(self.peer.0, self.peer.1);
        let (1.., Ok(place)) = (policy.aperture, place) else { return endpoints.to_vec() };
        let servers: Vec<(u64, u32)> = endpoints.iter().map(|e| (e.id, e.weight)).collect();
        let aperture = Aperture::new(place, &servers, policy.aperture as usize);
        let weights = aperture.weights();
        aperture
            .shares
            .iter()
            .zip(weights)
            .map(|(s, weight)| Listed { weight, ..endpoints[s.server] })
            .collect()
    }

    /// Configured weights, or reported ones, less for those that are new.
    fn weights(&mut self, endpoints: &[Listed], known: &Known, policy: &Policy, now: u64) -> Vec<u32> {
        let mut weights: Vec<u32> = endpoints.iter().map(|e| e.weight).collect();
        if policy.needs().reports {
            let reported: Vec<_> = endpoints.iter().map(|e| known.weight(e.local, now)).collect();
            weights = report::weights(&reported, &weights);
        }
        let Some(slow_start) = slow_start(policy) else { return weights };
        let age = |e: &Listed| Duration::from_nanos(now.saturating_sub(e.ready_at));
        self.warming |= endpoints.iter().any(|e| e.newcomer && !slow_start.warm(age(e)));
        let ages: Vec<(u32, Duration)> = (weights.iter().zip(endpoints))
            .map(|(w, e)| (*w, if e.newcomer { age(e) } else { Duration::MAX }))
            .collect();
        slow_start.weights(&ages)
    }
}

/// The policy's ramp, if it has one.
fn slow_start(policy: &Policy) -> Option<SlowStart> {
    let config = evenkeel_balance::slow_start::Config {
        window: policy.slow_start,
        ..evenkeel_balance::slow_start::Config::default()
    };
    SlowStart::new(config).ok()
}

/// The kernel's table for these weights.
fn slots(weights: &[u32]) -> Vec<Slot> {
    let weight = |i: u32| weights[i as usize].max(1);
    let slot = |(i, c): (usize, &Column)| Slot {
        backend: i as u32,
        weight: weight(i as u32),
        alias: c.alias,
        alias_weight: weight(c.alias),
        threshold: c.threshold,
    };
    alias::table(weights).iter().enumerate().map(slot).collect()
}

impl Locality {
    #[inline]
    fn pick(&self, seen: &Seen<'_>, rng: &mut SplitMix64) -> Option<u32> {
        let index = match &self.choosing {
            Choosing::Picker(picker) => picker.pick(seen, rng)?,
            Choosing::Kernel(slots) => {
                let service =
                    evenkeel_abi::Service { id: 0, slot_base: 0, slot_count: slots.len() as u32, flags: 0 };
                let bits = rng.next_u64();
                let slot = |i: u32| slots.get(i as usize).copied();
                // The kernel does not know of outcomes: it sees neither ejections nor what was tried before.
                let load = |i: u32| Some(seen.in_flight(i as usize));
                evenkeel_abi::choose(&service, [(bits >> 32) as u32, bits as u32], slot, load)?.backend
                    as usize
            }
        };
        Some(self.members[index])
    }
}
