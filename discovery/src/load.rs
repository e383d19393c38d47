// SPDX-License-Identifier: Apache-2.0
//! Load that clients report (LRS), kept as demand and outcome per Service port, client zone and endpoint zone. Pure: time is
//! an argument.
//!
//! | file | what it is |
//! |---|---|
//! | `report` | one message of a client into checked entries; what is nonsense is counted by reason |
//! | `book` | entries into intervals: the last ones, and sums since the start |
//!
//! Source: `envoy.service.load_stats.v3` and gRFC A27 (load reporting). Counts in a report are those since the client's
//! last report; only requests in progress are a level.
//!
//! What must always be true: memory is bounded whatever clients send (clusters that are served, [`MAX_ZONES`] zones,
//! [`MAX_CELLS`] combinations); no number of a client can turn a sum into NaN, infinity or a negative; what is left out is
//! counted.
//!
//! Deliberately not here: acting on it. The governor, which turns demand into weights, is to read [`Book::flows`].

mod book;
mod report;

use std::time::Duration;

pub use self::book::{Book, Flow, Reading, Totals};
pub use self::report::{Entry, Ignored, Report, read};

/// How often clients are asked to report, and the length of an interval. Short enough to follow a rush within a minute,
/// long enough that 5 000 clients send 500 reports a second.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Complete intervals that are kept.
pub const KEPT: usize = 6;
/// Combinations of port, client zone and endpoint zone. 10 000 ports in three zones need 90 000.
pub const MAX_CELLS: usize = 100_000;
/// Different names of zones.
pub const MAX_ZONES: usize = 128;
/// Clusters in one report; the rest of it is left out.
pub const MAX_CLUSTERS: usize = 20_000;
/// Localities of one cluster in one report; the rest is left out.
pub const MAX_LOCALITIES: usize = 64;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Requests begun.
    pub issued: u64,
    /// Requests that ended well.
    pub succeeded: u64,
    /// Requests that ended badly.
    pub failed: u64,
    /// Requests that clients gave up before they picked an endpoint.
    pub dropped: u64,
    /// Requests in progress × time, in request-seconds.
    pub busy: f64,
    /// Requests whose endpoint told how busy it is.
    pub told: u64,
    /// The sum of what those told; 1.0 is an endpoint that is full.
    pub utilization: f64,
}

impl Counts {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Adds; counters stay at their largest value instead of starting over.
    pub fn add(&mut self, other: &Self) {
        let Self { issued, succeeded, failed, dropped, busy, told, utilization } = other;
        for (sum, more) in [
            (&mut self.issued, issued),
            (&mut self.succeeded, succeeded),
            (&mut self.failed, failed),
            (&mut self.dropped, dropped),
            (&mut self.told, told),
        ] {
            *sum = sum.saturating_add(*more);
        }
        self.busy += busy;
        self.utilization += utilization;
    }

    /// Mean utilization; `None` if no endpoint told any.
    #[must_use]
    pub fn mean_utilization(&self) -> Option<f64> {
        (self.told > 0).then(|| self.utilization / self.told as f64)
    }
}

#[cfg(test)]
mod tests;
