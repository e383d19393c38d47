// SPDX-License-Identifier: Apache-2.0
//! Figures as tables with bars, the targets that were missed, and JSON.

use serde_json::{Value, json};

use super::{
    measure::{Figures, Rollout},
    plan::{Extent, Purpose},
    targets::{self, Check},
};
use crate::bar::bar;

/// Prints everything. Whether all targets were reached.
pub(super) fn print(all: &[Figures], extent: Extent) -> bool {
    runs(all);
    all.iter().filter(|figures| !figures.rollouts.is_empty()).for_each(rollouts);
    curves(all);
    let checks = targets::checks(all, extent);
    if checks.is_empty() {
        println!("none of these runs has a target");
        return true;
    }
    against(&checks);
    let missed: Vec<_> = checks.iter().filter(|check| !check.reached()).collect();
    for check in &missed {
        println!("missed: {}: {:.1} {}, target {:.1}", check.what, check.value, check.unit, check.limit);
    }
    if missed.is_empty() {
        println!("all targets kept");
    }
    missed.is_empty()
}

fn runs(all: &[Figures]) {
    println!(
        "{:<34} {:>8} {:>8} {:>8} {:>11} {:>9} {:>9} {:>10} {:>8} {:>8} {:>10}",
        "Services x endpoints, clients",
        "ready",
        "of that*",
        "sync",
        "CPU/client",
        "push p50",
        "push p99",
        "CPU/change",
        "memory",
        "at most",
        "per client"
    );
    for figures in all {
        println!(
            "  {:<32} {:>6.2} s {:>6.2} s {:>6.2} s {:>8.2} ms {:>6.1} ms {:>6.1} ms {:>7.2} ms {:>5.0} MB {:>5.0} MB {:>7.0} KB",
            targets::short(figures),
            figures.ready_s,
            figures.ready_after_lists_s,
            figures.sync_s,
            figures.sync_cpu_ms_per_client,
            figures.push_p50_ms,
            figures.push_p99_ms,
            figures.cpu_ms_per_change,
            figures.rss_mb,
            figures.peak_mb,
            figures.idle_kb_per_client,
        );
    }
    println!("  * after the lists have arrived");
    println!();
}

fn rollouts(figures: &Figures) {
    println!("Rolling updates, {}", figures.run.title());
    for Rollout { services, pods, seconds, messages, densest, cpu_ms_per_change, last_ms } in
        &figures.rollouts
    {
        println!(
            "  {pods} pods of {services} Services in {seconds:.1} s: at most {messages} messages to a client, {densest} \
             at most within 100 ms; {cpu_ms_per_change:.2} ms CPU per change; the last pod known after {last_ms:.0} ms"
        );
    }
    println!();
}

/// How one figure grows along one axis, as bars.
fn curves(all: &[Figures]) {
    for curve in super::curve::curves(all) {
        println!("How it grows with {} ({})", curve.axis, curve.fixed);
        let most = |value: fn(&Figures) -> f64| curve.points.iter().map(|p| value(p.1)).fold(0.0, f64::max);
        let (p99, rss) = (most(|f| f.push_p99_ms), most(|f| f.rss_mb));
        for (at, figures) in &curve.points {
            println!(
                "  {:>7}  push p99 {:>7.1} ms {:<21} memory {:>5.0} MB {}",
                super::plan::grouped(*at),
                figures.push_p99_ms,
                bar(figures.push_p99_ms / p99),
                figures.rss_mb,
                bar(figures.rss_mb / rss),
            );
        }
        println!();
    }
}

fn against(checks: &[Check]) {
    println!("Against the targets; istiod's figures are as given, not measured in this run");
    for check in checks {
        let istiod =
            check.istiod.map_or_else(String::new, |theirs| format!("istiod {theirs:.0} {}", check.unit));
        let verdict = if check.reached() { "kept" } else { "missed" };
        println!(
            "  {:<66} {:>8.1} of {:>6.1} {:<2}  {:<41} {verdict:<6} {istiod}",
            check.what,
            check.value,
            check.limit,
            check.unit,
            bar(check.value / check.limit),
        );
    }
    println!();
}

/// The figures as one object.
pub(super) fn json(all: &[Figures], extent: Extent) -> Value {
    let checks: Vec<Value> = targets::checks(all, extent)
        .iter()
        .map(|check| {
            json!({
                "what": check.what, "value": rounded(check.value), "limit": rounded(check.limit), "unit": check.unit,
                "reached": check.reached(), "istiod_as_given": check.istiod,
            })
        })
        .collect();
    json!({"runs": all.iter().map(run_json).collect::<Vec<_>>(), "targets": checks})
}

fn run_json(figures: &Figures) -> Value {
    let run = &figures.run;
    let mut object = json!({
        "services": run.services,
        "endpoints": run.endpoints(),
        "clients": run.clients,
        "mode": run.mode.name(),
        "sync_cpu_ms_per_client": rounded(figures.sync_cpu_ms_per_client),
        "push_p50_ms": rounded(figures.push_p50_ms),
        "push_p99_ms": rounded(figures.push_p99_ms),
        "cpu_ms_per_change": rounded(figures.cpu_ms_per_change),
        "rss_mb": rounded(figures.rss_mb),
        "services_per_client": run.wanted(),
        "first_sync_s": rounded(figures.first_sync_s()),
        "changes": run.changes,
        "ready_s": rounded(figures.ready_s),
        "ready_after_lists_s": rounded(figures.ready_after_lists_s),
        "start_cpu_s": rounded(figures.start_cpu_s),
        "sync_s": rounded(figures.sync_s),
        "rss_without_clients_mb": rounded(figures.empty_mb),
        "rss_peak_mb": rounded(figures.peak_mb),
        "idle_kb_per_client": rounded(figures.idle_kb_per_client),
    });
    if run.purpose == Purpose::Rollout {
        object["rollouts"] = figures.rollouts.iter().map(rollout_json).collect();
    }
    object
}

fn rollout_json(rollout: &Rollout) -> Value {
    json!({
        "services": rollout.services,
        "pods": rollout.pods,
        "seconds": rounded(rollout.seconds),
        "messages_per_client": rollout.messages,
        "messages_per_client_in_100_ms": rollout.densest,
        "cpu_ms_per_change": rounded(rollout.cpu_ms_per_change),
        "last_known_after_ms": rounded(rollout.last_ms),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::testing::figures;

    #[test]
    fn each_run_has_the_promised_keys() {
        let value = json(&[figures(Purpose::Compared100)], Extent::Full);
        let run = &value["runs"][0];
        let promised = json!({
            "services": 1_000, "endpoints": 10_000, "clients": 100, "mode": "delta", "sync_cpu_ms_per_client": 4.13,
            "push_p50_ms": 3.0, "push_p99_ms": 7.0, "cpu_ms_per_change": 2.0, "rss_mb": 33.0,
        });
        for (key, value) in promised.as_object().unwrap() {
            assert_eq!(&run[key], value, "{key}");
        }
    }

    #[test]
    fn a_missed_target_is_in_the_json_as_missed() {
        let mut slow = figures(Purpose::Compared100);
        slow.push_p99_ms = 21.0;
        let targets = json(&[slow], Extent::Full)["targets"].clone();
        let missed: Vec<_> =
            targets.as_array().unwrap().iter().filter(|target| target["reached"] == false).collect();
        assert_eq!((missed.len(), &missed[0]["value"]), (1, &json!(21.0)));
    }
}
