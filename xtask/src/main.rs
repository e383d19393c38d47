// SPDX-License-Identifier: Apache-2.0
//! The project's own tasks: `cargo xtask setup | ebpf | build | image | test | demo | cluster | bench | ci`.
//!
//! What must always be true:
//! * a command that needs root says so before it does anything else;
//! * progress goes to standard error, so that standard output belongs to what is run (`demo --json`);
//! * what is fetched or built once is kept in the user's cache, keyed by version, and appears there whole or not at all;
//! * a step that cannot run fails; none is skipped in silence.
//!
//! Deliberately not here: product logic, and anything that links into the product. The demo and the node tests
//! are in `xtask/testbed`, the benchmarks in `xtask/bench`; this program only prepares what they need and starts them.
#![forbid(unsafe_code)]

mod cache;
mod child;
mod commands;
mod debian;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod docs;
mod ebpf;
mod go;
mod kubernetes;
mod linker;
mod path_lookup;
mod peers;
mod progress;
mod root;
mod tests;
mod toolchain;
mod tools;
mod wheels;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Set up, build, test and show Evenkeel")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch and build the tools that this machine lacks: eBPF compiler, bpf-linker, nft
    Setup,
    /// Build the kernel programs into target/ebpf/evenkeel.o (or where EVENKEEL_EBPF_OBJECT says)
    Ebpf,
    /// Set up, build the kernel programs and the binaries
    Build {
        /// Optimised, as the demo and the benchmarks use them
        #[arg(long)]
        release: bool,
    },
    /// Write the container images as OCI archives, without a container engine
    Image {
        /// Optimised, as a cluster should run them
        #[arg(long)]
        release: bool,
        /// Folder for evenkeel.tar and evenkeel-discovery.tar [default: target/images]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// What stands before the images' names
        #[arg(long, value_name = "HOST[/PATH]", default_value = "localhost")]
        registry: String,
        /// Folder trees instead of archives, for a Dockerfile
        #[arg(long)]
        unpacked: bool,
    },
    /// Run the tests, all tiers unless one is named
    Test {
        /// Only this tier
        #[arg(long, value_enum)]
        tier: Option<Tier>,
        /// Only tests whose names contain one of these
        filters: Vec<String>,
    },
    /// Show the whole path on this machine: three zones, real load, real faults; with `--cluster` on a real Kubernetes
    Demo {
        /// Passed on to the demo, e.g. --cluster --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// A real Kubernetes cluster on this machine, in three zones: `cluster up`, `cluster kubectl …`, `cluster down`
    Cluster {
        /// Passed on, e.g. up --proxy-mode iptables
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure: `bench balance` for pickers, rebuilds and the simulator, `bench discovery` for the discovery service
    Bench {
        /// Passed on to the benchmark, e.g. balance --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What CI runs: formatting, lints, all tests
    Ci,
}

/// A group of tests by what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Laws, units and in-process tests: no privileges
    Unit,
    /// Real eBPF, nodes and pods as namespaces: root
    Node,
    /// A real Kubernetes cluster with three kubelets: root
    Cluster,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup => commands::setup(),
        Task::Ebpf => commands::ebpf(),
        Task::Build { release } => commands::build(release),
        Task::Image { release, out, registry, unpacked } => {
            commands::image(release, out.as_deref(), &registry, unpacked)
        }
        Task::Test { tier, filters } => commands::test(tier, &filters),
        Task::Demo { args } => commands::demo(&args),
        Task::Cluster { args } => commands::cluster(&args),
        Task::Bench { args } => commands::bench(&args),
        Task::Ci => commands::ci(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
