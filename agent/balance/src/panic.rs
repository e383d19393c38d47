// SPDX-License-Identifier: Apache-2.0
//! Panic threshold: when too few endpoints are healthy, health is not believed any more and all of them serve.
//!
//! Source: Envoy's panic threshold (`docs/root/intro/arch_overview/upstream/load_balancing/panic_threshold.rst`), with its
//! rule that panic is disregarded while other priorities can take the load. Added here: a second, higher threshold to leave
//! by, because with a single one a set of endpoints at the edge is in and out of panic with every probe; and a reason for
//! every verdict, because panic that nobody sees surprises its users (projectcontour/contour#579).
//!
//! Always true here: between the two thresholds the verdict is the last one; without endpoints, and when switched off,
//! there is no panic. Arithmetic is in integers: the same counts give the same verdict on any machine. Cost: two
//! multiplications per observation.
//!
//! When it fails: when the unhealthy endpoints really are dead, panic sends them their share, and that share is lost.
//! Whoever prefers a quick error switches it off. Deliberately not here: who counts as healthy (ejected or not, draining or
//! not), and whether others can take the load ([`crate::zone::Plan::covered`]).

use crate::invalid::{Invalid, check};

/// The two thresholds, in percent of healthy endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Panic begins below this. 0: never.
    pub enter_percent: u32,
    /// Panic ends at this or above; at least `enter_percent`.
    pub leave_percent: u32,
}

impl Default for Config {
    /// Envoy's 50 %, and 5 points more to leave.
    fn default() -> Self {
        Self { enter_percent: 50, leave_percent: 55 }
    }
}

/// Why a verdict is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Switched off.
    Off,
    /// There is no endpoint at all.
    NoEndpoint,
    /// Enough endpoints are healthy.
    Enough,
    /// Too few are healthy, but others (zones, priorities) can take the whole load.
    Covered,
    /// Too few are healthy: panic.
    TooFew,
    /// More than when panic began, but not yet enough to end it: panic.
    NotYetEnough,
}

impl Reason {
    /// The code shown to users.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Off => "panic-off",
            Self::NoEndpoint => "no-endpoint",
            Self::Enough => "enough-healthy",
            Self::Covered => "covered-by-others",
            Self::TooFew => "too-few-healthy",
            Self::NotYetEnough => "not-yet-enough-healthy",
        }
    }

    /// Whether health is disregarded.
    #[must_use]
    pub const fn panicking(self) -> bool {
        matches!(self, Self::TooFew | Self::NotYetEnough)
    }
}

/// The state of one set of endpoints (a priority, a zone, a service).
#[derive(Clone, Debug)]
pub struct Panic {
    config: Option<Config>,
    reason: Reason,
}

impl Panic {
    /// Not in panic yet.
    ///
    /// # Errors
    /// A threshold above 100, or one to leave by that is below the one to enter by.
    pub fn new(config: Config) -> Result<Self, Invalid> {
        let Config { enter_percent, leave_percent } = config;
        check(enter_percent <= 100, "enter_percent", enter_percent, "at most 100")?;
        check(leave_percent <= 100, "leave_percent", leave_percent, "at most 100")?;
        check(leave_percent >= enter_percent, "leave_percent", leave_percent, "at least enter_percent")?;
        Ok(Self { config: Some(config), reason: Reason::NoEndpoint })
    }

    /// Switched off: never panics.
    #[must_use]
    pub const fn off() -> Self {
        Self { config: None, reason: Reason::Off }
    }

    /// The verdict for `healthy` of `total` endpoints. `covered`: others can take the whole load. More healthy endpoints
    /// than endpoints count as all of them.
    pub fn observe(&mut self, healthy: u64, total: u64, covered: bool) -> Reason {
        let Some(Config { enter_percent, leave_percent }) = self.config else { return self.reason };
        let below = |percent: u32| u128::from(healthy) * 100 < u128::from(percent) * u128::from(total);
        self.reason = if total == 0 {
            Reason::NoEndpoint
        } else if below(enter_percent) {
            if covered { Reason::Covered } else { Reason::TooFew }
        } else if self.reason.panicking() && below(leave_percent) {
            if covered { Reason::Covered } else { Reason::NotYetEnough }
        } else {
            Reason::Enough
        };
        self.reason
    }

    /// The last verdict.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn panic() -> Panic {
        Panic::new(Config::default()).unwrap()
    }

    #[test]
    fn panic_begins_below_the_one_threshold_and_ends_at_the_other() {
        let mut panic = panic();
        let reasons: Vec<_> =
            [60, 50, 49, 50, 54, 55, 50, 0].map(|healthy| panic.observe(healthy, 100, false)).into();
        use Reason::*;
        assert_eq!(reasons, [Enough, Enough, TooFew, NotYetEnough, NotYetEnough, Enough, Enough, TooFew]);
    }

    #[test]
    fn a_set_at_the_edge_does_not_flap() {
        let (mut panic, mut changes, mut last) = (panic(), 0, false);
        for healthy in [49, 50, 49, 51, 49, 52, 48, 53].repeat(10) {
            let now = panic.observe(healthy, 100, false).panicking();
            changes += u32::from(now != last);
            last = now;
        }
        assert_eq!(changes, 1);
    }

    #[test]
    fn nothing_panics_while_others_can_take_the_load() {
        let mut panic = panic();
        assert_eq!(panic.observe(1, 10, true), Reason::Covered);
        assert_eq!(panic.observe(1, 10, false), Reason::TooFew);
        assert_eq!(panic.observe(1, 10, true), Reason::Covered);
    }

    #[test]
    fn zero_endpoints_one_endpoint_and_all_unavailable_have_a_verdict() {
        let mut panic = panic();
        assert_eq!(panic.observe(0, 0, false), Reason::NoEndpoint);
        assert_eq!(panic.observe(1, 1, false), Reason::Enough);
        assert_eq!(panic.observe(0, 1, false), Reason::TooFew);
        assert_eq!(panic.observe(0, u64::MAX, false), Reason::TooFew);
        assert_eq!(panic.observe(u64::MAX, 1, false), Reason::Enough);
    }

    #[test]
    fn it_can_be_switched_off_in_two_ways() {
        assert_eq!(Panic::off().observe(0, 10, false), Reason::Off);
        let mut never = Panic::new(Config { enter_percent: 0, leave_percent: 0 }).unwrap();
        assert_eq!(never.observe(0, 10, false), Reason::Enough);
    }

    #[test]
    fn bad_thresholds_are_named() {
        let field = |enter_percent, leave_percent| {
            Panic::new(Config { enter_percent, leave_percent }).unwrap_err().field
        };
        assert_eq!(field(101, 101), "enter_percent");
        assert_eq!(field(50, 101), "leave_percent");
        assert_eq!(field(50, 49), "leave_percent");
    }

    proptest! {
        #[test]
        fn outside_the_two_thresholds_history_does_not_matter(
            history in prop::collection::vec(0u64..=100, 0..20), healthy in prop_oneof![0u64..50, 55u64..=100]
        ) {
            let mut seasoned = panic();
            for h in history {
                seasoned.observe(h, 100, false);
            }
            prop_assert_eq!(seasoned.observe(healthy, 100, false), panic().observe(healthy, 100, false));
        }
    }
}
