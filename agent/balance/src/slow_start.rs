// SPDX-License-Identifier: Apache-2.0
//! Slow start: the weight of a new endpoint grows over a window, so that cold caches and just-in-time compilers are not
//! met by a full share at once.
//!
//! Source: Envoy's slow start mode (`docs/root/intro/arch_overview/upstream/load_balancing/slow_start.rst`):
//! weight × max(minimum, (max(age, 1 s) / window)^(1 / aggression)). Its documented faults are what this file is careful
//! of: an endpoint whose weight is so small that it never gets a request (envoyproxy/envoy#19526). So the minimum cannot be
//! zero, a weight above zero never becomes zero by rounding, and ramps are relative: [`SlowStart::weights`] compares the
//! endpoints with each other, and when all are equally new nothing changes at all.
//!
//! Always true here: the factor grows with age, from the minimum to the whole, and is the whole from the end of the window
//! on; an endpoint's share is at least the minimum of what it would be when all are warm. The power is `libm`'s, in
//! software: the same age gives the same weight on any machine. Cost: one power per endpoint that is within its window, and
//! only when the weights are rebuilt.
//!
//! When it fails: when nearly all endpoints are new (a first deployment) there is nobody to take the load instead, and a
//! ramp helps nothing; when traffic moves at once to a zone with a single, new endpoint, all of it hits that one. Weights
//! follow only when the caller rebuilds: see [`SlowStart::warm`]. Deliberately not here: when an endpoint counts as new
//! (joined, or healthy again), which the caller knows.

use std::time::Duration;

use crate::alias::WHOLE;
use crate::invalid::{Invalid, check};

/// How weights grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// How long an endpoint is new; not zero.
    pub window: Duration,
    /// 1: the weight grows linearly. Above: fast at first. Below: late. Above zero and finite.
    pub aggression: f64,
    /// Percent of its weight that an endpoint has from the start, 1 to 100.
    pub min_weight_percent: u32,
}

impl Default for Config {
    /// 30 s, linear, Envoy's minimum of 10 %.
    fn default() -> Self {
        Self { window: Duration::from_secs(30), aggression: 1.0, min_weight_percent: 10 }
    }
}

/// Envoy's lower bound of an age: within the first second a weight does not move.
const FIRST_STEP: Duration = Duration::from_secs(1);

/// Ramps of a checked configuration.
#[derive(Clone, Copy, Debug)]
pub struct SlowStart {
    window: Duration,
    exponent: f64,
    minimum: u32,
}

impl SlowStart {
    /// Ramps by `config`.
    ///
    /// # Errors
    /// A window of zero, an aggression that is not a number above zero, a minimum of zero or above 100.
    pub fn new(config: Config) -> Result<Self, Invalid> {
        let Config { window, aggression, min_weight_percent } = config;
        check(!window.is_zero(), "window", window, "above zero")?;
        check(aggression.is_finite() && aggression > 0.0, "aggression", aggression, "a number above zero")?;
        let in_range = (1..=100).contains(&min_weight_percent);
        check(in_range, "min_weight_percent", min_weight_percent, "1 to 100")?;
        Ok(Self { window, exponent: aggression.recip(), minimum: WHOLE * min_weight_percent / 100 })
    }

    /// Whether an endpoint of this age has its whole weight: nothing changes from here on.
    #[must_use]
    pub fn warm(&self, age: Duration) -> bool {
        age >= self.window
    }

    /// What an endpoint of this age has of its weight, in 1/65 536: from the minimum to the whole.
    #[must_use]
    pub fn factor(&self, age: Duration) -> u32 {
        if self.warm(age) {
            return WHOLE;
        }
        let elapsed = age.max(FIRST_STEP).as_secs_f64() / self.window.as_secs_f64();
        let grown = libm::pow(elapsed.min(1.0), self.exponent) * f64::from(WHOLE);
        (grown as u32).clamp(self.minimum, WHOLE)
    }

    /// Weights in force for endpoints of these (weight, age), in the same order. Only their ratios mean something: when all
    /// are equally warm the weights come back as they are, else they are in a finer unit, with the whole of `u32` in use at
    /// most.
    #[must_use]
    pub fn weights(&self, endpoints: &[(u32, Duration)]) -> Vec<u32> {
        let factors: Vec<u32> = endpoints.iter().map(|(_, age)| self.factor(*age)).collect();
        if factors.windows(2).all(|pair| pair[0] == pair[1]) {
            return endpoints.iter().map(|(weight, _)| *weight).collect();
        }
        let scaled: Vec<u64> =
            endpoints.iter().zip(&factors).map(|((w, _), f)| u64::from(*w) * u64::from(*f)).collect();
        let largest = scaled.iter().copied().max().unwrap_or(0);
        let shift = (u64::BITS - largest.leading_zeros()).saturating_sub(u32::BITS);
        // Never to nothing: zero would take the endpoint out instead of slowing it.
        scaled.iter().map(|s| ((s >> shift) as u32).max(u32::from(*s > 0))).collect()
    }
}

#[cfg(test)]
#[path = "slow_start_tests.rs"]
mod tests;
