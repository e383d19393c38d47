// SPDX-License-Identifier: Apache-2.0
//! Requests in flight and how they ended, recorded by a guard whose drop is the record.
//!
//! Always true: what [`InFlight::begin`] counts in, the guard's drop counts out, whatever ended the request (an
//! answer, an error, a cancelled future, a panic); a guard that nobody told an outcome records
//! [`Outcome::Cancelled`]. The totals only grow, and never say more outcomes than requests begun.
//!
//! Beginning and ending cost two or three relaxed atomic additions, and no allocation. Counters are shared by all
//! threads: they are exact one by one, but two read one after the other may be a request apart.
//!
//! It fails where a guard is forgotten ([`std::mem::forget`]) or kept: the request then stays in flight, and pickers
//! avoid the endpoint for ever. It sees requests, not work: ten cheap ones count as much as ten dear ones.
//!
//! Deliberately not here: latency ([`crate::latency`]), back-off and ejection. Whoever keeps more per endpoint puts a
//! [`Load`] among it and implements `AsRef<Load>`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered, and the answer was no server failure.
    Success,
    /// Failed: reset, connection lost, a 5xx status or a gRPC status that means the server failed.
    Failure,
    /// The client went away first.
    Cancelled,
}

/// Load of one endpoint, since the counters exist.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    cancelled: AtomicU64,
}

impl Load {
    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Requests begun.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Requests that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Requests that were cancelled.
    #[must_use]
    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Relaxed)
    }
}

impl AsRef<Self> for Load {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// One request in flight. Dropping it is the record; without [`InFlight::finish`] it counts as cancelled.
#[derive(Debug)]
#[must_use = "a guard that is dropped at once records a cancelled request"]
pub struct InFlight<L: AsRef<Load> = Load> {
    load: Arc<L>,
    outcome: Outcome,
}

impl<L: AsRef<Load>> InFlight<L> {
    /// Counts a request in until the guard is dropped.
    pub fn begin(load: Arc<L>) -> Self {
        let counters = (*load).as_ref();
        counters.in_flight.fetch_add(1, Relaxed);
        counters.requests.fetch_add(1, Relaxed);
        Self { load, outcome: Outcome::Cancelled }
    }

    /// Notes how the request ended; the record is made when the guard is dropped. The last note counts.
    pub const fn finish(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// What the request counts on.
    #[must_use]
    pub const fn load(&self) -> &Arc<L> {
        &self.load
    }
}

impl<L: AsRef<Load>> Drop for InFlight<L> {
    fn drop(&mut self) {
        let counters = (*self.load).as_ref();
        counters.in_flight.fetch_sub(1, Relaxed);
        match self.outcome {
            Outcome::Success => {}
            Outcome::Failure => _ = counters.failures.fetch_add(1, Relaxed),
            Outcome::Cancelled => _ = counters.cancelled.fetch_add(1, Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(load: &Load) -> [u64; 4] {
        [load.in_flight(), load.requests(), load.failures(), load.cancelled()]
    }

    #[test]
    fn a_dropped_guard_counts_as_cancelled_and_leaves_nothing_in_flight() {
        let load = Arc::new(Load::default());
        drop(InFlight::begin(load.clone()));
        let mut failed = InFlight::begin(load.clone());
        assert_eq!(load.in_flight(), 1);
        failed.finish(Outcome::Failure);
        drop(failed);
        InFlight::begin(load.clone()).finish(Outcome::Success);
        assert_eq!(counts(&load), [0, 3, 1, 1]);
    }

    #[test]
    fn the_last_outcome_noted_is_the_one_recorded() {
        let load = Arc::new(Load::default());
        let mut guard = InFlight::begin(load.clone());
        guard.finish(Outcome::Success);
        guard.finish(Outcome::Failure);
        drop(guard);
        assert_eq!(counts(&load), [0, 1, 1, 0]);
    }

    #[test]
    fn a_panic_counts_out_too() {
        let load = Arc::new(Load::default());
        let guard = InFlight::begin(load.clone());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _guard = guard;
            panic!("the handler fails");
        }));
        assert!(result.is_err());
        assert_eq!(counts(&load), [0, 1, 0, 1]);
    }

    #[test]
    fn threads_leave_exact_counts() {
        let load = Arc::new(Load::default());
        std::thread::scope(|scope| {
            for outcome in [Outcome::Success, Outcome::Failure, Outcome::Cancelled, Outcome::Failure] {
                let load = load.clone();
                scope.spawn(move || (0..1_000).for_each(|_| InFlight::begin(load.clone()).finish(outcome)));
            }
        });
        assert_eq!(counts(&load), [0, 4_000, 2_000, 1_000]);
    }

    #[test]
    fn a_load_can_be_part_of_more() {
        #[derive(Default)]
        struct Endpoint {
            load: Load,
        }
        impl AsRef<Load> for Endpoint {
            fn as_ref(&self) -> &Load {
                &self.load
            }
        }
        let endpoint = Arc::new(Endpoint::default());
        let guard = InFlight::begin(endpoint.clone());
        assert_eq!(guard.load().load.in_flight(), 1);
        drop(guard);
        assert_eq!(counts(&endpoint.load), [0, 1, 0, 1]);
    }
}
