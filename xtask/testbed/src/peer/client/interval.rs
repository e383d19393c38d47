// SPDX-License-Identifier: Apache-2.0
//! What happened in one measuring interval, and what has happened since the last live line.
//!
//! A request belongs to the interval in which it was due, whenever it ends; so an interval is complete only when
//! nothing of it is outstanding, which a guard keeps count of. Deliberately not here: clocks and sockets.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::Notify;

use crate::peer::grpc::Reply;
use crate::peer::messages::{
    ClientLive, FAILURES_KEPT, Failure, FailureKind, NewConnectionError, NewConnectionErrorKind, Report,
};

/// Three digits: finer than the millisecond of the timers that schedule requests.
const DIGITS: u8 = 3;

/// How a request ended.
pub(super) enum Outcome {
    /// Answered with status OK.
    Answered {
        /// What it said.
        reply: Reply,
        /// Whether the server saw the client's own address.
        source_matches: bool,
    },
    /// Not.
    Failed(FailureKind),
}

/// One measuring interval.
pub(super) struct Interval {
    report: RefCell<Report>,
    latencies: RefCell<Histogram<u64>>,
    outstanding: Cell<u64>,
    complete: Notify,
}

/// A request that has not ended.
pub(super) struct Outstanding(Rc<Interval>);

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.set(self.0.outstanding.get() - 1);
        if self.0.outstanding.get() == 0 {
            self.0.complete.notify_waiters();
        }
    }
}

impl Interval {
    pub(super) fn begin(name: &str, zone: &str) -> Rc<Self> {
        let report = Report { name: name.to_owned(), zone: zone.to_owned(), ..Report::default() };
        Rc::new(Self {
            report: RefCell::new(report),
            latencies: RefCell::new(histogram()),
            outstanding: Cell::new(0),
            complete: Notify::new(),
        })
    }

    /// Counts a request as begun.
    pub(super) fn request(self: &Rc<Self>) -> Outstanding {
        self.outstanding.set(self.outstanding.get() + 1);
        Outstanding(self.clone())
    }

    /// Records how a request on a long-lived connection ended.
    pub(super) fn ended(&self, due_us: u64, latency: Duration, outcome: &Outcome) {
        let report = &mut *self.report.borrow_mut();
        report.requests += 1;
        match outcome {
            Outcome::Answered { reply, source_matches } => {
                report.succeeded += 1;
                count(&mut report.pods, &reply.pod);
                count(&mut report.zones, &reply.zone);
                report.source_mismatches += u64::from(!source_matches);
            }
            Outcome::Failed(kind) => fail(report, Failure { at_us: due_us, kind: *kind, churn: false }),
        }
        if counts_as_latency(outcome) {
            self.latencies.borrow_mut().saturating_record(micros(latency));
        }
    }

    /// Records how the one request of a short-lived connection ended.
    pub(super) fn churn_ended(&self, due_us: u64, outcome: &Outcome) {
        let report = &mut *self.report.borrow_mut();
        report.churned += 1;
        match outcome {
            Outcome::Answered { source_matches, .. } => {
                report.source_mismatches += u64::from(!source_matches)
            }
            Outcome::Failed(kind) => fail(report, Failure { at_us: due_us, kind: *kind, churn: true }),
        }
    }

    /// Records a short-lived connection that could not be opened, and so a request that was never sent.
    pub(super) fn churn_unopened(&self) {
        self.report.borrow_mut().churned += 1;
    }

    pub(super) fn connected(&self) {
        self.report.borrow_mut().connects += 1;
    }

    pub(super) fn not_connected(&self, at_us: u64, kind: NewConnectionErrorKind, detail: String) {
        let report = &mut *self.report.borrow_mut();
        report.new_connection_errors_total += 1;
        if report.new_connection_errors.len() < FAILURES_KEPT {
            report.new_connection_errors.push(NewConnectionError { at_us, kind, detail });
        }
    }

    /// Waits until no request of the interval is outstanding, then gives everything.
    pub(super) async fn finish(&self, length: Duration, connections: Vec<BTreeSet<String>>) -> Report {
        while self.outstanding.get() > 0 {
            self.complete.notified().await;
        }
        let mut report = self.report.borrow().clone();
        report.interval_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        report.latencies = recorded(&self.latencies.borrow());
        report.connections = connections;
        report
    }
}

/// Sums for the terminal, taken and emptied four times a second.
pub(super) struct Live {
    line: RefCell<ClientLive>,
    latencies: RefCell<Histogram<u64>>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self { line: RefCell::default(), latencies: RefCell::new(histogram()) }
    }

    pub(super) fn ended(&self, zone: &str, latency: Duration, outcome: &Outcome) {
        let line = &mut *self.line.borrow_mut();
        line.requests += 1;
        match outcome {
            Outcome::Answered { reply, .. } => line.zone_local += u64::from(reply.zone == zone),
            Outcome::Failed(_) => line.failures += 1,
        }
        if counts_as_latency(outcome) {
            self.latencies.borrow_mut().saturating_record(micros(latency));
        }
    }

    pub(super) fn not_connected(&self) {
        self.line.borrow_mut().new_connection_errors += 1;
    }

    pub(super) fn take(&self) -> ClientLive {
        let mut line = std::mem::take(&mut *self.line.borrow_mut());
        let mut latencies = self.latencies.borrow_mut();
        line.latencies = recorded(&latencies);
        latencies.reset();
        line
    }
}

/// A missed deadline is a latency of at least the deadline; leaving it out would make overload look fast.
fn counts_as_latency(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answered { .. } | Outcome::Failed(FailureKind::Deadline))
}

fn fail(report: &mut Report, failure: Failure) {
    report.failures_total += 1;
    if report.failures.len() < FAILURES_KEPT {
        report.failures.push(failure);
    }
}

fn count(counts: &mut std::collections::BTreeMap<String, u64>, key: &str) {
    match counts.get_mut(key) {
        Some(count) => *count += 1,
        None => drop(counts.insert(key.to_owned(), 1)),
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}

fn histogram() -> Histogram<u64> {
    // A minute is far above any deadline; larger values are recorded as this one.
    Histogram::new_with_bounds(1, 60_000_000, DIGITS).expect("the bounds are valid")
}

fn recorded(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
}
