// SPDX-License-Identifier: Apache-2.0
//! What a server says of itself: load reports with its answers, and answers to probes.
//!
//! Reports are those of xDS's `OrcaLoadReport`: rates and utilisation over the last whole second; until the first second is over
//! there is none. Probes are Prequal's (NSDI '24): requests in flight now, and the latency of past requests that came at a
//! similar load, as a moving average for each power of two of it; where none came, the nearest load that has one. Kept only
//! when a strategy looks at it.

use evenkeel_balance::report::Report;

/// Length of the window of a report.
const WINDOW: u64 = 1_000_000_000;

/// Classes of load: powers of two.
const CLASSES: usize = 16;

/// What a new latency weighs in the average.
const NEW: f64 = 0.125;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    since: u64,
    busy_ns: u128,
    ended: u64,
    failed: u64,
    report: Option<Report>,
    latency: [Option<f64>; CLASSES],
}

fn class(load: u32) -> usize {
    (load.max(1).ilog2() as usize).min(CLASSES - 1)
}

impl Stats {
    /// A request ended, `elapsed` after it came, when `load` requests were here. `busy_ns` is the integral of busy places.
    pub(super) fn ended(&mut self, now: u64, load: u32, elapsed: u64, ok: bool, busy_ns: u128, places: u32) {
        self.ended += 1;
        self.failed += u64::from(!ok);
        let latency = &mut self.latency[class(load)];
        let elapsed = elapsed as f64;
        *latency = Some(latency.map_or(elapsed, |old| old + (elapsed - old) * NEW));
        let length = now - self.since;
        if length < WINDOW {
            return;
        }
        let seconds = length as f64 / 1e9;
        self.report = Some(Report {
            qps: self.ended as f64 / seconds,
            eps: self.failed as f64 / seconds,
            application_utilization: 0.0,
            cpu_utilization: (busy_ns - self.busy_ns) as f64 / (length as f64 * f64::from(places)),
        });
        (self.since, self.busy_ns, self.ended, self.failed) = (now, busy_ns, 0, 0);
    }

    /// The last whole window.
    pub(super) fn report(&self) -> Option<Report> {
        self.report
    }

    /// What to expect of a request that comes at this load; zero when nothing is known at all.
    pub(super) fn expected(&self, load: u32) -> u64 {
        let here = class(load);
        let near = |distance: usize| {
            let below = here.checked_sub(distance).and_then(|c| self.latency[c]);
            below.or_else(|| *self.latency.get(here + distance)?)
        };
        (0..CLASSES).find_map(near).unwrap_or(0.0) as u64
    }

    /// A new process: nothing is known.
    pub(super) fn reset(&mut self, now: u64, busy_ns: u128) {
        *self = Self { since: now, busy_ns, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_of_the_last_whole_second() {
        let mut stats = Stats::default();
        assert_eq!(stats.report(), None);
        for i in 1..=100u64 {
            stats.ended(i * 10_000_000, 1, 5_000_000, i % 4 != 0, u128::from(i) * 5_000_000, 1);
        }
        let report = stats.report().expect("a second has passed");
        assert!((report.qps - 100.0).abs() < 1e-9 && (report.eps - 25.0).abs() < 1e-9, "{report:?}");
        assert!((report.cpu_utilization - 0.5).abs() < 1e-9, "{report:?}");
    }

    #[test]
    fn an_unknown_load_is_expected_to_be_like_the_nearest_known() {
        let mut stats = Stats::default();
        assert_eq!(stats.expected(3), 0);
        stats.ended(1, 16, 700, true, 0, 1);
        assert_eq!((stats.expected(1), stats.expected(16), stats.expected(9_999)), (700, 700, 700));
        stats.ended(2, 1, 100, true, 0, 1);
        assert_eq!((stats.expected(1), stats.expected(20)), (100, 700));
    }
}
