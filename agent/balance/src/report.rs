// SPDX-License-Identifier: Apache-2.0
//! Weights from the endpoints' own load reports: requests per second over utilisation.
//!
//! Source: gRFC A58 (`weighted_round_robin`), reports as in gRFC A51 and xDS's `OrcaLoadReport`. An endpoint that serves
//! 100 requests per second at half of what it can do weighs 200. Its errors count as utilisation, so that one that fails
//! fast does not look strong. A weight is used only after a **blackout period** of steady reports (a fresh process is not
//! itself yet), and not after an **expiration period** without one; then the blackout begins anew.
//!
//! **Always true:** a report with a number that cannot be (NaN, infinite, negative) changes nothing, whatever its other
//! numbers; no weight given out is zero, infinite or NaN. An endpoint without a valid weight gets the mean of the valid
//! ones; with fewer than two valid ones the configured weights hold (A58 falls back to round robin). A weight is between a
//! tenth of the mean and ten times the mean, as in gRPC's core, so that no report can take all traffic or lose all.
//!
//! **Cost:** a report is a few divisions. [`weights`] is linear and allocates; it runs about once a second, not per pick.
//!
//! **When it fails:** if the bottleneck is not in the reported utilisation, weights run after noise. Two clients that see
//! different shares of an endpoint's traffic both compute from the endpoint's totals, so they agree; an endpoint that reports
//! what this client alone sent does not fit the formula.

use std::time::Duration;

use crate::invalid::{Invalid, check};

/// What an endpoint says of itself. Numbers may be anything: they come from the network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests per second that it serves, from all clients, failed ones included (`rps_fractional`).
    pub qps: f64,
    /// Requests per second that fail (`eps`).
    pub eps: f64,
    /// How busy the application says it is, 1 for fully (`application_utilization`). Zero: it does not say.
    pub application_utilization: f64,
    /// How busy the processor is, used when the application does not say (`cpu_utilization`). May exceed 1.
    pub cpu_utilization: f64,
}

/// Why a report was not used.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// A number that cannot be.
    #[error("{field} is {value}, which cannot be")]
    Impossible {
        /// The field's name in `OrcaLoadReport`.
        field: &'static str,
        /// What it holds: NaN, infinite or negative.
        value: f64,
    },
    /// A number without which there is no weight. Normal for an idle endpoint.
    #[error("{field} is zero, so the report gives no weight")]
    Empty {
        /// The field's name in `OrcaLoadReport`.
        field: &'static str,
    },
    /// Each number could be, but their quotient is zero or infinite.
    #[error("qps {qps} over utilisation {utilization} is out of range")]
    OutOfRange {
        /// Requests per second.
        qps: f64,
        /// Utilisation, errors included.
        utilization: f64,
    },
}

impl Report {
    /// The weight: requests per second over utilisation, to which errors per request are added `error_penalty` times.
    ///
    /// # Errors
    /// [`Unusable`], when the result would not be a finite number above zero.
    pub fn weight(&self, error_penalty: f64) -> Result<f64, Unusable> {
        for (field, value) in [
            ("rps_fractional", self.qps),
            ("eps", self.eps),
            ("application_utilization", self.application_utilization),
            ("cpu_utilization", self.cpu_utilization),
        ] {
            if !value.is_finite() || value < 0.0 {
                return Err(Unusable::Impossible { field, value });
            }
        }
        let busy = if self.application_utilization > 0.0 {
            self.application_utilization
        } else {
            self.cpu_utilization
        };
        match (self.qps > 0.0, busy > 0.0) {
            (false, _) => return Err(Unusable::Empty { field: "rps_fractional" }),
            (_, false) => return Err(Unusable::Empty { field: "cpu_utilization" }),
            _ => {}
        }
        let utilization = busy + self.eps / self.qps * error_penalty;
        let weight = self.qps / utilization;
        let usable = weight.is_finite() && weight > 0.0;
        if usable { Ok(weight) } else { Err(Unusable::OutOfRange { qps: self.qps, utilization }) }
    }
}

/// When a reported weight is used. Defaults are A58's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Reports must have come for this long. Default 10 s.
    pub blackout: Duration,
    /// A weight is not used this long after the last report. Default 180 s.
    pub expiration: Duration,
    /// By how much utilisation an endpoint that only fails appears busier. Default 1.
    pub error_penalty: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { blackout: Duration::from_secs(10), expiration: Duration::from_secs(180), error_penalty: 1.0 }
    }
}

impl Config {
    /// Whether it can be used.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), Invalid> {
        check(!self.expiration.is_zero(), "expiration", self.expiration, "above zero")?;
        let good = self.error_penalty.is_finite() && self.error_penalty >= 0.0;
        check(good, "error_penalty", self.error_penalty, "zero or more, and finite")
    }
}

/// What is kept of one endpoint's reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reported {
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Last {
    weight: f64,
    /// The first report since the blackout began.
    since: Duration,
    /// The last report.
    at: Duration,
}

impl Reported {
    /// An endpoint that has not reported.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Takes a report that came at `now`, on any monotonic clock. One that gives no weight leaves everything as it was, so
    /// an endpoint that reports nonsense keeps its last weight until it expires.
    ///
    /// # Errors
    /// Why the report was not used.
    pub fn observe(&mut self, report: &Report, now: Duration, config: &Config) -> Result<(), Unusable> {
        let weight = report.weight(config.error_penalty)?;
        let since = self.last.filter(|last| !last.expired(now, config)).map_or(now, |last| last.since);
        self.last = Some(Last { weight, since, at: now });
        Ok(())
    }

    /// The endpoint was connected to anew, perhaps another process: the blackout begins with its next report.
    pub fn reset(&mut self) {
        self.last = None;
    }

    /// The weight, if it may be used now.
    #[must_use]
    pub fn weight(&self, now: Duration, config: &Config) -> Option<f64> {
        self.last
            .filter(|last| !last.expired(now, config) && now.saturating_sub(last.since) >= config.blackout)
            .map(|last| last.weight)
    }
}

impl Last {
    fn expired(&self, now: Duration, config: &Config) -> bool {
        now.saturating_sub(self.at) >= config.expiration
    }
}

/// The lightest weight, in means.
const LIGHTEST: f64 = 0.1;
/// The heaviest weight, in means.
const HEAVIEST: f64 = 10.0;
/// The mean in the result's unit; ten times it, and the sum over any number of endpoints, stay in range.
const UNIT: f64 = 1_048_576.0;

/// The weights to pick by: for each configured weight what the endpoint at its place reported, in units of its own. Missing
/// ones, and ones that are not finite and above zero, become the mean of the others; with fewer than two left, the
/// configured weights hold. An endpoint whose configured weight is zero keeps that.
#[must_use]
pub fn weights(reported: &[Option<f64>], configured: &[u32]) -> Vec<u32> {
    let weight = |i: usize| reported.get(i).copied().flatten().filter(|w| w.is_finite() && *w > 0.0);
    let serving = || (0..configured.len()).filter(|i| configured[*i] > 0);
    let largest = serving().filter_map(weight).fold(0.0, f64::max);
    // Over the largest first: the sum of a few enormous weights would be infinite.
    let (sum, valid) =
        serving().filter_map(weight).fold((0.0, 0u32), |(sum, n), w| (sum + w / largest, n + 1));
    if valid < 2 {
        return configured.to_vec();
    }
    let mean = sum / f64::from(valid);
    let scaled = |i| weight(i).map_or(1.0, |w| (w / largest / mean).clamp(LIGHTEST, HEAVIEST));
    (0..configured.len())
        .map(|i| if configured[i] == 0 { 0 } else { (scaled(i) * UNIT + 0.5) as u32 })
        .collect()
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
