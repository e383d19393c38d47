// SPDX-License-Identifier: Apache-2.0
//! The benchmark of discovery from its command line to its last line, with tiny clusters: every client must see every
//! change, or the run fails. Figures of a loaded machine and an unoptimised build mean nothing and are not looked at.

use std::process::{Command, Stdio};

use serde_json::Value;

/// What each run promises.
const KEYS: [&str; 9] = [
    "services",
    "endpoints",
    "clients",
    "mode",
    "sync_cpu_ms_per_client",
    "push_p50_ms",
    "push_p99_ms",
    "cpu_ms_per_change",
    "rss_mb",
];

#[test]
fn the_smallest_benchmark_measures_both_variants_and_ends_with_json() {
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel-bench"))
        .args(["discovery", "--smoke", "--json"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let runs = last["runs"].as_array().unwrap();
    let modes: Vec<_> = runs.iter().map(|run| run["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["delta", "sotw"]);
    for run in runs {
        for key in KEYS {
            assert!(!run[key].is_null(), "no {key} in {run}");
        }
        assert!(run["push_p99_ms"].as_f64() >= run["push_p50_ms"].as_f64());
        assert!(run["rss_mb"].as_f64().unwrap() > 1.0, "{run}");
    }
    let rollouts = runs[0]["rollouts"].as_array().unwrap();
    assert!(
        rollouts.iter().all(|rollout| rollout["messages_per_client"].as_u64().unwrap() > 0),
        "{rollouts:?}"
    );
}
