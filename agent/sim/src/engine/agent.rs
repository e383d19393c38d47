// SPDX-License-Identifier: Apache-2.0
//! What one agent knows: loads, latencies, outcomes, reports and probes of its own requests, and nothing else.
//!
//! Always true: nothing here is read from a server; all of it came back with an answer, a report or a probe, as late as those
//! came. Requests in flight are those that this agent sent (per connection: connections that it opened). What no strategy of
//! the run needs is not kept. Deliberately not here: picking (see `table`), the rules of detection (they are the library's).

use std::time::Duration;

use evenkeel_balance::{
    latency::{self, PeakEwma},
    outlier::Ticket,
    picker::{Needs, Probe},
    report::{self, Report, Reported},
};

use super::health::Health;

/// Not to be picked: ejected by outlier detection.
pub(super) const EJECTED: u8 = 1;
/// Not to be picked: has had this request before.
pub(super) const TRIED: u8 = 2;

/// A probe's answer, and when it came.
#[derive(Clone, Copy, Debug)]
struct Probed {
    in_flight: u64,
    latency_ns: u64,
    at: u64,
}

/// See the module. Vectors are by an endpoint's number in its service; empty when not needed.
#[derive(Debug)]
pub(super) struct Known {
    in_flight: Vec<u32>,
    /// See [`EJECTED`] and [`TRIED`].
    pub(super) barred: Vec<u8>,
    latency: Vec<PeakEwma>,
    reported: Vec<Reported>,
    probed: Vec<Option<Probed>>,
    needs: Needs,
    latency_config: latency::Config,
    report_config: report::Config,
    pub(super) health: Option<Health>,
}

impl Known {
    pub(super) fn new(needs: Needs, health: Option<Health>) -> Self {
        Self {
            in_flight: Vec::new(),
            barred: Vec::new(),
            latency: Vec::new(),
            reported: Vec::new(),
            probed: Vec::new(),
            needs,
            latency_config: latency::Config::default(),
            report_config: report::Config::default(),
            health,
        }
    }

    /// Room for endpoints up to this many.
    pub(super) fn grow(&mut self, endpoints: usize) {
        if endpoints <= self.in_flight.len() {
            return;
        }
        self.in_flight.resize(endpoints, 0);
        self.barred.resize(endpoints, 0);
        if self.needs.latency {
            self.latency.resize(endpoints, PeakEwma::new());
        }
        if self.needs.reports {
            self.reported.resize(endpoints, Reported::new());
        }
        if self.needs.probes {
            self.probed.resize(endpoints, None);
        }
    }

    /// A request was sent, or a connection opened.
    #[inline]
    pub(super) fn began(&mut self, endpoint: u32) {
        self.in_flight[endpoint as usize] += 1;
    }

    /// A request ended after `elapsed`. `release`: it was counted for itself.
    #[inline]
    pub(super) fn ended(&mut self, endpoint: u32, elapsed: u64, ok: bool, release: bool, now: u64) {
        if release {
            self.closed(endpoint);
        }
        if self.needs.latency {
            let (elapsed, now) = (Duration::from_nanos(elapsed), Duration::from_nanos(now));
            let estimate = &mut self.latency[endpoint as usize];
            if ok {
                estimate.observe(elapsed, now, &self.latency_config);
            } else {
                estimate.penalise(elapsed, now, &self.latency_config);
            }
        }
    }

    /// Outlier detection learns how a request ended. True when somebody is out or back.
    pub(super) fn judged(&mut self, endpoint: u32, ticket: Ticket, ok: bool, now: u64) -> bool {
        let Some(health) = &mut self.health else { return false };
        health.outcome(endpoint, ticket, ok, now, &mut self.barred)
    }

    /// Whether an endpoint may be picked: nothing in `bars` is against it, or it waits for a probe.
    #[inline]
    pub(super) fn available(&self, endpoint: u32, bars: u8, now: u64) -> bool {
        let against = self.barred[endpoint as usize] & bars;
        against == 0 || against == EJECTED && self.health.as_ref().is_some_and(|h| h.half_open(endpoint, now))
    }

    /// A connection was closed.
    #[inline]
    pub(super) fn closed(&mut self, endpoint: u32) {
        self.in_flight[endpoint as usize] -= 1;
    }

    /// A load report came with an answer. One that cannot be used changes nothing.
    pub(super) fn report(&mut self, endpoint: u32, report: &Report, now: u64) {
        // Normal for an idle server: it then keeps the weight that it had.
        let _unusable = self.reported[endpoint as usize]
            .observe(report, Duration::from_nanos(now), &self.report_config)
            .err();
    }

    /// A probe was answered.
    pub(super) fn probe_came(&mut self, endpoint: u32, in_flight: u64, latency_ns: u64, now: u64) {
        self.probed[endpoint as usize] = Some(Probed { in_flight, latency_ns, at: now });
    }

    /// The weight by reports, if there is a usable one.
    pub(super) fn weight(&self, endpoint: u32, now: u64) -> Option<f64> {
        self.reported.get(endpoint as usize)?.weight(Duration::from_nanos(now), &self.report_config)
    }

    #[inline]
    pub(super) fn in_flight(&self, endpoint: u32) -> u64 {
        u64::from(self.in_flight[endpoint as usize])
    }

    pub(super) fn latency(&self, endpoint: u32, now: u64) -> Option<f64> {
        self.latency.get(endpoint as usize)?.estimate(Duration::from_nanos(now), &self.latency_config)
    }

    pub(super) fn probe(&self, endpoint: u32, now: u64) -> Option<Probe> {
        let probed = (*self.probed.get(endpoint as usize)?)?;
        let age = Duration::from_nanos(now - probed.at);
        Some(Probe { in_flight: probed.in_flight, latency_ns: probed.latency_ns, age })
    }
}
