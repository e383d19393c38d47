// SPDX-License-Identifier: Apache-2.0
//! What the node knows of an endpoint's load: requests in flight, outcomes, and whether it is in back-off.
//!
//! The counts are [`evenkeel_balance::load`]'s: recorded by a guard whose drop is the record, so that a cancelled
//! request is counted too. The back-off is plain: an endpoint that refused a connection is not picked until a moment
//! that doubles with each further refusal; outlier detection proper is a policy of its own and not here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evenkeel_balance::load::Load;
pub use evenkeel_balance::load::Outcome;

/// First back-off after a failed connect.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// Longest back-off.
const BACKOFF_LAST: Duration = Duration::from_secs(15);

/// One request in flight: see [`evenkeel_balance::load::InFlight`].
pub type InFlight = evenkeel_balance::load::InFlight<EndpointLoad>;

/// Load of one address. All counters are for this node since the agent's start.
#[derive(Debug, Default)]
pub struct EndpointLoad {
    load: Load,
    connect_failures: AtomicU32,
    /// Nanoseconds since the caller's epoch until which the endpoint is not picked.
    backoff_until: AtomicU64,
}

impl EndpointLoad {
    /// Counts a request in until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        InFlight::begin(self.clone())
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.load.in_flight()
    }

    /// Requests begun.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.load.requests()
    }

    /// Requests that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.load.failures()
    }

    /// Requests that were cancelled.
    #[must_use]
    pub fn cancelled(&self) -> u64 {
        self.load.cancelled()
    }

    /// A connect failed at `now_ns`: back off, twice as long as the last time. A failure while the back-off runs is
    /// another witness of the same fault and does not lengthen it.
    pub fn connect_failed(&self, now_ns: u64) {
        if self.backing_off(now_ns) {
            return;
        }
        let failures = self.connect_failures.fetch_add(1, Relaxed).min(16);
        let wait = BACKOFF_FIRST.saturating_mul(1 << failures).min(BACKOFF_LAST);
        self.backoff_until.store(now_ns.saturating_add(wait.as_nanos() as u64), Relaxed);
    }

    /// A connect succeeded: the back-off is over and forgotten.
    pub fn connected(&self) {
        if self.connect_failures.swap(0, Relaxed) != 0 {
            self.backoff_until.store(0, Relaxed);
        }
    }

    /// Whether the endpoint is in back-off.
    #[must_use]
    pub fn backing_off(&self, now_ns: u64) -> bool {
        self.backoff_until.load(Relaxed) > now_ns
    }
}

impl AsRef<Load> for EndpointLoad {
    fn as_ref(&self) -> &Load {
        &self.load
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_dropped_guard_counts_as_cancelled_and_leaves_nothing_in_flight() {
        let load = Arc::new(EndpointLoad::default());
        drop(load.begin());
        let mut failed = load.begin();
        assert_eq!(load.in_flight(), 1);
        failed.finish(Outcome::Failure);
        drop(failed);
        load.begin().finish(Outcome::Success);
        assert_eq!((load.in_flight(), load.requests(), load.failures(), load.cancelled()), (0, 3, 1, 1));
    }

    #[test]
    fn the_back_off_doubles_and_one_success_ends_it() {
        let load = EndpointLoad::default();
        load.connect_failed(0);
        assert!(load.backing_off(499 * MS) && !load.backing_off(500 * MS));
        load.connect_failed(600 * MS);
        assert!(load.backing_off(1_599 * MS) && !load.backing_off(1_600 * MS));
        load.connected();
        assert!(!load.backing_off(601 * MS));
        load.connect_failed(2_000 * MS);
        assert!(!load.backing_off(2_500 * MS));
    }

    #[test]
    fn many_witnesses_of_one_fault_are_one_fault() {
        let load = EndpointLoad::default();
        (0..100).for_each(|_| load.connect_failed(0));
        assert!(!load.backing_off(500 * MS));
    }

    #[test]
    fn the_back_off_is_bounded() {
        let load = EndpointLoad::default();
        let mut now = 0;
        for _ in 0..40 {
            load.connect_failed(now);
            now += 15_000 * MS;
            assert!(!load.backing_off(now));
        }
    }
}
