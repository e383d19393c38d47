// SPDX-License-Identifier: Apache-2.0
//! An agent's judgement of endpoints: who is ejected, and whether that is to be believed.
//!
//! The rules are the library's ([`evenkeel_balance::outlier`], [`evenkeel_balance::panic`]); here are the policy's settings and a bit
//! per endpoint, so that a pick asks the detector only about endpoints that are out (they may be half-open).

use std::time::Duration;

use evenkeel_balance::{
    outlier::{Change, Config, Consecutive, Detector, Event, Outcome, Ticket},
    panic::{self, Panic},
    rng::SplitMix64,
};

use super::agent::EJECTED;
use crate::model::{Outlier, Policy};

/// Outlier detection of one agent.
#[derive(Debug)]
pub(super) struct Health {
    detector: Detector<u32>,
    rng: SplitMix64,
    interval: u64,
    /// Ejections so far.
    pub(super) ejections: u64,
}

impl Health {
    /// `None` when the policy has no outlier detection.
    pub(super) fn new(policy: &Policy, seed: u64) -> Option<Self> {
        let config = config(&policy.outlier?);
        let interval = super::ns(config.interval);
        let detector = Detector::new(config).ok()?;
        Some(Self { detector, rng: SplitMix64::new(seed), interval, ejections: 0 })
    }

    /// Nanoseconds between sweeps.
    pub(super) fn interval(&self) -> u64 {
        self.interval
    }

    /// The endpoints are these now.
    pub(super) fn set_endpoints(&mut self, ids: impl IntoIterator<Item = u32>, barred: &mut [u8]) {
        let changes = self.detector.set_endpoints(ids);
        self.apply(&changes, barred);
        // Those that left the list are forgotten without a change.
        for (id, bits) in barred.iter_mut().enumerate() {
            let out = *bits & EJECTED != 0;
            if out
                && self.detector.state(id as u32, Duration::ZERO) == evenkeel_balance::outlier::State::Healthy
            {
                *bits &= !EJECTED;
            }
        }
    }

    /// Whether an endpoint that is out waits for a probe.
    pub(super) fn half_open(&self, endpoint: u32, now: u64) -> bool {
        self.detector.available(endpoint, Duration::from_nanos(now))
    }

    pub(super) fn admit(&mut self, endpoint: u32, now: u64) -> Ticket {
        self.detector.admit(endpoint, Duration::from_nanos(now))
    }

    /// A request has ended. True when somebody is out or back.
    pub(super) fn outcome(
        &mut self,
        endpoint: u32,
        ticket: Ticket,
        ok: bool,
        now: u64,
        barred: &mut [u8],
    ) -> bool {
        let outcome = if ok { Outcome::Success } else { Outcome::Failure };
        let change =
            self.detector.record(endpoint, ticket, outcome, Duration::from_nanos(now), &mut self.rng);
        self.apply(change.as_slice(), barred)
    }

    /// The end of an interval. True when somebody is out or back.
    pub(super) fn sweep(&mut self, now: u64, barred: &mut [u8]) -> bool {
        let changes = self.detector.sweep(Duration::from_nanos(now), &mut self.rng);
        self.apply(&changes, barred)
    }

    fn apply(&mut self, changes: &[Change<u32>], barred: &mut [u8]) -> bool {
        let mut changed = false;
        for Change { id, event } in changes {
            let bits = &mut barred[*id as usize];
            match event {
                Event::Ejected { .. } => {
                    *bits |= EJECTED;
                    self.ejections += 1;
                }
                Event::Restored(_) => *bits &= !EJECTED,
                Event::Spared { .. } => continue,
            }
            changed = true;
        }
        changed
    }
}

/// The library's defaults, but for what the policy says.
fn config(outlier: &Outlier) -> Config {
    let (defaults, breaker) = (Config::default(), Consecutive::default());
    let base_backoff = outlier.base_ejection.unwrap_or(breaker.base_backoff);
    let breaker = Consecutive {
        failures: outlier.consecutive.unwrap_or(breaker.failures),
        base_backoff,
        max_backoff: outlier.max_ejection.unwrap_or(breaker.max_backoff).max(base_backoff),
        ..breaker
    };
    Config {
        interval: outlier.interval.unwrap_or(defaults.interval),
        base_ejection_time: outlier.base_ejection.unwrap_or(defaults.base_ejection_time),
        max_ejection_time: outlier.max_ejection.unwrap_or(defaults.max_ejection_time),
        max_ejection_percent: outlier.max_ejected.map_or(defaults.max_ejection_percent, percent),
        consecutive: (breaker.failures > 0).then_some(breaker),
        ..defaults
    }
}

/// A share that has been checked to lie between 0 and 1, to the nearest percent.
fn percent(share: f64) -> u32 {
    (share * 100.0 + 0.5) as u32
}

/// Points above the threshold at which panic ends, as in the library's default.
const HYSTERESIS: u32 = 5;

/// Whether ejections are believed.
#[derive(Debug)]
pub(super) struct Panicking(Panic);

impl Panicking {
    pub(super) fn new(policy: &Policy) -> Self {
        let enter_percent = percent(policy.panic_below);
        if enter_percent == 0 {
            return Self(Panic::off());
        }
        let leave_percent = (enter_percent + HYSTERESIS).min(100);
        Self(Panic::new(panic::Config { enter_percent, leave_percent }).unwrap_or(Panic::off()))
    }

    #[inline]
    pub(super) fn now(&self) -> bool {
        self.0.reason().panicking()
    }

    pub(super) fn judge(&mut self, healthy: u64, total: u64, covered: bool) {
        self.0.observe(healthy, total, covered);
    }
}
