// SPDX-License-Identifier: Apache-2.0
//! Zones: how the traffic of each zone is split over the zones, so that it stays local while the zone can take it.
//!
//! A [`Plan`] is a matrix of shares: a row for each zone that sends, a column for each zone that serves, in 1/65 536. It is
//! made of what is known of each zone: weights and health always, demand and capacity where they are measured. Traffic is
//! local up to the zone's limit; only the excess leaves, first to zones of the same region, then to all, in proportion to
//! what each has to spare; when nobody has anything to spare, the rest is spread by capacity, so that all are overloaded
//! alike. A [`Planner`] keeps a plan while it is good enough.
//!
//! Sources: the algebra is Envoy's zone-aware routing (`zone_aware.rst`, `load_balancer_impl.cc`: the local share is
//! upstream / local, the rest goes by residual capacity) with measured demand and capacity in place of host counts. With
//! other inputs it is Envoy's priority levels and its locality weights: `zone/envoy_tests.rs` holds their published tables.
//! Regions in order are what Google calls a waterfall.
//!
//! Always true here: every row sums to 65 536 exactly; a zone is given no more than its limit while there is room anywhere
//! (but for one unit of rounding per row); more demand in a zone never keeps more of it at home, as a share; `strict` never
//! leaves; the same input gives the same plan on any machine (+, −, ×, / and integers only). Cost: quadratic in zones,
//! linear in endpoints; nothing of this runs per request.
//!
//! When it fails: where demand is not reported, all zones are taken to send the same, which costs crossings when endpoints
//! are placed where the clients are and reports are missing; where capacity is not reported, an endpoint's weight is its
//! capacity, which is wrong on mixed hardware. A plan is as old as its reports: what happens between two of them is the
//! picker's work. Deliberately not here: collecting reports, prices, and which endpoint within a zone.

mod endpoints;
mod knowledge;
mod planner;
mod shares;
mod split;

pub use endpoints::{Endpoint, endpoint_weights, tally};
pub use planner::{Decision, Planner, Steadiness, Why};
pub use split::plan;

use crate::alias::WHOLE;
use crate::invalid::{Invalid, check};

/// What a Service asks for in `evenkeel.io/zone`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Local up to the limit, then the excess leaves.
    #[default]
    Prefer,
    /// Never leaves the zone, even when nobody serves there.
    Strict,
    /// Zones do not matter: by capacity.
    Ignore,
}

impl Policy {
    /// Every policy with the name users write.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Prefer, "prefer"), (Self::Strict, "strict"), (Self::Ignore, "ignore")];

    /// The policy of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(p, _)| *p)
    }
}

/// What is known of a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Zone {
    /// Sum of the weights of its endpoints, healthy or not. Zero: there is none.
    pub weight: u64,
    /// Sum of the weights of those that serve; what is above `weight` does not count.
    pub healthy: u64,
    /// Excess goes to zones of the same region first.
    pub region: u32,
    /// What the clients of this zone ask for, in a unit that all zones share (requests per second, busy servers). NaN and
    /// negative: not known. Above 10^18, infinity included, counts as 10^18.
    pub demand: Option<f64>,
    /// What its endpoints can carry when all of them are healthy, in the unit of demand. NaN, negative and zero: not
    /// known (to take a zone out, take its weights out). Bounded as demand.
    pub capacity: Option<f64>,
}

/// How plans are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// See [`Policy`].
    pub policy: Policy,
    /// Percent of a measured capacity that is a zone's limit, 1 to 100: waiting times explode well before 100.
    pub fill_percent: u32,
    /// Where capacity is not measured: percent of an even share of all demand that an endpoint is trusted with, at least
    /// 100. What is above 100 keeps small differences between zones from sending traffic across.
    pub headroom_percent: u32,
    /// A zone loses capacity only when healthy × this falls below all of it; at least 100. Envoy's is 140.
    pub overprovisioning_percent: u32,
}

impl Default for Config {
    /// `prefer`; a zone is full at 80 % of what was measured, or at 125 % of an even share; health is taken as it is.
    fn default() -> Self {
        Self {
            policy: Policy::Prefer,
            fill_percent: 80,
            headroom_percent: 125,
            overprovisioning_percent: 100,
        }
    }
}

impl Config {
    /// The configuration, if it makes sense.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn checked(self) -> Result<Self, Invalid> {
        let Self { policy: _, fill_percent: fill, headroom_percent, overprovisioning_percent } = self;
        check((1..=100).contains(&fill), "fill_percent", fill, "1 to 100")?;
        let range = 100..=10_000;
        check(range.contains(&headroom_percent), "headroom_percent", headroom_percent, "100 to 10000")?;
        let (over, name) = (overprovisioning_percent, "overprovisioning_percent");
        check(range.contains(&over), name, over, "100 to 10000")?;
        Ok(self)
    }
}

/// Why a zone's row is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// All of it fits at home.
    Local,
    /// More demand than the zone could take with all its endpoints healthy; the excess leaves.
    Overloaded,
    /// It would fit if all endpoints of the zone were healthy; the excess leaves.
    Degraded,
    /// There is not room enough anywhere; what fits nowhere is spread by capacity.
    AllOverloaded,
    /// The zone has no endpoint; all of it leaves.
    NoLocalEndpoint,
    /// No endpoint of the zone is healthy; all of it leaves.
    LocalDown,
    /// Strict: it stays.
    Strict,
    /// Strict, and nobody serves there.
    StrictUnserved,
    /// Zones are ignored.
    Ignored,
    /// Nothing is healthy anywhere: planned as if all were. Whether such endpoints are used is [`crate::panic`]'s affair.
    NoneHealthy,
    /// There is no endpoint at all: the row names the zone itself, and nobody is there.
    NoEndpoint,
}

impl Reason {
    /// The code shown to users.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Overloaded => "zone-overloaded",
            Self::Degraded => "zone-degraded",
            Self::AllOverloaded => "all-zones-overloaded",
            Self::NoLocalEndpoint => "no-local-endpoint",
            Self::LocalDown => "no-healthy-local-endpoint",
            Self::Strict => "strict",
            Self::StrictUnserved => "strict-unserved",
            Self::Ignored => "zones-ignored",
            Self::NoneHealthy => "nothing-healthy",
            Self::NoEndpoint => "no-endpoint",
        }
    }
}

/// The split from each zone to each zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Row by row.
    shares: Vec<u32>,
    reasons: Vec<Reason>,
    /// Whether all demand fits into all limits together. False also says: if panic is allowed, now.
    pub covered: bool,
    /// Whether any zone's demand is measured; else all zones are taken to send the same.
    pub demand_known: bool,
    /// Whether any zone's capacity is measured; else weights stand for it.
    pub capacity_known: bool,
}

impl Plan {
    /// How many zones it is for.
    #[must_use]
    pub fn zones(&self) -> usize {
        self.reasons.len()
    }

    /// Where the traffic of zone `from` goes, in 1/65 536; sums to 65 536. `from` is one of the zones planned for.
    #[must_use]
    pub fn row(&self, from: usize) -> &[u32] {
        &self.shares[from * self.zones()..][..self.zones()]
    }

    /// Why zone `from`'s row is as it is.
    #[must_use]
    pub fn reason(&self, from: usize) -> Reason {
        self.reasons[from]
    }

    /// The part of zone `from`'s traffic that leaves it, in 1/65 536.
    #[must_use]
    pub fn spill(&self, from: usize) -> u32 {
        WHOLE - self.row(from)[from]
    }
}

#[cfg(test)]
mod envoy_tests;
#[cfg(test)]
mod tests;
