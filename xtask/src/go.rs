// SPDX-License-Identifier: Apache-2.0
//! Programs written in Go that tests use: the machine's own if there is one, else built once from their pinned modules.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::{child, path_lookup, progress};

/// A command of a Go module.
pub(crate) struct GoTool {
    /// Its name on `PATH` and in the cache.
    pub(crate) name: &'static str,
    /// The package of the command.
    package: &'static str,
    version: &'static str,
    /// What it is for, as set-up says it.
    purpose: &'static str,
}

/// Renders the chart.
pub(crate) const HELM: GoTool = GoTool {
    name: "helm",
    package: "helm.sh/helm/v4/cmd/helm",
    version: "v4.3.1",
    purpose: "the tests of the chart",
};
/// Renders the manifests where there is no kubectl.
pub(crate) const KUSTOMIZE: GoTool = GoTool {
    name: "kustomize",
    package: "sigs.k8s.io/kustomize/kustomize/v5",
    version: "v5.8.3",
    purpose: "the tests of the manifests",
};

impl GoTool {
    /// Finds or builds it.
    pub(crate) fn ensure(&self, cache: &Cache) -> Result<PathBuf> {
        let Self { name, package, version, purpose } = self;
        if let Some(found) = path_lookup::find(name) {
            return Ok(found);
        }
        let entry = cache.entry(name, version, |folder| {
            let Some(go) = path_lookup::find("go") else {
                bail!("{name} is needed for {purpose}: install {name}, or Go to have it built");
            };
            let mut install = Command::new(go);
            install.arg("install").arg(format!("{package}@{version}")).env("GOBIN", folder.join("bin"));
            // A program for this machine, without a C compiler, whatever the user builds otherwise.
            install.env("CGO_ENABLED", "0").env_remove("GOOS").env_remove("GOARCH").env_remove("GOFLAGS");
            let what = format!("{name} {version}: building it for {purpose} (once, some minutes)");
            progress::step("setup", &what, || child::run_logged("setup", &mut install, &cache.log()))
        });
        Ok(entry.with_context(|| format!("{name} could not be had"))?.join("bin").join(name))
    }
}

/// The command that renders a kustomization, without its folder.
pub(crate) fn kustomize(cache: &Cache) -> Result<Command> {
    if let Some(kubectl) = path_lookup::find("kubectl") {
        let mut command = Command::new(kubectl);
        command.arg("kustomize");
        return Ok(command);
    }
    let mut command = Command::new(KUSTOMIZE.ensure(cache)?);
    command.arg("build");
    Ok(command)
}
