// SPDX-License-Identifier: Apache-2.0
//! What each `cargo xtask` command does, as a sequence of steps.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use evenkeel_oci::project;

use crate::cache::Cache;
use crate::progress::{seconds, step};
use crate::tools::{BpfTools, Peers, StockClients};
use crate::workspace::{AGENT, BENCH, BINARIES, DISCOVERY, TESTBED, Workspace};
use crate::{Tier, child, ebpf as kernel, go, kubernetes, progress, root, tests};

/// `cargo xtask setup`
pub(crate) fn setup() -> Result<()> {
    set_up()?;
    let cache = Cache::open()?;
    deploy_tools(&cache)?;
    StockClients::ensure(&cache).map(drop)
}

/// `cargo xtask ebpf`
pub(crate) fn ebpf() -> Result<()> {
    let workspace = Workspace::load()?;
    kernel::build(&workspace, &BpfTools::ensure(&Cache::open()?)?).map(drop)
}

/// `cargo xtask build`
pub(crate) fn build(release: bool) -> Result<()> {
    let (tools, _) = set_up()?;
    let workspace = Workspace::load()?;
    kernel::build(&workspace, &tools)?;
    build_binaries(&workspace, release)?;
    progress::say("build", format!("the binaries are in {}", workspace.binaries(release).display()));
    Ok(())
}

/// `cargo xtask image`
pub(crate) fn image(release: bool, out: Option<&Path>, registry: &str, unpacked: bool) -> Result<()> {
    let tools = BpfTools::ensure(&Cache::open()?)?;
    let workspace = Workspace::load()?;
    kernel::build(&workspace, &tools)?;
    build_packages(&workspace, &[AGENT, DISCOVERY], release)?;
    let default = workspace.target.join("images");
    let options = project::Options {
        binaries: &workspace.binaries(release),
        out: out.unwrap_or(&default),
        registry,
        version: env!("CARGO_PKG_VERSION"),
        unpacked,
    };
    for path in step("image", "writing the images", || project::write_all(&options))? {
        progress::say("image", path.display().to_string());
    }
    Ok(())
}

/// `cargo xtask demo`: replaces this process, so that signals reach the demo.
pub(crate) fn demo(arguments: &[String]) -> Result<()> {
    root::require()?;
    let (tools, peers) = set_up()?;
    let workspace = Workspace::load()?;
    kernel::build(&workspace, &tools)?;
    build_binaries(&workspace, true)?;

    let program = workspace.binaries(true).join(TESTBED);
    let mut demo = Command::new(&program);
    demo.arg("demo").args(arguments);
    if arguments.iter().any(|argument| argument == "--cluster") {
        demo.env(kubernetes::PATH, kubernetes::ensure(&Cache::open()?, peers.folders())?);
    }
    tell_testbed(&mut demo, &workspace, &peers, true);
    child::clean(&mut demo);
    let error = demo.exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// `cargo xtask cluster`: replaces this process, so that signals reach what it starts.
pub(crate) fn cluster(arguments: &[String]) -> Result<()> {
    root::require()?;
    let workspace = Workspace::load()?;
    let program = workspace.binaries(true).join(TESTBED);
    let mut cluster = Command::new(&program);
    cluster.arg("cluster").args(arguments);
    if arguments.first().is_some_and(|first| first == "up") {
        let cache = Cache::open()?;
        let peers = Peers::ensure(&cache)?;
        cluster.env(kubernetes::PATH, kubernetes::ensure(&cache, peers.folders())?);
        build_packages(&workspace, &[TESTBED], true)?;
        tell_testbed(&mut cluster, &workspace, &peers, true);
    } else if !program.exists() {
        // What is up was started by such a program; nothing else needs to be up to date.
        build_packages(&workspace, &[TESTBED], true)?;
    }
    child::clean(&mut cluster);
    let error = cluster.exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// `cargo xtask bench`: replaces this process, so that its exit code is the benchmark's.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let workspace = Workspace::load()?;
    let with_server = arguments.first().is_some_and(|what| what == "discovery");
    build_packages(&workspace, if with_server { &[BENCH, DISCOVERY] } else { &[BENCH] }, true)?;
    let program = workspace.binaries(true).join(BENCH);
    let mut bench = Command::new(&program);
    bench.args(arguments);
    child::clean(&mut bench);
    let error = bench.exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// `cargo xtask test`
pub(crate) fn test(tier: Option<Tier>, filters: &[String]) -> Result<()> {
    let tiers = tier.map_or_else(|| vec![Tier::Unit, Tier::Node, Tier::Cluster], |tier| vec![tier]);
    let with_cluster = tiers.contains(&Tier::Cluster);
    let with_nodes = with_cluster || tiers.contains(&Tier::Node);
    if with_nodes {
        root::require()?;
    }
    let cache = Cache::open()?;
    let tools = BpfTools::ensure(&cache)?;
    if tiers.contains(&Tier::Unit) {
        deploy_tools(&cache)?;
    }
    let peers = if with_nodes { Some(Peers::ensure(&cache)?) } else { None };
    let stock = if tiers.contains(&Tier::Node) { Some(StockClients::ensure(&cache)?) } else { None };
    let folders = peers.iter().flat_map(Peers::folders);
    let cluster = if with_cluster { Some(kubernetes::ensure(&cache, folders)?) } else { None };
    let workspace = Workspace::load()?;
    let runs = tiers
        .iter()
        .map(|&tier| Ok((tier, tests::runs(tier, &workspace.tests, filters)?)))
        .collect::<Result<Vec<_>>>()?;
    kernel::build(&workspace, &tools)?;
    step("test", "building the binaries and the tests", || {
        child::run(workspace.cargo().args(tests::build()))
    })?;

    let run = |arguments, tier| {
        let mut cargo = workspace.cargo();
        cargo.args::<tests::Arguments, _>(arguments);
        if let Some(peers) = peers.as_ref().filter(|_| tier != Tier::Unit) {
            tell_testbed(&mut cargo, &workspace, peers, false);
        }
        if let Some(stock) = stock.as_ref().filter(|_| tier == Tier::Node) {
            stock.tell(&mut cargo);
        }
        if let Some(cluster) = cluster.as_ref().filter(|_| tier == Tier::Cluster) {
            cargo.env(kubernetes::PATH, cluster);
        }
        child::run(&mut cargo)
    };
    let mut failed = Vec::new();
    for (tier, runs) in runs {
        let result = step("test", name(tier), || {
            // Every run of the tier, whatever the others found.
            let results: Vec<_> = runs.into_iter().map(|arguments| run(arguments, tier)).collect();
            results.into_iter().collect::<Result<()>>()
        });
        if let Err(error) = result {
            failed.push(format!("{}: {error:#}", name(tier)));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\nerror: "));
    }
    Ok(())
}

/// `cargo xtask ci`: the script is the one place that says what must pass.
pub(crate) fn ci() -> Result<()> {
    root::require()?;
    let mut script = Command::new(Workspace::load()?.root.join(".ci/run"));
    child::clean(&mut script);
    child::run(&mut script)
}

/// All tools, with one closing line that says where they are.
fn set_up() -> Result<(BpfTools, Peers)> {
    let started = Instant::now();
    let cache = Cache::open()?;
    let tools = BpfTools::ensure(&cache)?;
    let peers = Peers::ensure(&cache)?;
    let places = [
        format!("rustc {}", tools.toolchain.rustc.display()),
        format!("bpf-linker {}", tools.linker.display()),
    ];
    let places = places.into_iter().chain(peers.shown()).collect::<Vec<_>>().join(", ");
    progress::say("setup", format!("ready in {}: {places}", seconds(started.elapsed())));
    Ok((tools, peers))
}

/// What the tests of `deploy/` render with, here so that building it shows its progress.
fn deploy_tools(cache: &Cache) -> Result<()> {
    go::HELM.ensure(cache)?;
    go::kustomize(cache).map(drop)
}

fn build_binaries(workspace: &Workspace, release: bool) -> Result<()> {
    build_packages(workspace, &BINARIES, release)
}

fn build_packages(workspace: &Workspace, packages: &[&str], release: bool) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.arg("build").args(packages.iter().flat_map(|package| ["-p", package]));
    if release {
        cargo.arg("--release");
    }
    step("build", &format!("building {}", packages.join(", ")), || child::run(&mut cargo))
}

/// Tells the demo or the node tests what they are to start.
fn tell_testbed(command: &mut Command, workspace: &Workspace, peers: &Peers, release: bool) {
    command.env("EVENKEEL_BIN_DIR", workspace.binaries(release));
    peers.tell(command);
}

fn name(tier: Tier) -> &'static str {
    match tier {
        Tier::Unit => "tiers 1 and 2 (laws, units, in-process)",
        Tier::Node => "tier 3 (nodes and pods as namespaces, real eBPF)",
        Tier::Cluster => "tier 4 (a real Kubernetes cluster)",
    }
}
