// SPDX-License-Identifier: Apache-2.0
//! What came out of a run: figures to compare, and series of bounded size to draw.
//!
//! Only requests that arrived after the warm-up are in figures and series, except where said; they are followed to their
//! end. Times are nanoseconds. Equal runs give equal outcomes, byte for byte; nothing here grows with simulated time.

mod histogram;

pub use histogram::Histogram;
use serde::Serialize;

/// How many steps a series has at most.
pub const STEPS: usize = 240;

/// How many endpoints get a line of their own.
pub const LINES: usize = 24;

/// One policy in one world.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Name of the policy.
    pub policy: String,
    /// The seed that was used.
    pub seed: u64,
    /// What is compared.
    pub figures: Figures,
    /// What is drawn.
    pub series: Series,
    /// Where all requests went, those of the warm-up included.
    pub balance: Balance,
}

/// Numbers to compare policies by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Requests that arrived.
    pub requests: u64,
    /// Of these, failed: error answered, timed out, refused by everybody tried, no endpoint.
    pub errors: u64,
    /// Of the errors, those for want of any endpoint.
    pub no_endpoint: u64,
    /// Of the errors, those that timed out or whose endpoint could not be reached.
    pub timeouts: u64,
    /// Mean latency of requests that succeeded, from the client's sending to its having the answer.
    pub mean_ns: f64,
    /// Median of the same, to 1 % as all percentiles here.
    pub p50_ns: u64,
    /// 90 % were faster.
    pub p90_ns: u64,
    /// 99 % were faster.
    pub p99_ns: u64,
    /// 99.9 % were faster.
    pub p999_ns: u64,
    /// The slowest.
    pub max_ns: u64,
    /// Requests in flight of the busiest endpoint over the mean of all, both averaged over time; of the service where it is
    /// worst. 1 is perfect, 0: nothing was in flight.
    pub skew_in_flight: f64,
    /// 99th percentile of the utilisation of endpoints over its mean; of the service where it is worst. 1 is perfect.
    pub skew_utilization: f64,
    /// Mean utilisation of endpoints, all services: busy places over all places, 0 to 1.
    pub utilization: f64,
    /// Share of requests served outside of their client's zone, 0 to 1.
    pub cross_zone: f64,
    /// Price of all bytes, requests and answers.
    pub cost: f64,
    /// Endpoints ejected by outlier detection, each agent counted for itself, the warm-up included.
    pub ejections: u64,
    /// Requests sent again to another endpoint, because the first refused or could not be reached.
    pub moved: u64,
    /// Connections opened anew because their endpoint went away.
    pub reopened: u64,
    /// Requests whose key (or whose connection) was last served by another endpoint.
    pub remapped: u64,
    /// Highest number of requests in one endpoint, waiting or served, at any of the (four per step) samples; the warm-up
    /// included.
    pub max_in_endpoint: u64,
    /// Events that the engine handled, the warm-up included.
    pub events: u64,
}

/// Conservation of requests, the warm-up included: `arrived` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Sent by a client.
    pub arrived: u64,
    /// Answered well.
    pub completed: u64,
    /// Ended otherwise.
    pub failed: u64,
    /// Not ended when the run was.
    pub in_flight: u64,
}

/// What is drawn. All steps are equally long; `step_ns` times their number is the scenario's duration (the warm-up is in them).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Length of a step.
    pub step_ns: u64,
    /// One per step, at most [`STEPS`].
    pub steps: Vec<Step>,
    /// In-flight requests of single endpoints over time, at most [`LINES`]: those that events name first, then evenly chosen.
    pub endpoints: Vec<Line>,
    /// Names of zones, for `flows`.
    pub zones: Vec<String>,
    /// Requests from client zone (row) to server zone (column).
    pub flows: Vec<Vec<u64>>,
    /// Latencies of requests that succeeded.
    pub latency: Histogram,
    /// Utilisation (0 to 1) at 101 quantiles over endpoints, the lowest first: 0 is the minimum, 50 the median, 100 the
    /// maximum. Empty without endpoints.
    pub utilization: Vec<f64>,
}

/// One step of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// Requests that ended well in it.
    pub completed: u64,
    /// Requests that ended otherwise.
    pub failed: u64,
    /// Of those that ended, served outside of their client's zone.
    pub cross_zone: u64,
    /// Median latency of those that ended well; 0 without any.
    pub p50_ns: u64,
    /// Their 99th percentile.
    pub p99_ns: u64,
    /// Mean number of requests in an endpoint (waiting or served), over endpoints and over samples in the step.
    pub load_mean: f64,
    /// The same of the busiest endpoint of each sample.
    pub load_max: f64,
    /// Endpoints that are alive, at the step's end.
    pub endpoints: u32,
}

/// One endpoint over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// SERVICE/GROUP/ORDINAL.
    pub name: String,
    /// Its zone.
    pub zone: usize,
    /// Mean number of requests in it (waiting or served) per step; NaN is never in here, 0 when it did not exist.
    pub load: Vec<f64>,
}
