// SPDX-License-Identifier: Apache-2.0
//! What a simulation is made of, as plain data: the world (a [`Scenario`]) and how requests are balanced in it (a
//! [`Policy`]). Parsing is elsewhere; running is in [`crate::engine`].
//!
//! Indices (`zone`, `service`, `group`, `clients`) point into the vectors of the scenario. Times are [`Duration`]s since the
//! start, exact to the nanosecond; the engine computes with integers. Factors and shares are `f64` and must be finite and in
//! the range named beside them: [`Scenario::check`] and [`Policy::check`] say which is not, by its path, before anything runs.
//!
//! Deliberately not here: a model of the kernel's TCP, of bandwidth, of DNS. A request is one message there and one back.

mod check;
mod policy;

use std::{sync::Arc, time::Duration};

pub use check::Invalid;
pub use policy::{Chooser, Knowledge, Outlier, Per, Policy, ZonePolicy};

/// The world that policies are compared in.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Short name.
    pub name: String,
    /// The question that it answers, in one sentence.
    pub question: String,
    /// The answer that was found; empty while unknown.
    pub answer: String,
    /// Default seed; a run is told which one to use.
    pub seed: u64,
    /// Arrivals stop at this time; what is in flight then is followed to its end.
    pub duration: Duration,
    /// Requests that arrive before this time are simulated but not measured. Less than `duration`.
    pub warm_up: Duration,
    /// At least one.
    pub zones: Vec<Zone>,
    /// Latency and price between zones.
    pub network: Network,
    /// At least one.
    pub services: Vec<Service>,
    /// Who sends requests.
    pub clients: Vec<Clients>,
    /// When they send them. May be empty when there is a `trace`.
    pub arrivals: Vec<Arrivals>,
    /// Recorded requests, in order of time, in addition to `arrivals`. Shared, because it may be long.
    pub trace: Arc<[TraceRequest]>,
    /// What happens to the world, in any order.
    pub events: Vec<Event>,
    /// How late news of endpoints is.
    pub discovery: Discovery,
}

/// A failure and price domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Name, unique.
    pub name: String,
    /// Nodes in it, each with an agent of its own. At least 1.
    pub nodes: u32,
}

/// Latency and price between zones.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// One way, from client zone (row) to server zone (column). Square, one row per zone. The way back uses the transposed
    /// entry.
    pub latency: Vec<Vec<Duration>>,
    /// Added to each way, uniformly from zero to this.
    pub jitter: Duration,
    /// Price of a GiB from zone (row) to zone (column), in any currency; not negative. Square, one row per zone.
    pub price_per_gib: Vec<Vec<f64>>,
    /// How long a client waits for an endpoint whose zone is lost before its request counts as failed.
    pub unreachable_after: Duration,
}

impl Network {
    /// The same latency within all zones, another between any two, and one price between any two.
    #[must_use]
    pub fn uniform(zones: usize, within: Duration, between: Duration, price_per_gib: f64) -> Self {
        let square = |same, other| {
            (0..zones).map(|a| (0..zones).map(|b| if a == b { same } else { other }).collect()).collect()
        };
        Self {
            latency: square(within, between),
            jitter: Duration::ZERO,
            price_per_gib: (0..zones)
                .map(|a| (0..zones).map(|b| if a == b { 0.0 } else { price_per_gib }).collect())
                .collect(),
            unreachable_after: Duration::from_secs(1),
        }
    }
}

/// Something that is balanced.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Name, unique.
    pub name: String,
    /// Its servers; may be empty (then every request fails).
    pub groups: Vec<Group>,
    /// A request that has no answer after this time fails, and its client forgets it. `None`: waits for ever.
    pub timeout: Option<Duration>,
    /// Bytes of a request, for the price.
    pub request_bytes: u64,
    /// Bytes of its answer, for the price.
    pub response_bytes: u64,
    /// How many different keys requests are pinned by, where a strategy looks at keys. Keys are drawn uniformly. 0: none.
    pub keys: u32,
}

/// Servers that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Name, unique in the service.
    pub name: String,
    /// Where they are.
    pub zone: usize,
    /// How many at the start.
    pub count: u32,
    /// Requests that one serves at a time. At least 1.
    pub concurrency: u32,
    /// Requests that may wait in one; more are refused at once. `None`: any number.
    pub queue: Option<u32>,
    /// How long one request keeps one of the `concurrency` places busy, at speed 1 and cost 1.
    pub service_time: ServiceTime,
    /// 2.0 is twice as fast. Above zero.
    pub speed: f64,
    /// Weight as published by discovery. Zero: gets nothing while others have weight.
    pub weight: u32,
    /// Stop-the-world pauses.
    pub pauses: Option<Pauses>,
    /// How requests fail here from the start.
    pub failures: Failures,
    /// How a new server is slower. Servers of the start are warm.
    pub cold: Option<Cold>,
}

/// Distribution of the time that a request needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// Always the same.
    Fixed(Duration),
    /// Exponential with this mean.
    Exponential {
        /// Mean.
        mean: Duration,
    },
    /// Lognormal.
    Lognormal {
        /// Mean of the times themselves (not of their logarithm).
        mean: Duration,
        /// Standard deviation of the logarithm; 0 to 5. 1.0 has a heavy tail.
        sigma: f64,
    },
    /// Mostly short, sometimes long.
    Bimodal {
        /// The usual time.
        short: Duration,
        /// The unusual time.
        long: Duration,
        /// Share of requests that take `long`, 0 to 1.
        long_share: f64,
    },
}

impl ServiceTime {
    /// The mean, in nanoseconds.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        match *self {
            Self::Fixed(time) | Self::Exponential { mean: time } | Self::Lognormal { mean: time, .. } => {
                time.as_nanos() as f64
            }
            Self::Bimodal { short, long, long_share } => {
                short.as_nanos() as f64 * (1.0 - long_share) + long.as_nanos() as f64 * long_share
            }
        }
    }
}

/// Pauses in which a server does nothing, as a garbage collector's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// Mean time from one's end to the next's start, exponential. Above zero.
    pub every: Duration,
    /// How long one takes.
    pub length: Duration,
}

/// How requests fail in a server that is otherwise alive.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Failures {
    /// Share of requests that fail fast, 0 to 1: answered with an error after `fast_after`, without waiting their turn.
    pub fast: f64,
    /// See `fast`.
    pub fast_after: Duration,
    /// Share of requests that fail slowly, 0 to 1 together with `fast`: they keep a place busy for `slow_after`, then end in
    /// an error.
    pub slow: f64,
    /// See `slow`.
    pub slow_after: Duration,
}

/// How a server is slow while its caches are cold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cold {
    /// The first request takes this many times as long. At least 1.
    pub slowdown: f64,
    /// The slowdown goes down linearly, and is gone after so many requests.
    pub requests: u32,
}

/// Clients that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// Name, unique.
    pub name: String,
    /// Zone whose nodes they run on, in turn. `None`: the nodes of all zones, in turn.
    pub zone: Option<usize>,
    /// How many. At least 1.
    pub count: u32,
    /// The service they call.
    pub service: usize,
    /// Connections that each one holds, when balancing is per connection; its requests use them in turn. At least 1.
    pub connections: u32,
    /// A connection is closed and opened anew after a request when it is older. `None`: kept for ever.
    pub connection_age: Option<Duration>,
}

/// A stream of requests. Open loop: it does not wait for answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    /// Who sends them; each is sent by one of these clients, drawn uniformly.
    pub clients: usize,
    /// When.
    pub process: Process,
    /// What one costs: its service time is multiplied by this. Above zero.
    pub cost: f64,
}

/// When requests arrive. Rates are requests per second, all clients of the stream together; above zero, at most 10^9.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Process {
    /// Independent of each other.
    Poisson {
        /// Mean rate.
        rate: f64,
    },
    /// Poisson, with bursts in between.
    Burst {
        /// Rate outside of bursts; may be zero.
        rate: f64,
        /// Rate in bursts.
        burst_rate: f64,
        /// From the start of a burst to the start of the next; the first starts at `every` − `length`.
        every: Duration,
        /// How long one takes; less than `every`.
        length: Duration,
    },
    /// Poisson, with a rate that goes up and down as a sine wave, from its mean at the start.
    Diurnal {
        /// Mean rate.
        rate: f64,
        /// How far it goes up and down, as a share of the mean, 0 to 1.
        amplitude: f64,
        /// The length of a day.
        period: Duration,
    },
}

/// One request of a recorded trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceRequest {
    /// When; not before the one before it.
    pub at: Duration,
    /// Zone of the client; the request is sent by a client of the service there, in turn.
    pub zone: usize,
    /// The service.
    pub service: usize,
    /// See [`Arrivals::cost`].
    pub cost: f64,
}

/// How late news of endpoints is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// From a change (ready, draining, gone, weight) to its being published. Changes within this time go out together.
    pub debounce: Duration,
    /// From there to a node.
    pub delay: Duration,
    /// Added for each node and change, uniformly from zero to this.
    pub jitter: Duration,
    /// From a crash or the loss of a zone to discovery's knowing of it (probes, node leases).
    pub detect_after: Duration,
}

impl Default for Discovery {
    /// Discovery's own debounce, a push of a few milliseconds, and a readiness probe that fails three times in 10 s.
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(100),
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(10),
            detect_after: Duration::from_secs(10),
        }
    }
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When; not after the scenario's `duration`.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// Which servers an action is about: ordinals `first` to `first + count - 1` of a group, in order of creation. Those that
/// do not exist (any more) are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pods {
    /// The service.
    pub service: usize,
    /// A group of it. `None`: each of its groups.
    pub group: Option<usize>,
    /// Ordinal of the first.
    pub first: u32,
    /// How many. `u32::MAX`: all from `first` on.
    pub count: u32,
}

/// What may happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Servers go at `factor` times their group's speed from now on (0.1: ten times as slow). Above zero.
    Speed {
        /// Which.
        pods: Pods,
        /// See above.
        factor: f64,
    },
    /// Requests fail in this way from now on; [`Failures::default`] heals.
    Fail {
        /// Which.
        pods: Pods,
        /// How.
        failures: Failures,
    },
    /// Servers die: what they have fails now, what comes is refused. Discovery notices `detect_after` later.
    Crash {
        /// Which.
        pods: Pods,
        /// They come back, ready and cold, after this time. `None`: never.
        restart_after: Option<Duration>,
    },
    /// Discovery publishes another weight.
    Weight {
        /// Which.
        pods: Pods,
        /// See [`Group::weight`].
        weight: u32,
    },
    /// All servers in a zone can no longer be reached: requests to them and in them hang until the client gives up.
    ZoneLost {
        /// Which.
        zone: usize,
        /// What happens to the clients in it.
        clients: LostClients,
    },
    /// A lost zone is back: its servers are ready and cold, its clients send again.
    ZoneRegained {
        /// Which.
        zone: usize,
    },
    /// All servers of a service (or of one group) are replaced, `batch` at a time and group by group.
    Rollout {
        /// The service.
        service: usize,
        /// One group. `None`: each of its groups, all at the same time.
        group: Option<usize>,
        /// Servers replaced at a time. At least 1.
        batch: u32,
        /// From the creation of a server to its being ready. Only then is an old one told to end.
        ready_after: Duration,
        /// How long a server that was told to end still serves; what it then has, fails.
        grace: Duration,
    },
    /// A group gets `to` servers: new ones are cold and ready after `ready_after`, the newest ones go first, with `grace`.
    Scale {
        /// The service.
        service: usize,
        /// The group.
        group: usize,
        /// How many servers it shall have.
        to: u32,
        /// See [`Action::Rollout`].
        ready_after: Duration,
        /// See [`Action::Rollout`].
        grace: Duration,
    },
    /// A stream of requests goes at `factor` times its rate from now on. 0 to 1000; zero silences it.
    Rate {
        /// Index into the scenario's `arrivals`.
        arrivals: usize,
        /// See above.
        factor: f64,
    },
}

/// What becomes of the clients of a lost zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum LostClients {
    /// Only its servers are lost.
    Stay,
    /// They send nothing.
    Gone,
    /// Their users come in through the other zones: the rate stays the same.
    #[default]
    Move,
}

#[cfg(test)]
mod tests;
