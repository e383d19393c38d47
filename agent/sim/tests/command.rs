// SPDX-License-Identifier: Apache-2.0
//! The command as a whole: what it prints is the same every time, what it refuses leaves nothing behind.

use std::path::{Path, PathBuf};

use evenkeel_sim::cli::{Args, SimulateError, execute};

const SCENARIO: &str = r#"
duration = "2s"
warm-up = "500ms"
zones = [{ name = "a", nodes = 2 }, { name = "b", nodes = 2 }]
network = { price-per-gib = 0.02 }
services = [{ name = "shop", response-bytes = 1_000,
              groups = [{ count = 3, service-time = { exponential = "5ms" } }] }]
clients = [{ name = "web", count = 8, connections = 2 }]
arrivals = [{ poisson = { rate = 600 } }]
policies = [{ name = "p2c" }, { name = "today", base = "kube-proxy" }, { name = "ours", base = "evenkeel-request" }]
"#;

fn args(scenario: PathBuf) -> Args {
    Args { scenario, policies: vec![], seed: None, duration: None, json: true, svg: None }
}

fn written(dir: &Path, text: &str) -> Args {
    let path = dir.join("world.toml");
    std::fs::write(&path, text).expect("write the scenario");
    args(path)
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let base = written(dir.path(), SCENARIO);
    let run = |json: bool, seed| execute(&Args { json, seed, ..base.clone() }, false).expect("it runs");
    assert_eq!((run(true, None), run(false, None)), (run(true, None), run(false, None)));
    assert_eq!(run(true, None), run(true, Some(1)), "the file's default seed");
    assert_ne!(run(true, None), run(true, Some(2)));
}

#[test]
fn drawings_are_the_same_every_time_and_have_their_names() {
    let dir = tempfile::tempdir().expect("a folder");
    let draw = |to: &str| {
        let svg = dir.path().join(to);
        execute(&Args { svg: Some(svg.clone()), ..written(dir.path(), SCENARIO) }, false).expect("it runs");
        ["latency.svg", "load.svg", "zones.svg", "utilization.svg"]
            .map(|name| std::fs::read_to_string(svg.join(name)).expect(name))
    };
    assert_eq!(draw("one/deep"), draw("two"));
}

#[test]
fn a_subset_of_policies_has_the_figures_that_it_has_among_all() {
    let dir = tempfile::tempdir().expect("a folder");
    let base = written(dir.path(), SCENARIO);
    let of = |policies: Vec<String>| -> serde_json::Value {
        let text = execute(&Args { policies, ..base.clone() }, false).expect("it runs");
        serde_json::from_str(&text).expect("it is JSON")
    };
    let (all, one) = (of(vec![]), of(vec!["ours".to_owned()]));
    assert_eq!(all["policies"].as_array().map(Vec::len), Some(3));
    assert_eq!(one["policies"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["policies"][0], all["policies"][2]);
}

#[test]
fn a_policy_that_does_not_exist_is_named_with_those_that_do() {
    let dir = tempfile::tempdir().expect("a folder");
    let asked = Args { policies: vec!["best".to_owned()], ..written(dir.path(), SCENARIO) };
    let error = execute(&asked, false).expect_err("there is none");
    assert!(
        error.to_string().ends_with("world.toml: there is no policy `best`; it has p2c, today, ours"),
        "{error}"
    );
}

#[test]
fn a_refused_scenario_draws_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let svg = dir.path().join("svg");
    let asked = written(dir.path(), &SCENARIO.replace("rate = 600", "rate = -600"));
    let error = execute(&Args { svg: Some(svg.clone()), ..asked }, false).expect_err("a negative rate");
    assert!(error.to_string().contains("world.toml:9: arrivals[0].poisson.rate: must be above 0"), "{error}");
    assert!(!svg.exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let base = written(dir.path(), SCENARIO);
    let asked = Args { svg: Some(base.scenario.join("in-a-file")), ..base };
    let error = execute(&asked, false).expect_err("a file is no folder");
    assert!(matches!(error, SimulateError::Write { .. }), "{error}");
}

#[test]
fn a_recorded_trace_is_replayed() {
    let dir = tempfile::tempdir().expect("a folder");
    let rows: String =
        (0..1_000).map(|i| format!("0.{:03},{},shop,1\n", i, if i % 4 == 0 { "b" } else { "a" })).collect();
    std::fs::write(dir.path().join("t.csv"), format!("time,zone,service,cost\n{rows}"))
        .expect("write the trace");
    let text = SCENARIO
        .replace("arrivals = [{ poisson = { rate = 600 } }]", "trace = \"t.csv\"")
        .replace("warm-up = \"500ms\"", "warm-up = \"0s\"");
    let report = execute(&written(dir.path(), &text), false).expect("it runs");
    let report: serde_json::Value = serde_json::from_str(&report).expect("it is JSON");
    let policy = &report["policies"][0];
    assert_eq!((policy["requests"].as_u64(), policy["errors"].as_u64()), (Some(1_000), Some(0)));
    let from = |zone: usize| {
        policy["flows"][zone].as_array().map(|f| f.iter().filter_map(|n| n.as_u64()).sum::<u64>())
    };
    assert_eq!((from(0), from(1)), (Some(750), Some(250)));
}
