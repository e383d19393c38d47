// SPDX-License-Identifier: Apache-2.0
//! Drawings are XML, show what was run, and survive what a run may give: nothing, and hostile names.

use std::{path::Path, time::Duration};

use super::drawings;
use crate::{
    outcome::{Balance, Figures, Histogram, Line, Outcome, Series, Step},
    report::{Comparison, json, table},
    scenario::{Overrides, parse},
};

/// A world of three zones with this name, and what came out of `policies` in it.
fn comparison(name: &str, policies: &[&str], full: bool) -> Comparison {
    let text = "name = 'N'\nduration = '10s'\nzones = [{name = 'a'}, {name = 'b'}]\nservices = [{name = 's'}]\n\
                policies = [{name = 'p'}]\n";
    let mut scenario = parse(text, Path::new("x.toml"), Overrides::default()).unwrap().scenario;
    name.clone_into(&mut scenario.name);
    let outcome = |policy: &&str| Outcome {
        policy: (*policy).to_owned(),
        seed: 1,
        figures: if full {
            Figures { requests: 9, cross_zone: 0.25, p99_ns: 7_000_000, ..Figures::default() }
        } else {
            Figures::default()
        },
        series: if full {
            series()
        } else {
            Series { zones: vec!["a".into(), "b".into()], flows: vec![vec![0; 2]; 2], ..Series::default() }
        },
        balance: Balance::default(),
    };
    Comparison { scenario, seed: 1, outcomes: policies.iter().map(outcome).collect() }
}

fn series() -> Series {
    let mut latency = Histogram::default();
    (1..100_000u64).for_each(|i| latency.record(i * 1_000));
    let step = |i: u32| Step {
        completed: 100,
        load_mean: f64::from(i % 7),
        load_max: f64::from(i % 13) * 2.0,
        endpoints: 30,
        ..Step::default()
    };
    let line = |i: u32| Line {
        name: format!("s/a/{i}"),
        zone: 0,
        load: (0..240).map(|s| f64::from((s * i) % 9)).collect(),
    };
    Series {
        step_ns: Duration::from_secs(10).as_nanos() as u64 / 240,
        steps: (0..240).map(step).collect(),
        endpoints: (0..24).map(line).collect(),
        zones: vec!["a".into(), "b".into()],
        flows: vec![vec![75, 25], vec![0, 100]],
        latency,
        utilization: (0..=100).map(|q| f64::from(q) / 100.0).collect(),
    }
}

/// Every tag is closed by its own end, and text has no bare markup: enough of a parser to notice a name that got out.
fn assert_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag that does not end");
        assert!(!text.contains('>'), "bare markup in {text:?}");
        assert_eq!(tag.matches('"').count() % 2, 0, "an attribute that does not end in {tag:?}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        let known = ["svg", "title", "rect", "text", "path"];
        assert!(known.contains(&name), "<{name}> is not ours");
    }
    assert!(open.is_empty(), "{open:?} not closed");
    assert!(!svg.contains("NaN") && !svg.contains("inf\""));
}

#[test]
fn the_four_drawings_are_well_formed_whatever_the_names_are() {
    let hostile = "</text><script>alert(\"1\")</script>&'";
    for comparison in [comparison(hostile, &[hostile, "p2c"], true), comparison("empty", &["p2c"], false)] {
        let drawings = drawings(&comparison);
        assert_eq!(
            drawings.iter().map(|d| d.file).collect::<Vec<_>>(),
            ["latency.svg", "load.svg", "zones.svg", "utilization.svg"]
        );
        for drawing in drawings {
            assert_well_formed(&drawing.svg);
        }
    }
}

#[test]
fn a_drawing_of_four_policies_is_small_enough_to_commit() {
    for drawing in drawings(&comparison("four", &["a", "b", "c", "d"], true)) {
        assert!(drawing.svg.len() < 60_000, "{} has {} bytes", drawing.file, drawing.svg.len());
    }
}

#[test]
fn axes_and_legends_say_what_they_show() {
    let all: String =
        drawings(&comparison("x", &["p2c", "random"], true)).into_iter().map(|d| d.svg).collect();
    for text in [
        ">p2c<",
        ">random<",
        ">percentile of requests<",
        ">latency<",
        ">99.9 %<",
        ">10 ms<",
        ">requests<",
        ">10 s<",
        ">utilisation<",
        "25.0 %",
    ] {
        assert!(all.contains(text), "{text} is not drawn");
    }
}

#[test]
fn equal_comparisons_give_equal_bytes() {
    let (a, b) = (comparison("x", &["p2c"], true), comparison("x", &["p2c"], true));
    assert_eq!((drawings(&a), json(&a), table(&a)), (drawings(&b), json(&b), table(&b)));
}

#[test]
fn json_is_one_object_on_one_line_with_its_keys_in_order() {
    let text = json(&comparison("x", &["p2c", "random"], true));
    assert_eq!(text.lines().count(), 1);
    assert!(
        text.starts_with(
            "{\"scenario\":\"x\",\"question\":\"\",\"answer\":\"\",\"seed\":1,\"duration_ns\":10000000000,"
        ),
        "{text}"
    );
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["policies"][1]["policy"], "random");
    assert_eq!(value["policies"][0]["p99_ns"], 7_000_000);
    assert_eq!(value["policies"][0]["flows"][0][1], 25);
}

#[test]
fn the_table_fits_a_terminal_and_shows_policies_side_by_side() {
    let text = table(&comparison("x", &["kube-proxy", "least-request"], true));
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(text.matches("least-request").count(), 3, "{text}");
    assert!(text.contains("7.00 ms") && text.contains("25.0 %"), "{text}");
}
