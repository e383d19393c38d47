// SPDX-License-Identifier: Apache-2.0
//! What is remembered of one endpoint, and for how long it is out.
//!
//! ```text
//!            failures in a row            back-off over, request admitted
//!  Healthy ───────────────────▶ BackOff ─────────────────────────────────▶ BackOff, probe in flight
//!     ▲ │                          ▲ ▲                                           │ │
//!     │ │ a sweep's finding        │ └──────── failure: twice as long ───────────┘ │
//!     │ └─────────▶ Ejected        └──────────  no outcome in time: as before ─────┤
//!     └───────────────┘ a sweep after `until`            success: healthy ◀────────┘
//! ```

use std::time::Duration;

use super::config::{Config, Consecutive};
use super::statistics::Counts;
use super::{Cause, State};
use crate::rng::Rng;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Changes with every change of status and with every probe: outcomes of requests that were admitted under another one
    /// say nothing about now. Unique over all endpoints of a detector, so that neither do those of an earlier life.
    pub(super) epoch: u64,
    pub(super) counts: Counts,
    pub(super) consecutive: u32,
    /// How often it was ejected lately: one less for each interval without.
    pub(super) multiplier: u32,
    pub(super) status: Status,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Status {
    Healthy,
    /// Until a sweep finds that the time is over (A50).
    Ejected {
        until: Duration,
        cause: Cause,
    },
    /// Until a probe succeeds, which is allowed from `until` on; one is in flight until `probing`.
    BackOff {
        until: Duration,
        cause: Cause,
        probing: Option<Duration>,
    },
}

impl Entry {
    pub(super) fn new(epoch: u64) -> Self {
        Self { epoch, counts: Counts::default(), consecutive: 0, multiplier: 0, status: Status::Healthy }
    }

    pub(super) fn is_healthy(&self) -> bool {
        matches!(self.status, Status::Healthy)
    }

    pub(super) fn state(&self, now: Duration) -> State {
        match self.status {
            Status::Healthy => State::Healthy,
            Status::Ejected { until, cause } => State::Ejected { until, cause },
            Status::BackOff { until, cause, .. } if now < until => State::Ejected { until, cause },
            Status::BackOff { probing, .. } => {
                State::HalfOpen { probing: probing.is_some_and(|deadline| now < deadline) }
            }
        }
    }

    /// When the endpoint may serve again at the earliest; zero when it does.
    pub(super) fn until(&self) -> Duration {
        match self.status {
            Status::Healthy => Duration::ZERO,
            Status::Ejected { until, .. } | Status::BackOff { until, .. } => until,
        }
    }

    pub(super) fn count(&mut self, success: bool) {
        let Counts { successes, failures } = &mut self.counts;
        let counter = if success { successes } else { failures };
        *counter = counter.saturating_add(1);
        self.consecutive = if success { 0 } else { self.consecutive.saturating_add(1) };
    }

    /// Out by A50: base × multiplier, bounded.
    pub(super) fn eject(&mut self, epoch: u64, config: &Config, cause: Cause, now: Duration) -> Duration {
        self.multiplier = self.multiplier.saturating_add(1);
        let bound = config.max_ejection_time.max(config.base_ejection_time);
        let time = config.base_ejection_time.saturating_mul(self.multiplier).min(bound);
        let until = now.saturating_add(time);
        self.enter(epoch, Status::Ejected { until, cause });
        until
    }

    /// Out with a probe to come: base doubled each time, bounded, then lengthened by the jitter.
    pub(super) fn back_off(
        &mut self,
        epoch: u64,
        config: &Consecutive,
        cause: Cause,
        now: Duration,
        rng: &mut dyn Rng,
    ) -> Duration {
        self.multiplier = self.multiplier.saturating_add(1);
        let doublings = 1u32.checked_shl(self.multiplier - 1).unwrap_or(u32::MAX);
        let time = config.base_backoff.saturating_mul(doublings).min(config.max_backoff);
        let until = now.saturating_add(time).saturating_add(jitter(time, config.jitter_percent, rng));
        self.enter(epoch, Status::BackOff { until, cause, probing: None });
        until
    }

    /// The probe in flight has no outcome: another may be sent.
    pub(super) fn give_up_probe(&mut self) {
        if let Status::BackOff { probing, .. } = &mut self.status {
            *probing = None;
        }
    }

    pub(super) fn restore(&mut self, epoch: u64) {
        self.enter(epoch, Status::Healthy);
    }

    fn enter(&mut self, epoch: u64, status: Status) {
        self.epoch = epoch;
        self.status = status;
        self.consecutive = 0;
        self.counts = Counts::default();
    }
}

/// A random part of `percent` of `time`.
fn jitter(time: Duration, percent: u32, rng: &mut dyn Rng) -> Duration {
    let most = time.as_nanos() * u128::from(percent) / 100;
    let part = (most.min(u128::from(u64::MAX)) * u128::from(rng.next_u32())) >> 32;
    Duration::from_nanos(part as u64)
}
