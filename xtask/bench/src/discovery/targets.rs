// SPDX-License-Identifier: Apache-2.0
//! What must be reached, and what istiod needed.
//!
//! istiod's figures (of 2026-08, 1 000 Services × 10 endpoints, delta clients) were measured once, elsewhere, and are
//! repeated here as they were given; nothing of istiod runs in this benchmark.

use super::{
    measure::Figures,
    plan::{Extent, Interest, Mode, Purpose},
};

/// One figure against its limit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Check {
    /// The run and what was measured in it.
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) limit: f64,
    pub(super) unit: &'static str,
    /// istiod's figure, if one was given.
    pub(super) istiod: Option<f64>,
}

/// istiod at one number of clients.
struct Istiod {
    sync_cpu_ms: Option<f64>,
    cpu_ms: f64,
    p99_ms: f64,
    rss_mb: f64,
}

const ISTIOD_100: Istiod = Istiod { sync_cpu_ms: Some(93.0), cpu_ms: 31.0, p99_ms: 129.0, rss_mb: 315.0 };
const ISTIOD_500: Istiod = Istiod { sync_cpu_ms: None, cpu_ms: 152.0, p99_ms: 220.0, rss_mb: 1_100.0 };
/// Part of istiod's CPU and memory that may be used.
const CPU_PART: f64 = 0.1;
const MEMORY_PART: f64 = 0.2;
/// At the compared size, with 100 clients.
const P99_MS: f64 = 20.0;
/// With 10 000 Services and 100 000 endpoints.
const LARGE_SYNC_S: f64 = 10.0;
const LARGE_RSS_MB: f64 = 400.0;
const LARGE_P99_MS: f64 = 50.0;
const CROWD_P99_MS: f64 = 1_000.0;
/// Whatever the size.
const IDLE_KB: f64 = 50.0;
/// Messages to a client per 100 ms.
const ROLLOUT_MESSAGES: f64 = 1.0;

/// Everything that has a limit.
pub(super) fn checks(all: &[Figures], extent: Extent) -> Vec<Check> {
    if extent == Extent::Smoke { Vec::new() } else { all.iter().flat_map(of_run).collect() }
}

impl Check {
    /// Whether it was reached.
    pub(super) fn reached(&self) -> bool {
        self.value <= self.limit
    }
}

fn of_run(figures: &Figures) -> Vec<Check> {
    let check = |what: &str, value, limit, unit| Check {
        what: format!("{}: {what}", short(figures)),
        value,
        limit,
        unit,
        istiod: None,
    };
    let idle = || check("memory per idle client", figures.idle_kb_per_client, IDLE_KB, "KB");
    let synced =
        || check("lists arrived until all clients in sync", figures.first_sync_s(), LARGE_SYNC_S, "s");
    let memory = || check("memory", figures.rss_mb, LARGE_RSS_MB, "MB");
    match figures.run.purpose {
        Purpose::Compared100 => compared(figures, &ISTIOD_100, Some(P99_MS)),
        Purpose::Compared500 => {
            let mut checks = compared(figures, &ISTIOD_500, None);
            checks.push(idle());
            checks
        }
        Purpose::Large => {
            vec![synced(), check("push p99", figures.push_p99_ms, LARGE_P99_MS, "ms"), idle(), memory()]
        }
        Purpose::Crowd => {
            vec![synced(), check("push p99", figures.push_p99_ms, CROWD_P99_MS, "ms"), idle(), memory()]
        }
        Purpose::Rollout => figures
            .rollouts
            .iter()
            // Different Services never wait for each other: what many of them cost is shown, and has no limit.
            .filter(|rollout| rollout.services == 1)
            .map(|rollout| {
                let what = format!("{} pods of one Service, messages per 100 ms", rollout.pods);
                check(&what, rollout.messages_per_100_ms(), ROLLOUT_MESSAGES, "")
            })
            .collect(),
        Purpose::CompareSotw | Purpose::Curve => Vec::new(),
    }
}

fn compared(figures: &Figures, istiod: &Istiod, p99: Option<f64>) -> Vec<Check> {
    let check = |what: &str, value, (theirs, limit): (f64, f64), unit| Check {
        what: format!("{}: {what}", short(figures)),
        value,
        limit,
        unit,
        istiod: Some(theirs),
    };
    let part = |theirs: f64, part: f64| (theirs, theirs * part);
    let mut checks = Vec::new();
    if let Some(theirs) = istiod.sync_cpu_ms {
        let ours = figures.sync_cpu_ms_per_client;
        checks.push(check("first sync, CPU per client", ours, part(theirs, CPU_PART), "ms"));
    }
    checks.push(check("CPU per change", figures.cpu_ms_per_change, part(istiod.cpu_ms, CPU_PART), "ms"));
    // Without a limit of its own it is still not to be slower than theirs.
    checks.push(check("push p99", figures.push_p99_ms, (istiod.p99_ms, p99.unwrap_or(istiod.p99_ms)), "ms"));
    checks.push(check("memory", figures.rss_mb, part(istiod.rss_mb, MEMORY_PART), "MB"));
    checks
}

/// `1 000 x 10, 100 delta`: enough to find the row.
pub(super) fn short(figures: &Figures) -> String {
    let run = &figures.run;
    let wants = match run.interest {
        Interest::Everything => "",
        Interest::Some(_) => " of few",
    };
    let mode = match run.mode {
        Mode::Delta => "delta",
        Mode::Sotw => "sotw",
    };
    let grouped = super::plan::grouped;
    format!("{} x {}, {} {mode}{wants}", grouped(run.services), run.per_service, grouped(run.clients))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::testing::figures;

    #[test]
    fn the_limits_are_a_tenth_of_istiods_cpu_and_a_fifth_of_its_memory() {
        let checks = checks(&[figures(Purpose::Compared100)], Extent::Full);
        let limits: Vec<_> = checks.iter().map(|check| (check.istiod, check.limit)).collect();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        let expected = [(93.0, 9.3), (31.0, 3.1), (129.0, 20.0), (315.0, 63.0)];
        assert_eq!(limits.len(), expected.len());
        for ((istiod, limit), expected) in limits.into_iter().zip(expected) {
            assert!(istiod == Some(expected.0) && close(limit, expected.1), "{istiod:?} {limit}");
        }
    }

    #[test]
    fn exactly_the_limit_is_reached_and_more_is_not() {
        let mut large = figures(Purpose::Large);
        large.push_p99_ms = LARGE_P99_MS;
        assert!(checks(&[large.clone()], Extent::Full).iter().all(Check::reached));
        large.push_p99_ms += 0.1;
        assert_eq!(checks(&[large], Extent::Full).iter().filter(|check| !check.reached()).count(), 1);
    }

    #[test]
    fn tiny_runs_have_no_targets() {
        assert_eq!(checks(&[figures(Purpose::Large)], Extent::Smoke), []);
    }

    #[test]
    fn only_the_rolling_update_of_one_service_has_a_limit() {
        let checks = checks(&[figures(Purpose::Rollout)], Extent::Full);
        assert_eq!((checks.len(), checks[0].reached()), (1, true));
    }
}
