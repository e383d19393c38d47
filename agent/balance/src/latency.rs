// SPDX-License-Identifier: Apache-2.0
//! What latency to expect of an endpoint: a peak-sensitive moving average with a penalty for errors.
//!
//! Source: Finagle's `PeakEwma` (Twitter, 2014): a slow answer is taken at once, a recovery is believed slowly, and what an
//! answer weighs depends on the time since the last one, not on their number. Departures from it:
//!
//! * **Errors never improve it.** A fast error is not a fast answer: it leaves the latency alone and raises the share of
//!   errors, which is a moving average of its own; each part of it costs as much of a penalty. An error that took longer
//!   than the answers do (a timeout) is a peak as well.
//! * **It does not decay to zero.** An idle endpoint's peak decays to its typical latency, not below: an endpoint that hangs
//!   would otherwise look better the longer it hangs. After [`Config::forget`] without an answer it is cold.
//! * **Cold is not fast.** An endpoint that was never measured has no estimate, and the picker starts it from the mean of
//!   the others ([`crate::picker::PeakEwma`]). One that has only failed lately costs the full penalty until its share of
//!   errors has decayed, then it is cold: so no decaying penalty ever passes for a low latency.
//!
//! **Always true:** right after an error the estimate is not lower than right before; a peak is in force at once; equal
//! inputs give equal bits on any machine (the decay is a polynomial, not the platform's `exp`).
//!
//! **Cost:** plain data, 56 bytes; an observation and an estimate are a few dozen floating-point operations. For many
//! threads it goes behind the caller's lock or into the caller's per-thread shards; it is written once per response.
//!
//! **When it fails:** it believes in one latency per endpoint. Mixed cheap and dear requests make it restless. It cannot see
//! a request that has not been answered: requests in flight have to stand beside it, as in the picker. Measure at the first
//! response data, not at the end of the stream: a long answer is not a slow one.

use std::time::Duration;

use crate::invalid::{Invalid, check};

/// How fast the estimate forgets, and what an error costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// In this time a past answer, peak or error loses half of its weight. Default 5 s (Finagle's decay of 10 s, as a
    /// constant of e, is a half-life of 7 s).
    pub half_life: Duration,
    /// What an endpoint that only fails costs on top of its latency; at least a hundred times its latency is charged, so
    /// that it loses also where many requests are in flight to the others. Default 1 s.
    pub penalty: Duration,
    /// Without an answer for this long, the endpoint is cold again. Default 60 s.
    pub forget: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            half_life: Duration::from_secs(5),
            penalty: Duration::from_secs(1),
            forget: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Whether it can be used.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), Invalid> {
        check(!self.half_life.is_zero(), "half_life", self.half_life, "above zero")?;
        check(self.forget >= self.half_life, "forget", self.forget, "at least half_life")
    }

    /// What is left after `age` of a weight of one.
    fn left(&self, age: Duration) -> f64 {
        half_to_the(nanos(age) / nanos(self.half_life).max(1.0))
    }
}

/// At least this multiple of the latency is charged for errors.
const PENALTY_FACTOR: f64 = 100.0;

/// Below this share of errors an endpoint without a latency is cold, above it costs the penalty: three half-lives after a
/// first error, four after many.
const STILL_FAILING: f64 = 1.0 / 16.0;

/// What the first outcome of all weighs, when there is no time since the last one.
const FIRST: f64 = 0.5;

/// The estimate of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeakEwma {
    answers: Option<Answers>,
    /// The share of errors at the time of the last outcome, 0 to 1.
    errors: f64,
    last_outcome: Option<Duration>,
}

/// What the answers say, in nanoseconds, as of the last one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Answers {
    typical: f64,
    peak: f64,
    at: Duration,
}

impl Answers {
    fn peak_at(&self, now: Duration, config: &Config) -> f64 {
        self.peak * config.left(now.saturating_sub(self.at))
    }

    fn latency(&self, now: Duration, config: &Config) -> f64 {
        self.typical.max(self.peak_at(now, config))
    }
}

impl PeakEwma {
    /// An endpoint of which nothing is known: cold.
    #[must_use]
    pub const fn new() -> Self {
        Self { answers: None, errors: 0.0, last_outcome: None }
    }

    /// A request succeeded; its first response data came after `rtt`. Times are those of any monotonic clock; one that went
    /// back is taken for standing still.
    pub fn observe(&mut self, rtt: Duration, now: Duration, config: &Config) {
        self.outcome(0.0, now, config);
        let rtt = nanos(rtt);
        self.answers = Some(match self.fresh(now, config) {
            None => Answers { typical: rtt, peak: rtt, at: now },
            Some(last) => Answers {
                typical: mix(last.typical, rtt, config.left(now.saturating_sub(last.at))),
                peak: last.peak_at(now, config).max(rtt),
                at: now.max(last.at),
            },
        });
    }

    /// A request failed, `elapsed` after it was sent.
    pub fn penalise(&mut self, elapsed: Duration, now: Duration, config: &Config) {
        self.outcome(1.0, now, config);
        let Some(mut last) = self.fresh(now, config) else { return };
        let left = config.left(now.saturating_sub(last.at));
        if nanos(elapsed) > last.latency(now, config) && left > 0.0 {
            // Stored as of the last answer, so that it is `elapsed` now.
            last.peak = nanos(elapsed) / left;
            self.answers = Some(last);
        }
    }

    /// What to expect now, in nanoseconds, penalty included. `None`: cold.
    #[must_use]
    pub fn estimate(&self, now: Duration, config: &Config) -> Option<f64> {
        let errors = self.errors(now, config);
        match self.fresh(now, config) {
            Some(answers) => {
                let latency = answers.latency(now, config);
                Some(latency + errors * nanos(config.penalty).max(PENALTY_FACTOR * latency))
            }
            None if errors >= STILL_FAILING => Some(nanos(config.penalty)),
            None => None,
        }
    }

    /// The share of errors now, 0 to 1: each weighs by the time it stands for, and halves with each half-life.
    #[must_use]
    pub fn errors(&self, now: Duration, config: &Config) -> f64 {
        self.last_outcome.map_or(0.0, |at| self.errors * config.left(now.saturating_sub(at)))
    }

    fn outcome(&mut self, error: f64, now: Duration, config: &Config) {
        let left = self.last_outcome.map_or(FIRST, |at| config.left(now.saturating_sub(at)));
        self.errors = mix(self.errors, error, left);
        self.last_outcome = Some(self.last_outcome.map_or(now, |at| at.max(now)));
    }

    /// The answers, if they are not too old.
    fn fresh(&self, now: Duration, config: &Config) -> Option<Answers> {
        self.answers.filter(|answers| now.saturating_sub(answers.at) < config.forget)
    }
}

fn mix(old: f64, new: f64, left: f64) -> f64 {
    old * left + new * (1.0 - left)
}

fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// 2^-x for x of zero or more, within 0.008 %: powers of two exactly, between them a cubic through 1 and 1/2.
fn half_to_the(x: f64) -> f64 {
    /// Below 2^-1022 numbers lose bits; nothing here is worth that.
    const NOTHING_LEFT: f64 = 1_000.0;
    if x.is_nan() || x >= NOTHING_LEFT {
        return 0.0;
    }
    let whole = x as u64;
    let part = x - whole as f64;
    let power = f64::from_bits((1_023 - whole) << 52);
    power * (1.0 + part * (-0.691_656 + part * (0.231_248 - 0.039_592 * part)))
}

#[cfg(test)]
#[path = "latency_tests.rs"]
mod tests;
