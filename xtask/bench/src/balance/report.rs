// SPDX-License-Identifier: Apache-2.0
//! Figures as a table with bars and the targets that were missed, and as JSON.

use serde_json::json;

use super::{Figures, MAX_NS_PER_PICK, MAX_REBUILD_MS, MIN_SIMULATED, picks::Pick, rebuild::Rebuild};
use crate::bar::bar;

/// A figure against its target, as one line of the table.
struct Line {
    what: String,
    value: String,
    /// Part of what is allowed, or of what is needed.
    part: f64,
    verdict: Verdict,
    target: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    Missed,
    NoTarget,
}

impl Verdict {
    fn by(reached: bool) -> Self {
        if reached { Self::Reached } else { Self::Missed }
    }

    fn shown(self) -> &'static str {
        match self {
            Self::Reached => "",
            Self::Missed => "missed",
            Self::NoTarget => "no target",
        }
    }
}

/// Prints the table, then what was missed. Whether anything was.
pub(super) fn print(figures: &Figures) -> bool {
    let picks: Vec<Line> = figures.picks.iter().map(pick).collect();
    let rebuilds: Vec<Line> = figures.rebuilds.iter().map(rebuild).collect();
    let simulated = vec![simulated(figures.simulated_per_cpu_second)];
    show(&format!("Time and allocations per pick (target {MAX_NS_PER_PICK} ns, none)"), &picks);
    show(&format!("Rebuild over 10 000 endpoints (target {MAX_REBUILD_MS} ms)"), &rebuilds);
    show("Simulator, plain P2C scenario, one core (a longer bar is better)", &simulated);
    let all = picks.iter().chain(&rebuilds).chain(&simulated);
    let missed: Vec<&Line> = all.filter(|line| line.verdict == Verdict::Missed).collect();
    for line in &missed {
        println!("missed: {}: {}, target {}", line.what.trim_end(), line.value, line.target);
    }
    if missed.is_empty() {
        println!("all targets reached");
    }
    !missed.is_empty()
}

fn show(title: &str, lines: &[Line]) {
    println!("{title}");
    for Line { what, value, part, verdict, .. } in lines {
        println!("  {what:<32} {value:>28}  {:<41} {}", bar(*part), verdict.shown());
    }
    println!();
}

fn pick(pick: &Pick) -> Line {
    let reached = pick.allocations == 0.0 && (pick.strategy.needs().hash || pick.ns <= MAX_NS_PER_PICK);
    Line {
        what: format!("{} of {}", pick.strategy.name(), pick.endpoints),
        value: format!("{:.1} ns  {:.2} allocations", pick.ns, pick.allocations),
        part: pick.ns / MAX_NS_PER_PICK,
        verdict: if pick.strategy.needs().hash && reached { Verdict::NoTarget } else { Verdict::by(reached) },
        target: format!("{MAX_NS_PER_PICK} ns and no allocation"),
    }
}

fn rebuild(rebuild: &Rebuild) -> Line {
    Line {
        what: rebuild.name.to_owned(),
        value: format!("{:.2} ms", rebuild.ms),
        part: rebuild.ms / MAX_REBUILD_MS,
        verdict: if rebuild.counts { Verdict::by(rebuild.ms <= MAX_REBUILD_MS) } else { Verdict::NoTarget },
        target: format!("{MAX_REBUILD_MS} ms"),
    }
}

fn simulated(per_second: f64) -> Line {
    Line {
        what: "requests per CPU second".to_owned(),
        value: format!("{:.2} million", per_second / 1e6),
        part: per_second / MIN_SIMULATED,
        verdict: Verdict::by(per_second >= MIN_SIMULATED),
        target: format!("{:.0} million", MIN_SIMULATED / 1e6),
    }
}

/// The figures as one object. The rebuild is the slowest of those that count for the target.
pub(super) fn json(figures: &Figures) -> serde_json::Value {
    let picks: Vec<_> = figures
        .picks
        .iter()
        .map(|pick| {
            json!({
                "picker": pick.strategy.name(),
                "endpoints": pick.endpoints,
                "ns_per_pick": rounded(pick.ns),
                "allocs_per_pick": pick.allocations,
            })
        })
        .collect();
    let slowest = figures.rebuilds.iter().filter(|r| r.counts).map(|r| r.ms).fold(0.0, f64::max);
    json!({
        "picks": picks,
        "rebuild_ms_10000": rounded(slowest),
        "simulated_requests_per_cpu_second": figures.simulated_per_cpu_second.round(),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_balance::picker::Strategy;

    fn line(strategy: Strategy, ns: f64, allocations: f64) -> Verdict {
        pick(&Pick { strategy, endpoints: 10, ns, allocations }).verdict
    }

    #[test]
    fn a_missed_target_is_said_so_and_hash_pickers_have_none_for_time() {
        assert_eq!(line(Strategy::LeastRequest, 100.0, 0.0), Verdict::Reached);
        assert_eq!(line(Strategy::LeastRequest, 100.1, 0.0), Verdict::Missed);
        assert_eq!(line(Strategy::LeastRequest, 10.0, 0.001), Verdict::Missed);
        assert_eq!(line(Strategy::RingHash, 1_000.0, 0.0), Verdict::NoTarget);
        assert_eq!(line(Strategy::RingHash, 10.0, 1.0), Verdict::Missed);
        assert_eq!(simulated(2_999_999.0).verdict, Verdict::Missed);
        assert_eq!(rebuild(&Rebuild { name: "x", ms: 5.1, counts: true }).verdict, Verdict::Missed);
        assert_eq!(rebuild(&Rebuild { name: "x", ms: 5.1, counts: false }).verdict, Verdict::NoTarget);
    }

    #[test]
    fn json_has_the_promised_keys_and_the_slowest_rebuild() {
        let figures = Figures {
            picks: vec![Pick { strategy: Strategy::Random, endpoints: 10, ns: 12.345, allocations: 0.0 }],
            rebuilds: vec![
                Rebuild { name: "a", ms: 1.0, counts: true },
                Rebuild { name: "b", ms: 2.0, counts: true },
                Rebuild { name: "c", ms: 9.0, counts: false },
            ],
            simulated_per_cpu_second: 3e6,
        };
        let text = json(&figures).to_string();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            json!({
                "picks": [{"picker": "random", "endpoints": 10, "ns_per_pick": 12.35, "allocs_per_pick": 0.0}],
                "rebuild_ms_10000": 2.0,
                "simulated_requests_per_cpu_second": 3e6,
            })
        );
    }
}
