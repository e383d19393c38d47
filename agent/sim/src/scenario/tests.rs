// SPDX-License-Identifier: Apache-2.0
//! Good files give the model that they say, bad ones name file, line and key.

use std::{path::Path, time::Duration};

use proptest::prelude::*;

use super::{Overrides, ScenarioError, Setup, parse};
use crate::model::{Action, Chooser, LostClients, Per, Pods, Process, ServiceTime, ZonePolicy};

/// A scenario with one of everything, by line.
const GOOD: &str = r#"question = """What
 is it?"""
seed = 7
duration = "20s"
warm-up = "4s"
zones = [{ name = "a", nodes = 3 }, { name = "b" }]

[network]
within = "50us"
between = "1ms"
price-per-gib = 0.5
pairs = [{ from = "a", to = "b", latency = "2ms" }]

[[services]]
name = "shop"
timeout = "1s"

[[services.groups]]
count = 4
concurrency = 2
service-time = { exponential = "5ms" }

[[services.groups]]
name = "big"
zone = "b"
count = 1
service-time = { lognormal = { mean = "5ms", sigma = 1.0 } }
speed = 2.0

[[clients]]
name = "web"
count = 10

[[arrivals]]
poisson = { rate = 100.0 }

[[events]]
at = "5s"
speed = { pods = { group = "big", count = 1 }, factor = 0.1 }

[[events]]
at = "10s"
zone-lost = { zone = "a" }

[[policies]]
name = "p2c"

[[policies]]
name = "today"
base = "kube-proxy"
outlier = { consecutive = 3 }
"#;

fn read(text: &str) -> Result<Setup, ScenarioError> {
    parse(text, Path::new("dir/good.toml"), Overrides::default())
}

/// What a person reads when `from` is replaced by `to` in the good scenario.
fn complaint(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "`{from}` is not in the good scenario");
    read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_scenario_is_read_as_it_says() {
    let Setup { scenario, policies, .. } = read(GOOD).unwrap();
    assert_eq!((scenario.name.as_str(), scenario.question.as_str()), ("good", "What is it?"));
    assert_eq!((scenario.seed, scenario.warm_up), (7, Duration::from_secs(4)));
    assert_eq!(scenario.zones.iter().map(|z| z.nodes).collect::<Vec<_>>(), [3, 1]);
    let ms = Duration::from_millis;
    assert_eq!((scenario.network.latency[0][1], scenario.network.latency[1][0]), (ms(2), ms(1)));
    let groups: Vec<_> =
        scenario.services[0].groups.iter().map(|g| (g.name.as_str(), g.zone, g.count)).collect();
    assert_eq!(groups, [("a", 0, 4), ("b", 1, 4), ("big", 1, 1)], "a group without a zone is in every zone");
    assert_eq!(scenario.services[0].groups[0].service_time, ServiceTime::Exponential { mean: ms(5) });
    assert_eq!(scenario.arrivals[0].process, Process::Poisson { rate: 100.0 });
    let pods = Pods { service: 0, group: Some(2), first: 0, count: 1 };
    assert_eq!(scenario.events[0].action, Action::Speed { pods, factor: 0.1 });
    assert_eq!(scenario.events[1].action, Action::ZoneLost { zone: 0, clients: LostClients::Move });
    assert_eq!((policies[0].per, policies[0].zones), (Per::Request, ZonePolicy::Ignore));
    assert_eq!(policies[1].per, Per::Connection);
    assert!(matches!(policies[1].chooser, Chooser::Picker(s) if s.name() == "random"));
    assert_eq!(policies[1].outlier.and_then(|o| o.consecutive), Some(3));
}

#[test]
fn every_kind_of_fault_names_file_line_and_key() {
    let mut wrong = String::new();
    for (from, to, want) in [
        // Unknown keys, at every depth.
        ("seed = 7", "sed = 7", "dir/good.toml:3: sed: unknown field `sed`"),
        ("speed = 2.0", "sped = 2.0", "dir/good.toml:28: services[0].groups[1].sped: unknown field `sped`"),
        (
            "{ rate = 100.0 }",
            "{ rat = 100.0 }",
            "dir/good.toml:35: arrivals[0].poisson.rat: unknown field `rat`",
        ),
        (
            "{ consecutive = 3 }",
            "{ in-a-row = 3 }",
            "dir/good.toml:51: policies[1].outlier.in-a-row: unknown field",
        ),
        // Missing and repeated keys, wrong types, and no TOML at all.
        ("duration = \"20s\"\n", "", "dir/good.toml:1: missing field `duration`"),
        ("count = 4\n", "", "dir/good.toml:18: services[0].groups[0]: missing field `count`"),
        ("seed = 7", "seed = 7\nseed = 8", "dir/good.toml:4: duplicate key"),
        ("seed = 7", "seed = \"x\"", "dir/good.toml:3: seed: invalid type: string"),
        ("seed = 7", "seed = ", "dir/good.toml:3: "),
        (
            "outlier = { consecutive = 3 }",
            "outlier = 3",
            "dir/good.toml:51: policies[1].outlier: invalid type",
        ),
        // Times.
        (
            "\"20s\"",
            "20",
            "dir/good.toml:4: duration: invalid type: integer `20`, expected a time with its unit",
        ),
        ("\"20s\"", "\"20\"", "dir/good.toml:4: duration: `20` has no unit"),
        ("\"20s\"", "\"-20s\"", "dir/good.toml:4: duration: `-20s` is not a time: it must not be negative"),
        ("\"20s\"", "\"0s\"", "dir/good.toml:4: duration: must be above zero"),
        ("\"4s\"", "\"20s\"", "dir/good.toml:5: warm-up: must be shorter"),
        ("at = \"5s\"", "at = \"21s\"", "dir/good.toml:38: events[0].at: must not be after the duration"),
        (
            "within = \"50us\"",
            "within = \"9999h\"",
            "dir/good.toml:9: network.within: `9999h` is not a time: it is longer",
        ),
        // Negative and absurd numbers.
        ("seed = 7", "seed = -7", "dir/good.toml:3: seed: invalid value: integer `-7`"),
        ("nodes = 3", "nodes = 0", "dir/good.toml:6: zones[0].nodes: must be between 1 and"),
        ("count = 4", "count = 4000000000", "dir/good.toml:19: services[0].groups[0].count: must be between"),
        (
            "concurrency = 2",
            "concurrency = 0",
            "dir/good.toml:20: services[0].groups[0].concurrency: must be between 1",
        ),
        ("speed = 2.0", "speed = -2.0", "dir/good.toml:28: services[0].groups[1].speed: must be above 0"),
        ("speed = 2.0", "speed = nan", "dir/good.toml:28: services[0].groups[1].speed: must be above 0"),
        ("speed = 2.0", "speed = inf", "dir/good.toml:28: services[0].groups[1].speed: must be above 0"),
        (
            "sigma = 1.0",
            "sigma = 50.0",
            "dir/good.toml:27: services[0].groups[1].service-time.lognormal.sigma: must be",
        ),
        ("rate = 100.0", "rate = -1.0", "dir/good.toml:35: arrivals[0].poisson.rate: must be above 0"),
        (
            "rate = 100.0",
            "rate = 1e300",
            "dir/good.toml:35: arrivals[0].poisson.rate: must be above 0 and at most",
        ),
        ("factor = 0.1", "factor = 0.0", "dir/good.toml:39: events[0].speed.factor: must be above 0"),
        ("price-per-gib = 0.5", "price-per-gib = -0.5", "dir/good.toml:11: network.price-per-gib: "),
        (
            "latency = \"2ms\"",
            "price-per-gib = nan",
            "dir/good.toml:12: network.pairs[0].price-per-gib: must be between",
        ),
        (
            "name = \"p2c\"",
            "name = \"p2c\"\nchoices = 1",
            "dir/good.toml:47: policies[0].choices: must be between 2 and",
        ),
        (
            "name = \"p2c\"",
            "name = \"p2c\"\npanic-below = 1.5",
            "dir/good.toml:47: policies[0].panic-below: must be",
        ),
        // Names that lead nowhere, names that are not names, names twice.
        (
            "zone = \"b\"",
            "zone = \"c\"",
            "dir/good.toml:25: services[0].groups[1].zone: `c` is not among the zones: a, b",
        ),
        (
            "to = \"b\"",
            "to = \"x\"",
            "dir/good.toml:12: network.pairs[0].to: `x` is not among the zones: a, b",
        ),
        (
            "group = \"big\"",
            "group = \"b1g\"",
            "dir/good.toml:39: events[0].speed.pods.group: `b1g` is not among the groups",
        ),
        (
            "zone-lost = { zone = \"a\" }",
            "zone-lost = { zone = \"z\" }",
            "dir/good.toml:43: events[1].zone-lost.zone: `z`",
        ),
        (
            "count = 10",
            "service = \"shp\"",
            "dir/good.toml:32: clients[0].service: `shp` is not among the services: shop",
        ),
        (
            "poisson =",
            "clients = \"wob\"\npoisson =",
            "dir/good.toml:35: arrivals[0].clients: `wob` is not among",
        ),
        (
            "name = \"p2c\"",
            "name = \"p2c\"\nstrategy = \"best\"",
            "dir/good.toml:47: policies[0].strategy: `best` is not",
        ),
        ("\"kube-proxy\"", "\"kube\"", "dir/good.toml:50: policies[1].base: `kube` is not among the bases"),
        (
            "name = \"today\"",
            "name = \"p2c\"",
            "dir/good.toml:49: policies[1].name: there are two policies `p2c`",
        ),
        ("{ name = \"b\" }", "{ name = \"a\" }", "dir/good.toml:6: zones[1].name: there are two zones `a`"),
        ("name = \"big\"", "name = \"b\"", "there are two groups `b`"),
        ("name = \"web\"", "name = \" \"", "dir/good.toml:31: clients[0].name: a name must not be empty"),
        (
            "name = \"web\"",
            "name = \"\\u001b[1m\"",
            "dir/good.toml:31: clients[0].name: a name must not contain control",
        ),
        // What excludes each other.
        (
            "poisson = { rate = 100.0 }",
            "cost = 2.0",
            "dir/good.toml:34: arrivals[0]: give exactly one of `poisson`",
        ),
        ("zone-lost =", "heal = {}\nzone-lost =", "dir/good.toml:41: events[1]: give exactly one of `speed`"),
    ] {
        let error = complaint(from, to);
        if !error.contains(want) {
            wrong.push_str(&format!("{from} → {to}:\n    got {error}\n   want {want}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_range_that_a_group_of_every_zone_breaks_is_told_at_the_group_of_the_file() {
    let error = complaint(
        "service-time = { lognormal",
        "weight = 1\ncold = { slowdown = 0.5, requests = 9 }\nservice-time = { lognormal",
    );
    assert!(error.starts_with("dir/good.toml:28: services[0].groups[1].cold.slowdown: must be"), "{error}");
}

#[test]
fn a_scenario_without_policies_is_refused() {
    let text = GOOD.split("[[policies]]").next().unwrap();
    assert!(read(text).unwrap_err().to_string().contains("missing field `policies`"));
    let none = text.replacen("seed = 7", "seed = 7\npolicies = []", 1);
    assert_eq!(read(&none).unwrap_err().to_string(), "dir/good.toml:4: policies: there must be at least one");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = super::load(Path::new("no/such.toml"), Overrides::default()).unwrap_err();
    assert!(error.to_string().starts_with("cannot read no/such.toml: "), "{error}");
}

#[test]
fn a_shorter_duration_takes_the_warm_up_with_it_and_cuts_later_events() {
    let overrides = Overrides { seed: Some(9), duration: Some(Duration::from_secs(5)) };
    let setup = parse(GOOD, Path::new("good.toml"), overrides).unwrap();
    assert_eq!((setup.scenario.seed, setup.scenario.warm_up), (9, Duration::from_secs(1)));
    assert_eq!((setup.scenario.events.len(), setup.cut_off), (1, 1));
}

proptest! {
    /// Files are written by hand: whatever a slip of the pen does, there is an answer.
    #[test]
    fn a_file_with_any_line_damaged_is_read_or_refused_and_never_panics(
        line in 0usize..52, at in 0usize..40, damage in "[\\[\\]{}=\"a-z0-9.,#é -]{0,4}",
    ) {
        let mut lines: Vec<_> = GOOD.lines().map(str::to_owned).collect();
        let line = line % lines.len();
        let place = lines[line].char_indices().map(|(i, _)| i).nth(at).unwrap_or(lines[line].len());
        lines[line].insert_str(place, &damage);
        if let Err(error) = read(&lines.join("\n")) {
            prop_assert!(error.to_string().starts_with("dir/good.toml:"), "{}", error);
        }
    }
}
