// SPDX-License-Identifier: Apache-2.0
//! This checkout, as cargo sees it: its folder, where build results go, and which test files its packages have.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::child;

/// The packages whose binaries the demo and the node tests start.
pub(crate) const BINARIES: [&str; 3] = [AGENT, DISCOVERY, TESTBED];
/// The package of the agent.
pub(crate) const AGENT: &str = "evenkeel-agent";
/// The package of discovery.
pub(crate) const DISCOVERY: &str = "evenkeel-discovery";
/// The package of the benchmarks that need neither root nor a kernel program.
pub(crate) const BENCH: &str = "evenkeel-bench";
/// The package of the demo and of the node tests.
pub(crate) const TESTBED: &str = "evenkeel-testbed";

/// A checkout.
pub(crate) struct Workspace {
    /// Folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Where cargo puts build results: `CARGO_TARGET_DIR` and configuration included.
    pub(crate) target: PathBuf,
    /// Integration tests.
    pub(crate) tests: Vec<TestFile>,
}

/// One integration test target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestFile {
    pub(crate) package: String,
    pub(crate) name: String,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        let manifest =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in no workspace")?;
        let mut command = child::cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(manifest);
        Self::parse(&child::output(&mut command)?)
    }

    fn parse(metadata: &str) -> Result<Self> {
        let metadata: Value = serde_json::from_str(metadata).context("cargo metadata printed no JSON")?;
        let folder = |key: &str| {
            let path = metadata[key].as_str().with_context(|| format!("cargo metadata has no {key}"))?;
            anyhow::Ok(PathBuf::from(path))
        };
        Ok(Self {
            root: folder("workspace_root")?,
            target: folder("target_directory")?,
            tests: tests(&metadata),
        })
    }

    /// The folder of binaries built with the profile.
    pub(crate) fn binaries(&self, release: bool) -> PathBuf {
        self.target.join(if release { "release" } else { "debug" })
    }

    /// Where the agent's build looks for the kernel programs.
    pub(crate) fn ebpf_object(&self) -> PathBuf {
        std::env::var_os("EVENKEEL_EBPF_OBJECT")
            .map_or_else(|| self.root.join("target/ebpf/evenkeel.o"), |path| self.root.join(path))
    }

    /// Cargo in this workspace.
    pub(crate) fn cargo(&self) -> std::process::Command {
        let mut command = child::cargo();
        command.current_dir(&self.root);
        command
    }
}

fn tests(metadata: &Value) -> Vec<TestFile> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for package in list(&metadata["packages"]) {
        for target in list(&package["targets"]) {
            let is_test = list(&target["kind"]).iter().any(|kind| kind == "test");
            if let (true, Some(package), Some(name)) =
                (is_test, package["name"].as_str(), target["name"].as_str())
            {
                found.push(TestFile { package: package.to_owned(), name: name.to_owned() });
            }
        }
    }
    found
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn folders_and_test_files_are_read_from_cargos_metadata() {
        let workspace = Workspace::parse(
            r#"{"packages":[
                 {"name":"a","targets":[{"kind":["lib"],"name":"a"},{"kind":["test"],"name":"laws"}]},
                 {"name":"b","targets":[{"kind":["bin"],"name":"b"},{"kind":["custom-build"],"name":"build"}]}],
               "target_directory":"/t \"x\"","workspace_root":"/w"}"#,
        )
        .unwrap();
        assert_eq!(workspace.root, Path::new("/w"));
        assert_eq!(workspace.binaries(true), Path::new("/t \"x\"/release"));
        assert_eq!(workspace.tests, [TestFile { package: "a".into(), name: "laws".into() }]);
    }

    #[test]
    fn metadata_without_a_target_folder_is_an_error_that_names_it() {
        let error = Workspace::parse(r#"{"workspace_root":"/w"}"#).err().unwrap();
        assert!(error.to_string().contains("target_directory"));
    }
}
