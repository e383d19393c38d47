// SPDX-License-Identifier: Apache-2.0
//! Runs one policy in one world, in virtual time.
//!
//! Discrete events: the earliest is taken from the queue, changes the world, and schedules others. Nothing else moves
//! time. Always true: a run is a function of (scenario, policy, seed); no map with a random order, no clock, no thread. Arrivals,
//! keys and the work of a request come from streams of their own, so that two policies meet the same requests in the same
//! order. Requests are conserved: what arrived has completed, failed, or is in flight. Memory follows what is under way and
//! what the scenario names, never how long it runs.
//!
//! * `arrival`, `draw`: randomness into times; `queue`: events in order;
//! * `client`, `connection`, `callers`: from an arrival to an answer, with retries and deadlines; `server`, `serve`: queues that work;
//! * `agent`, `health`, `table`, `pick`: what each node knows, and how it picks by it; `discovery`: news of endpoints, late;
//!   `stats`, `probe`: what servers say of themselves;
//! * `churn`, `rollout`: what happens to the world; `record`: figures and series.
//!
//! A request costs four events and one pick. Deliberately not here: any balancing; every choice is made by `evenkeel-balance`
//! or `evenkeel-abi`.

mod agent;
mod arrival;
mod build;
mod callers;
mod churn;
mod client;
mod connection;
mod discovery;
mod draw;
mod health;
mod pick;
mod probe;
mod queue;
mod record;
mod request;
mod rollout;
mod serve;
mod server;
mod stats;
mod table;

use std::{collections::BTreeMap, time::Duration};

use evenkeel_balance::{outlier::Ticket, picker::Needs, rng::SplitMix64};

use crate::{
    model::{Invalid, LostClients, Policy, Scenario},
    outcome::{Balance, Outcome},
};
use agent::Known;
use arrival::Stream;
use callers::Callers;
use client::{Client, Deadlines};
use connection::Connection;
use discovery::Endpoints;
use probe::Probes;
use queue::Queue;
use record::Recorder;
use request::Slab;
use rollout::Rollout;
use server::Server;
use stats::Stats;
use table::Table;

/// Runs `policy` in `scenario` with `seed`. `progress` is told the share of simulated time that has passed, 0 to 1, about 240
/// times. The same arguments give the same outcome on any machine.
///
/// # Errors
/// What [`Scenario::check`] and [`Policy::check`] find, and a trace whose zones have no clients; nothing was run then.
pub fn run(
    scenario: &Scenario,
    policy: &Policy,
    seed: u64,
    progress: &mut dyn FnMut(f64),
) -> Result<Outcome, Invalid> {
    scenario.check()?;
    policy.check()?;
    let mut world = World::new(scenario, policy, seed)?;
    world.start();
    while let Some((now, what)) = world.queue.pop() {
        debug_assert!(now >= world.now, "time goes forward");
        world.now = now;
        if now > world.end && world.over() {
            break;
        }
        world.record.figures.events += 1;
        world.handle(Kind::of(what), what, progress);
    }
    progress(1.0);
    Ok(world.finish(seed))
}

/// What an event is about; ties in time are handled in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// The measurement begins.
    Measure,
    /// A sample for the series.
    Sample,
    /// An event of the scenario.
    Action,
    /// A server is ready.
    Ready,
    /// A server that was told to end has ended.
    End,
    /// Discovery notices that a server does not answer.
    Detect,
    /// The next batch of a rollout is ready.
    Batch,
    /// Discovery publishes.
    Publish,
    /// A node hears of it.
    News,
    /// A server pauses.
    Pause,
    /// An agent computes again what depends on measurements.
    Update,
    /// A probe is answered.
    Probe,
    Done,
    AtServer,
    AtClient,
    /// A client gives up a server that it cannot reach.
    GiveUp,
    /// A deadline of a service.
    Deadline,
    /// The next request of a stream.
    Arrival,
    /// The next request of the trace.
    Trace,
}

impl Kind {
    const ALL: [Self; 19] = [
        Self::Measure,
        Self::Sample,
        Self::Action,
        Self::Ready,
        Self::End,
        Self::Detect,
        Self::Batch,
        Self::Publish,
        Self::News,
        Self::Pause,
        Self::Update,
        Self::Probe,
        Self::Done,
        Self::AtServer,
        Self::AtClient,
        Self::GiveUp,
        Self::Deadline,
        Self::Arrival,
        Self::Trace,
    ];

    /// The kind, a number below 2^26 (a generation) and an index, in 64 bits.
    #[inline]
    fn with(self, generation: u32, index: u32) -> u64 {
        (self as u64) << 58 | u64::from(generation % request::GENERATIONS) << 32 | u64::from(index)
    }

    #[inline]
    fn of(what: u64) -> Self {
        Self::ALL[(what >> 58) as usize]
    }
}

/// Nanoseconds; [`Scenario::check`] has seen to it that they fit.
fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Everything there is.
struct World<'a> {
    scenario: &'a Scenario,
    policy: &'a Policy,
    /// Of the policy's strategy.
    needs: Needs,
    now: u64,
    /// Arrivals stop.
    end: u64,
    /// Even what is in flight is no longer followed.
    last: u64,
    /// Requests that arrive from here on are measured.
    measured_from: u64,
    queue: Queue,
    streams: Vec<Stream>,
    trace_next: usize,
    random: Random,
    requests: Slab,
    /// Servers that have had a request, of those that were sent again.
    tried: BTreeMap<u32, Vec<u32>>,
    /// By a request's slot: its ticket for outlier detection.
    tickets: Vec<Option<Ticket>>,
    /// By service and key: the server that had it last. Empty unless the strategy pins.
    pins: Vec<Vec<u32>>,
    /// Live requests, and all that ever arrived.
    balance: Balance,
    servers: Vec<Server>,
    /// By server; read only when some strategy looks at it.
    stats: Vec<Stats>,
    /// Servers ever created, by service and group.
    created: Vec<Vec<u32>>,
    endpoints: Vec<Endpoints>,
    deadlines: Vec<Deadlines>,
    rollouts: Vec<Rollout>,
    clients: Vec<Client>,
    /// By group of clients: the first of them.
    first_clients: Vec<u32>,
    /// By client: the age at which its connections are closed.
    ages: Vec<Option<u64>>,
    connections: Vec<Connection>,
    callers: Callers,
    /// By zone: whether it is lost.
    lost: Vec<Option<LostClients>>,
    known: Vec<Known>,
    /// By what is known: who picks by it.
    known_tables: Vec<Vec<u32>>,
    tables: Vec<Table>,
    probes: Probes,
    network: Network,
    record: Recorder,
}

/// A stream of random numbers for each purpose.
struct Random {
    arrivals: SplitMix64,
    picks: SplitMix64,
    network: SplitMix64,
    world: SplitMix64,
}

impl Random {
    fn new(seed: u64) -> Self {
        // Far apart in SplitMix64's one cycle, whatever the seed.
        let stream = |n: u64| {
            let mut start = SplitMix64::new(seed ^ n.wrapping_mul(0xd1b5_4a32_d192_ed03));
            SplitMix64::new(evenkeel_balance::rng::Rng::next_u64(&mut start))
        };
        Self { arrivals: stream(1), picks: stream(2), network: stream(3), world: stream(4) }
    }
}

/// Latencies in nanoseconds, row by row.
struct Network {
    zones: usize,
    latency: Vec<u64>,
    jitter: u64,
    unreachable_after: u64,
}

impl Network {
    #[inline]
    fn way(&self, from: u32, to: u32, rng: &mut SplitMix64) -> u64 {
        self.latency[from as usize * self.zones + to as usize] + draw::up_to(self.jitter, rng)
    }
}

impl World<'_> {
    #[inline]
    fn handle(&mut self, kind: Kind, what: u64, progress: &mut dyn FnMut(f64)) {
        let index = what as u32;
        match kind {
            Kind::Arrival => self.arrival(what),
            Kind::AtServer if self.current(what) => self.at_server(index),
            Kind::Done if self.current(what) => self.done(index),
            Kind::AtClient if self.current(what) => self.at_client(index),
            Kind::GiveUp if self.current(what) => self.give_up(index),
            Kind::AtServer | Kind::Done | Kind::AtClient | Kind::GiveUp => {}
            Kind::Deadline => self.deadline(index as usize),
            Kind::Trace => self.trace(),
            Kind::Measure => self.measure(),
            Kind::Sample => self.sample(progress),
            Kind::Action => self.action(index as usize),
            Kind::Ready => self.ready(what),
            Kind::End => self.ended(what),
            Kind::Detect => self.detect(what),
            Kind::Batch => self.batch(index as usize),
            Kind::Publish => self.publish(index as usize),
            Kind::News => self.news(index as usize),
            Kind::Pause => self.pause(index as usize),
            Kind::Update => self.update(index as usize),
            Kind::Probe => self.probe(index as usize),
        }
    }

    /// Whether the event is of the request's present generation.
    #[inline]
    fn current(&mut self, what: u64) -> bool {
        let generation = (what >> 32) as u32 % request::GENERATIONS;
        self.requests.get(what as u32).generation == generation
    }

    /// Schedules the arrival of a request or of its answer, `after` from now and after the way from zone to zone.
    #[inline(always)]
    fn travel(&mut self, from: u32, to: u32, after: u64, kind: Kind, slot: u32) {
        let way = self.network.way(from, to, &mut self.random.network);
        self.at(self.now + after + way, kind, slot);
    }

    /// Schedules an event of a request.
    #[inline(always)]
    fn at(&mut self, time: u64, kind: Kind, slot: u32) {
        let generation = self.requests.get(slot).generation;
        self.queue.push(time, kind.with(generation, slot));
    }

    /// Whether nothing is left to follow.
    fn over(&self) -> bool {
        self.balance.in_flight == 0 || self.now > self.last
    }

    fn finish(mut self, seed: u64) -> Outcome {
        let ejections = self.known.iter().filter_map(|k| k.health.as_ref()).map(|h| h.ejections).sum();
        self.record.figures.ejections = ejections;
        let (figures, series) = self.record.finish(self.scenario);
        Outcome { policy: self.policy.name.clone(), seed, figures, series, balance: self.balance }
    }
}
