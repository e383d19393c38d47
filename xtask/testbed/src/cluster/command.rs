// SPDX-License-Identifier: Apache-2.0
//! `evenkeel-testbed cluster up | down | kubectl`: a cluster that outlives the command that made it.
//!
//! `up` starts a holder, a process of its own session that owns the cluster, and waits until that is ready. `down` asks
//! the holder to end. What must always be true: whatever ends the holder ends the cluster; an `up` that is interrupted
//! or killed before it is done leaves nothing.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Cluster, ClusterOptions, ProxyMode};
use crate::cleanup;
use crate::fabric::temporary;
use crate::wait::eventually;

/// File in a held cluster's folder.
const HELD: &str = "cluster.json";
/// Begins the holder's last line; those before are progress.
const READY: &str = "ready ";
/// How long a cluster may take to go.
const GONE: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(name = "cargo xtask cluster", about = "A real Kubernetes cluster on this machine")]
struct Cli {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start a cluster: one node in each zone
    Up(Wanted),
    /// Remove it
    Down,
    /// Run kubectl against it
    Kubectl {
        /// Passed on to kubectl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Owns a cluster until it is told to end (internal)
    #[command(hide = true)]
    Hold(Wanted),
}

#[derive(Debug, Args)]
struct Wanted {
    /// One node is made in each
    #[arg(long, value_delimiter = ',', default_value = "zone-a,zone-b,zone-c")]
    zones: Vec<String>,
    /// What balances Services in the kernel
    #[arg(long, value_enum, default_value_t = ProxyMode::Nftables)]
    proxy_mode: ProxyMode,
    /// Archive of images to import on all nodes; may be given more than once
    #[arg(long)]
    image: Vec<PathBuf>,
    /// IPv6 addresses too
    #[arg(long)]
    dual_stack: bool,
}

/// What others need to know about a held cluster.
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    folder: PathBuf,
    /// One line for each node.
    nodes: Vec<String>,
    version: String,
}

/// Runs the subcommand.
///
/// # Errors
/// Bad arguments; no cluster, or one already; whatever keeps the cluster from coming up or going.
pub fn main(args: Vec<OsString>) -> Result<()> {
    match Cli::try_parse_from(std::iter::once("cluster".into()).chain(args.iter().cloned()))?.command {
        What::Up(_) => up(&args),
        What::Down => down(),
        What::Kubectl { args } => kubectl(args),
        What::Hold(wanted) => hold(wanted),
    }
}

fn up(args: &[OsString]) -> Result<()> {
    if let Some((held, _)) = held()?.first() {
        bail!("a cluster is up already, in {}: use it, or `cargo xtask cluster down`", held.folder.display());
    }
    let began = Instant::now();
    let mut errors = tempfile::tempfile().context("make a temporary file")?;
    let mut holder = start_holder(args, &errors)?;
    end_with_us(&holder)?;
    let stdout = holder.stdout.take().context("standard output was not piped")?;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        match line.strip_prefix(READY) {
            None => eprintln!("{line}"),
            Some(json) => {
                let held: Held = serde_json::from_str(json).context("read what the holder says")?;
                print(&held, began.elapsed());
                return Ok(());
            }
        }
    }
    holder.wait().context("wait for the holder")?;
    await_reaper(holder.id())?;
    let mut said = String::new();
    errors.rewind().and_then(|()| errors.read_to_string(&mut said)).context("read the holder's errors")?;
    bail!("the cluster did not come up, and nothing of it is left\n{}", said.trim())
}

fn start_holder(args: &[OsString], errors: &File) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(["cluster", "hold"]).args(args.iter().skip(1));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.try_clone()?);
    // SAFETY: setsid(2) is async-signal-safe. The end of a terminal must not end the cluster.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
    command.spawn().context("start the cluster's holder")
}

/// Ctrl-C before the cluster is ready is for the holder, whose end is then waited for as any other.
fn end_with_us(holder: &Child) -> Result<()> {
    let signals = end_signals();
    signals.thread_block().context("block signals")?;
    let holder = Pid::from_raw(holder.id() as i32);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.wait().is_ok() {
                eprintln!("cluster: interrupted, removing what there is");
                let _ = kill(holder, Signal::SIGTERM);
            }
        })
        .map(drop)
        .context("start a thread for signals")
}

fn end_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

fn print(held: &Held, took: Duration) {
    println!("{}: up in {:.1} s", held.version, took.as_secs_f64());
    held.nodes.iter().for_each(|node| println!("  {node}"));
    println!("  logs   {}", held.folder.display());
    println!("  use    cargo xtask cluster kubectl get pods -A");
    println!("  or     export KUBECONFIG={}", held.kubeconfig.display());
    println!("  remove cargo xtask cluster down");
}

fn down() -> Result<()> {
    let began = Instant::now();
    let clusters = held()?;
    for (_, pid) in &clusters {
        kill(Pid::from_raw(*pid as i32), Signal::SIGTERM).context("end the cluster's holder")?;
        eventually("the cluster is gone", GONE, || {
            let there = cleanup::live_runs(&temporary())?.iter().any(|(_, other)| other == pid);
            ensure!(!there, "process {pid} is there");
            Ok(())
        })?;
        await_reaper(*pid)?;
    }
    // What a holder and a reaper left that were both killed.
    cleanup::sweep(&crate::cgroup::cgroup2_mount()?, &temporary())?;
    match clusters.len() {
        0 => eprintln!("cluster: none is up"),
        _ => eprintln!("cluster: removed in {:.1} s", began.elapsed().as_secs_f64()),
    }
    Ok(())
}

/// What a holder leaves its reaper removes, a moment later.
fn await_reaper(holder: u32) -> Result<()> {
    if std::env::var_os(cleanup::KEEP).is_some() {
        return Ok(());
    }
    eventually("what the cluster had is gone", GONE, || {
        let left = cleanup::runs_of(holder, &temporary());
        ensure!(left.is_empty(), "{left:?} is there");
        Ok(())
    })
}

fn kubectl(args: Vec<OsString>) -> Result<()> {
    let clusters = held()?;
    let Some((held, _)) = clusters.first() else {
        bail!("no cluster is up: `cargo xtask cluster up` starts one");
    };
    let error = Command::new(&held.kubectl).args(args).env("KUBECONFIG", &held.kubeconfig).exec();
    Err(error).with_context(|| format!("start {}", held.kubectl.display()))
}

/// Clusters that are up, with their holders.
fn held() -> Result<Vec<(Held, u32)>> {
    let read = |(folder, pid): (PathBuf, u32)| {
        let text = std::fs::read_to_string(folder.join(HELD)).ok()?;
        Some((serde_json::from_str(&text).ok()?, pid))
    };
    Ok(cleanup::live_runs(&temporary())?.into_iter().filter_map(read).collect())
}

/// The holder. Ends by a signal, or when nobody listens any more before it is ready; its reaper removes what there is.
fn hold(wanted: Wanted) -> Result<()> {
    let signals = end_signals();
    signals.thread_block().context("block signals")?;
    let cluster = Arc::new(Mutex::new(None::<Cluster>));
    let shared = Arc::clone(&cluster);
    std::thread::Builder::new().name("signals".into()).spawn(move || end_by_signal(signals, &shared))?;

    let made = Cluster::up(ClusterOptions {
        zones: wanted.zones,
        proxy_mode: wanted.proxy_mode,
        images: wanted.image,
        dual_stack: wanted.dual_stack,
        progress: Arc::new(tell),
    })?;
    let held = describe(&made)?;
    let json = serde_json::to_string(&held).context("encode what the cluster is")?;
    let file = held.folder.join(HELD);
    std::fs::write(&file, &json).with_context(|| format!("write {}", file.display()))?;
    *cluster.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    tell(&format!("{READY}{json}"));
    loop {
        std::thread::park();
    }
}

fn end_by_signal(signals: SigSet, cluster: &Mutex<Option<Cluster>>) {
    let _ = signals.wait();
    let cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner).take();
    let code = match cluster.map(Cluster::down) {
        Some(Ok(())) => 0,
        Some(Err(error)) => {
            eprintln!("{error:#}");
            1
        }
        None => 1,
    };
    std::process::exit(code);
}

/// One line to whoever started the holder.
fn tell(line: &str) {
    let mut out = std::io::stdout();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        // Nobody waits for this cluster.
        std::process::exit(1);
    }
}

fn describe(cluster: &Cluster) -> Result<Held> {
    let version = cluster.kubectl().run(&["get", "--raw", "/version"])?;
    let version: serde_json::Value = serde_json::from_str(&version).context("read the server's version")?;
    let version = version["gitVersion"].as_str().unwrap_or("of unknown version");
    let proxy = cluster.setup.options.proxy_mode.name();
    let nodes = cluster.nodes().iter().map(|worker| {
        let node = worker.node();
        format!("{} ({}) {}: nsenter -t {} -a", node.name(), node.zone(), node.address(), node.init_pid())
    });
    Ok(Held {
        kubeconfig: absolute(cluster.kubeconfig()),
        kubectl: absolute(&cluster.kubectl().program),
        folder: cluster.fabric().run_dir().to_path_buf(),
        nodes: nodes.collect(),
        version: format!("Kubernetes {version}, kube-proxy mode {proxy}"),
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
