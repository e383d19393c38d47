// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench discovery`: what the real server costs, against its targets.
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | the runs |
//! | `world` | clusters of any size, and single changes to them |
//! | `apiserver` | what a cluster looks like to the server: lists and watches |
//! | `server`, `crew` | the two processes of a run: the real binary, and all of its clients |
//! | `client` | the clients' process |
//! | `measure` | one run |
//! | `targets`, `report`, `curve`, `draw` | what is made of the figures |
//!
//! Every client has a connection of its own, over TCP. Clients scan what they are sent and do not decode it, and still share
//! the machine with the server: delays are those of this machine under that load, never better ones. Services and
//! EndpointSlices come from where they come from in a cluster, through the Kubernetes source.
//! Deliberately not here: a real API server, TLS, other control planes (their figures are constants in `targets`).

mod apiserver;
mod client;
mod crew;
mod curve;
mod draw;
mod measure;
mod plan;
mod progress;
mod report;
mod server;
mod targets;
#[cfg(test)]
mod testing;
mod world;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
pub(crate) use client::{ClientArgs, run as clients};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use plan::{Extent, Run};
use progress::Progress;

/// File descriptors that a process needs beside those of the clients.
const SPARE_FILES: u64 = 256;

/// What to measure and where to put it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the figures as one JSON object, the last line
    #[arg(long)]
    json: bool,
    /// Fewer and smaller runs, half a minute: not all targets are looked at
    #[arg(long)]
    quick: bool,
    /// Tiny runs that only show that the benchmark itself works; no target is looked at
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Write drawings into this folder: discovery-services.svg, discovery-endpoints.svg, discovery-clients.svg
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Only runs whose title contains this, e.g. "500 delta"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

impl Args {
    fn extent(&self) -> Extent {
        match (self.smoke, self.quick) {
            (true, _) => Extent::Smoke,
            (false, true) => Extent::Quick,
            (false, false) => Extent::Full,
        }
    }
}

/// Measures, prints, and says whether all targets were reached.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let wanted = |run: &Run| args.only.as_ref().is_none_or(|text| run.title().contains(text));
    let extent = args.extent();
    let runs: Vec<Run> = plan::runs(extent).into_iter().filter(wanted).collect();
    if runs.is_empty() {
        let titles: Vec<_> = plan::runs(extent).iter().map(Run::title).collect();
        bail!("--only names none of: {}", titles.join("; "));
    }
    allow_files(runs.iter().map(|run| run.clients).max().unwrap_or(0) as u64)?;
    let mut all = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let mut progress = Progress::new(at + 1, runs.len(), &run.title());
        let figures = measure::measure(run, &mut progress).with_context(|| run.title())?;
        let (p99, cpu) = (figures.push_p99_ms, figures.cpu_ms_per_change);
        progress.done(&format!("push p99 {p99:.1} ms, {cpu:.2} ms CPU per change, {:.0} MB", figures.rss_mb));
        all.push(figures);
    }
    let reached = report::print(&all, extent);
    if let Some(folder) = &args.svg {
        draw::write(&all, folder)?;
    }
    if args.json {
        println!("{}", report::json(&all, extent));
    }
    Ok(reached)
}

/// Both child processes inherit this one's limit, and each holds one end of every connection.
fn allow_files(clients: u64) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    let needed = clients + SPARE_FILES;
    if most < needed {
        bail!(
            "{clients} clients need {needed} open files and the hard limit is {most}; raise it: ulimit -Hn {needed}"
        );
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")
}
