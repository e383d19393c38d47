// SPDX-License-Identifier: Apache-2.0
//! How requests are balanced in a run: which strategy of the library, over what, and with which of its other parts.
//!
//! Whatever is not said here has the library's defaults. Deliberately not here: any rule; see `evenkeel_balance`.

use std::time::Duration;

use evenkeel_balance::picker::{Needs, Strategy};

/// How requests are balanced.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Name, unique among those compared.
    pub name: String,
    /// What is balanced.
    pub per: Per,
    /// By which rule.
    pub chooser: Chooser,
    /// How many candidates `least-request` compares, 2 to 10; other strategies do not look at it.
    pub choices: u32,
    /// How zones are treated.
    pub zones: ZonePolicy,
    /// Outlier detection, with the library's defaults where not said otherwise. `None`: off.
    pub outlier: Option<Outlier>,
    /// Share of endpoints (0 to 1) below which ejections are ignored, because the rest could not carry the load. 0: never.
    pub panic_below: f64,
    /// New endpoints get a growing share over this time. Zero: at once.
    pub slow_start: Duration,
    /// Endpoints that one node talks to at least (deterministic aperture). 0: all.
    pub aperture: u32,
    /// How often a request is sent to another endpoint when one refuses it or cannot be reached.
    pub retries: u32,
    /// Who knows what.
    pub knowledge: Knowledge,
    /// How often what depends on measurements is computed again: weights from reports, splits between zones, sweeps of the
    /// outlier detector when it has no interval of its own. Above zero.
    pub update_every: Duration,
    /// Probes that are sent for each request, where the strategy looks at probes.
    pub probes: u32,
}

impl Policy {
    /// What its strategy needs of what agents know.
    #[must_use]
    pub fn needs(&self) -> Needs {
        match self.chooser {
            Chooser::Picker(strategy) => strategy.needs(),
            Chooser::Kernel => Needs::NONE,
        }
    }

    /// Per request by `strategy`, everything else off: all zones alike, no outlier detection, no retries.
    #[must_use]
    pub fn plain(name: &str, strategy: Strategy) -> Self {
        Self {
            name: name.to_owned(),
            per: Per::Request,
            chooser: Chooser::Picker(strategy),
            choices: 2,
            zones: ZonePolicy::Ignore,
            outlier: None,
            panic_below: 0.0,
            slow_start: Duration::ZERO,
            aperture: 0,
            retries: 0,
            knowledge: Knowledge::Node,
            update_every: Duration::from_secs(1),
            probes: 2,
        }
    }
}

/// What is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// Each request on its own.
    Request,
    /// Connections, when they are opened; requests follow them. In flight then means open connections.
    Connection,
}

/// The rule of choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Chooser {
    /// A picker of the library.
    Picker(Strategy),
    /// What the kernel programs do at `connect()`: the fewest open connections of four candidates ([`evenkeel_abi::choose`]).
    Kernel,
}

/// How zones are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZonePolicy {
    /// All endpoints alike.
    Ignore,
    /// The client's own zone as far as it has capacity; the excess goes to others.
    Prefer,
    /// Only the client's own zone.
    Strict,
}

/// Outlier detection. `None` in a field: the library's default.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Outlier {
    /// Failures in a row that eject an endpoint; 0 switches this rule off.
    pub consecutive: Option<u32>,
    /// Time between two sweeps of the statistical rules.
    pub interval: Option<Duration>,
    /// First back-off; grows with each ejection.
    pub base_ejection: Option<Duration>,
    /// Longest back-off.
    pub max_ejection: Option<Duration>,
    /// Share of endpoints that may be out at a time, 0 to 1; at least one always may.
    pub max_ejected: Option<f64>,
}

/// Who shares what is known of loads, latencies and outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Knowledge {
    /// One agent per node: what passed through this node.
    Node,
    /// Each client for itself, as a client library.
    Client,
    /// All share what passed through any of them, at once, and news of endpoints travels in no time, which no real system
    /// does: the yardstick.
    Global,
}
