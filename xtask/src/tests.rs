// SPDX-License-Identifier: Apache-2.0
//! Which tests belong to which tier, and the cargo commands that run them.
//!
//! Every command selects the whole workspace and narrows by target, not by package: cargo then resolves the same
//! features each time, and nothing is compiled twice between the tiers.

use anyhow::{Result, bail};

use crate::Tier;
use crate::workspace::{TESTBED, TestFile};

/// Test files of the testbed that need a cluster begin with this.
const CLUSTER: &str = "cluster";

/// Arguments of one `cargo` run.
pub(crate) type Arguments = Vec<String>;

/// Builds all binaries and tests.
pub(crate) fn build() -> Arguments {
    strings(&["build", "--workspace", "--bins", "--tests"])
}

/// The runs of a tier. `filters` are parts of test names. Fails if a name could select a test of another tier.
pub(crate) fn runs(tier: Tier, tests: &[TestFile], filters: &[String]) -> Result<Vec<Arguments>> {
    let (testbed, unit): (Vec<_>, Vec<_>) = tests.iter().partition(|test| test.package == TESTBED);
    if let Some(clash) = testbed.iter().find(|node| unit.iter().any(|unit| unit.name == node.name)) {
        bail!(
            "a test file of {TESTBED} has the name of another package's, {}: rename one of them",
            clash.name
        );
    }
    let (cluster, node): (Vec<_>, Vec<_>) =
        testbed.into_iter().partition(|test| test.name.starts_with(CLUSTER));
    let run = |targets: Arguments, harness: &[&str]| {
        let mut arguments = strings(&["test", "--workspace", "--no-fail-fast"]);
        arguments.extend(targets);
        arguments.push("--".to_owned());
        arguments.extend(strings(harness));
        arguments.extend(filters.iter().cloned());
        arguments
    };
    let named = |tests: &[&TestFile]| {
        tests.iter().flat_map(|test| ["--test".to_owned(), test.name.clone()]).collect()
    };
    match tier {
        Tier::Unit => {
            let mut targets = strings(&["--lib", "--bins"]);
            targets.extend::<Arguments>(named(&unit));
            Ok(vec![run(targets, &[]), run(strings(&["--doc"]), &[])])
        }
        Tier::Node if node.is_empty() => {
            bail!("{TESTBED} has no test files: the node tier would run nothing")
        }
        Tier::Cluster if cluster.is_empty() => {
            bail!("{TESTBED} has no test files that begin with {CLUSTER}: the cluster tier would run nothing")
        }
        // One at a time: each test has nodes, and their load would spoil another's figures.
        Tier::Cluster => Ok(vec![run(named(&cluster), &["--test-threads=1"])]),
        Tier::Node => Ok(vec![run(named(&node), &["--test-threads=1"])]),
    }
}

fn strings(arguments: &[&str]) -> Arguments {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

#[cfg(test)]
mod unit {
    use super::*;

    fn test(package: &str, name: &str) -> TestFile {
        TestFile { package: package.into(), name: name.into() }
    }

    fn shown(tier: Tier, tests: &[TestFile], filters: &[&str]) -> Vec<String> {
        runs(tier, tests, &strings(filters)).unwrap().iter().map(|run| run.join(" ")).collect()
    }

    #[test]
    fn each_test_file_runs_in_exactly_one_tier() {
        let tests = [
            test("evenkeel-agent", "admin"),
            test(TESTBED, "in_pod"),
            test(TESTBED, "upgrade"),
            test(TESTBED, "cluster_install"),
        ];
        assert_eq!(
            shown(Tier::Unit, &tests, &[]),
            [
                "test --workspace --no-fail-fast --lib --bins --test admin --",
                "test --workspace --no-fail-fast --doc --"
            ]
        );
        assert_eq!(
            shown(Tier::Node, &tests, &["outage"]),
            ["test --workspace --no-fail-fast --test in_pod --test upgrade -- --test-threads=1 outage"]
        );
        assert_eq!(
            shown(Tier::Cluster, &tests, &[]),
            ["test --workspace --no-fail-fast --test cluster_install -- --test-threads=1"]
        );
    }

    #[test]
    fn a_name_in_both_tiers_is_refused() {
        let tests = [test("evenkeel-agent", "upgrade"), test(TESTBED, "upgrade")];
        for tier in [Tier::Unit, Tier::Node] {
            assert!(runs(tier, &tests, &[]).unwrap_err().to_string().contains("upgrade"));
        }
    }

    #[test]
    fn a_tier_without_tests_fails_instead_of_passing_empty() {
        for tier in [Tier::Node, Tier::Cluster] {
            assert!(runs(tier, &[test("evenkeel-agent", "admin")], &[]).is_err());
        }
    }
}
