// SPDX-License-Identifier: Apache-2.0
//! What goes into the detector and what comes out of it: outcomes, states, decisions with their reasons.

use std::time::Duration;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The endpoint did its work.
    Success,
    /// It did not: refused, reset, timed out, answered with an error of its own.
    Failure,
    /// Nobody knows: cancelled by the client, say. Frees a probe, counts for nothing.
    Unknown,
}

/// What an endpoint is good for now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    /// Takes requests.
    Healthy,
    /// Takes none. After `until` it is half-open, or, if a sweep ejected it, healthy with the next sweep.
    Ejected {
        /// In the caller's time.
        until: Duration,
        /// Why it is out.
        cause: Cause,
    },
    /// Takes one request, as a probe.
    HalfOpen {
        /// It has been given out; nobody else now.
        probing: bool,
    },
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    /// A success rate (0 to 1) below the threshold that the others set.
    SuccessRate {
        /// The endpoint's.
        rate: f64,
        /// What it is below.
        threshold: f64,
    },
    /// Too many failures.
    FailurePercentage {
        /// The endpoint's success rate, 0 to 1.
        rate: f64,
        /// What it is below.
        threshold: f64,
    },
    /// That many failures in a row.
    Consecutive {
        /// How many.
        failures: u32,
    },
    /// The probe failed.
    ProbeFailed,
}

impl Cause {
    /// The code shown to users.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::SuccessRate { .. } => "success-rate",
            Self::FailurePercentage { .. } => "failure-percentage",
            Self::Consecutive { .. } => "consecutive-failures",
            Self::ProbeFailed => "probe-failed",
        }
    }
}

/// A decision about one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change<Id> {
    /// Whose.
    pub id: Id,
    /// What, and why.
    pub event: Event,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// Out.
    Ejected {
        /// Why.
        cause: Cause,
        /// Until when at least.
        until: Duration,
    },
    /// An outlier, but not taken out.
    Spared {
        /// What was found.
        cause: Cause,
        /// Why nothing came of it.
        because: Spared,
    },
    /// Back.
    Restored(Restored),
}

/// Why an outlier stays in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spared {
    /// As many are out as may be.
    Cap,
    /// The draw by the enforcement percentage.
    NotEnforced,
}

/// Why an endpoint is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Restored {
    /// Its probe succeeded.
    ProbeSucceeded,
    /// Its time is over.
    TimeServed,
    /// The list became shorter, and with it the number that may be out.
    ListShrank,
}
