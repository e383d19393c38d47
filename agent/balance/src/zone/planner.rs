// SPDX-License-Identifier: Apache-2.0
//! Hysteresis in time: a plan is kept while it does no harm.
//!
//! Every new plan moves connections and warms caches elsewhere, and reports are noisy; a plan that follows each of them
//! flaps. So a plan in force is judged against what is known now. If it overloads a zone, by more than a band, that the new
//! plan would not, the new one is adopted at once: overload hurts at once. If it is merely not the best any more (traffic
//! could come home, shares moved a little), it is kept until it has been in force for the hold time.
//!
//! Always true here: apart from harm, plans change at most once per hold time; a plan that sends to where nobody serves is
//! never kept when there is another; time that goes backwards counts as standing still. Cost: quadratic in zones.
//!
//! When it fails: harm is seen in demand and limits, so a plan made without reports is judged by weights; and with a hold
//! time shorter than the interval of the reports nothing is smoothed. Deliberately not here: smoothing the reports.

use std::time::Duration;

use super::knowledge::Knowledge;
use super::{Config, Plan, Zone, split};
use crate::alias::WHOLE;
use crate::invalid::{Invalid, check};

/// How reluctantly plans change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steadiness {
    /// Percent by which a zone's load may be above its limit, and above what the new plan would give it, before the plan
    /// in force is left at once; at most 100.
    pub band_percent: u32,
    /// How long a plan is in force before a better one replaces it. Zero: every new plan is adopted.
    pub hold: Duration,
}

impl Default for Steadiness {
    /// 5 %, and 30 s: three of the usual intervals of load reports.
    fn default() -> Self {
        Self { band_percent: 5, hold: Duration::from_secs(30) }
    }
}

/// Why the plan in force is what it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// There was none.
    First,
    /// Adopted: the number of zones changed.
    ZonesChanged,
    /// Adopted: the old one sent to a zone where nobody serves.
    Unserved,
    /// Adopted: the old one overloaded a zone.
    LeftBand,
    /// Adopted: better, and the old one had been in force for the hold time.
    HoldOver,
    /// Kept: a better one exists, but the old one does no harm.
    Held,
    /// Kept: nothing better exists.
    Same,
}

impl Why {
    /// The code shown to users.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::First => "first-plan",
            Self::ZonesChanged => "zones-changed",
            Self::Unserved => "zone-lost",
            Self::LeftBand => "left-band",
            Self::HoldOver => "hold-over",
            Self::Held => "held",
            Self::Same => "same",
        }
    }

    /// Whether the shares in force changed.
    #[must_use]
    pub const fn adopted(self) -> bool {
        !matches!(self, Self::Held | Self::Same)
    }
}

/// The plan in force after an update, and why.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// When it is kept, its shares and reasons are those of the time when it was adopted, and all else is of now.
    pub plan: &'a Plan,
    /// See [`Why`].
    pub why: Why,
}

/// Plans, and remembers the plan in force.
#[derive(Clone, Debug)]
pub struct Planner {
    config: Config,
    steadiness: Steadiness,
    in_force: Option<(Plan, Duration)>,
}

impl Planner {
    /// Without a plan yet.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn new(config: Config, steadiness: Steadiness) -> Result<Self, Invalid> {
        let band = steadiness.band_percent;
        check(band <= 100, "band_percent", band, "at most 100")?;
        Ok(Self { config: config.checked()?, steadiness, in_force: None })
    }

    /// The plan in force for `zones` at `now`, measured from any fixed start.
    pub fn update(&mut self, zones: &[Zone], now: Duration) -> Decision<'_> {
        let new = split::plan(zones, &self.config);
        let why = match &self.in_force {
            None => Why::First,
            Some((old, since)) => self.judge(zones, old, &new, now.saturating_sub(*since)),
        };
        let (kept, since) = match self.in_force.take() {
            Some((old, since)) if !why.adopted() => (
                Plan {
                    shares: old.shares,
                    reasons: if why == Why::Same { new.reasons.clone() } else { old.reasons },
                    ..new
                },
                since,
            ),
            _ => (new, now),
        };
        Decision { plan: &self.in_force.insert((kept, since)).0, why }
    }

    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.in_force.as_ref().map(|(plan, _)| plan)
    }

    fn judge(&self, zones: &[Zone], old: &Plan, new: &Plan, age: Duration) -> Why {
        if old.zones() != new.zones() {
            return Why::ZonesChanged;
        }
        if old.shares == new.shares {
            return Why::Same;
        }
        let known = Knowledge::of(zones, &self.config);
        let lost = |i: usize, j: usize| old.row(i)[j] > 0 && known.limit[j] == 0.0;
        if (0..zones.len()).any(|i| (0..zones.len()).any(|j| lost(i, j))) {
            return Why::Unserved;
        }
        let slack = 1.0 + f64::from(self.steadiness.band_percent) / 100.0;
        let (before, after) = (loads(old, &known.demand), loads(new, &known.demand));
        if (0..zones.len()).any(|j| before[j] > slack * known.limit[j].max(after[j])) {
            return Why::LeftBand;
        }
        if age >= self.steadiness.hold { Why::HoldOver } else { Why::Held }
    }
}

/// What each zone is given under a plan.
fn loads(plan: &Plan, demand: &[f64]) -> Vec<f64> {
    let part = |i: usize, j: usize| demand[i] * f64::from(plan.row(i)[j]) / f64::from(WHOLE);
    (0..demand.len()).map(|j| (0..demand.len()).map(|i| part(i, j)).sum()).collect()
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
