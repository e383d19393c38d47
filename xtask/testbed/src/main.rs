// SPDX-License-Identifier: Apache-2.0
//! The testbed's own binary: what runs inside nodes and pods (init, peers, probes), the reaper, the demo, and a
//! testbed for people to look around in.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod up;

#[derive(Debug, Parser)]
#[command(name = "evenkeel-testbed", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Subcommands parse their own arguments: each lives with what it does.
#[derive(Debug, Subcommand)]
#[command(disable_help_flag = true)]
enum Command {
    /// Nodes and pods to look around in, until Ctrl-C
    Up(Rest),
    /// The demo's phases with real traffic
    Demo(Rest),
    /// A gRPC-style server (run inside a pod)
    Server(Rest),
    /// Open-loop load (run inside a pod)
    Client(Rest),
    /// A TCP server that says who it is (run inside a pod)
    EchoServer(Rest),
    /// Counts what connects lead to (run inside a pod)
    ProbeConnect(Rest),
    /// Holds connections and makes broken ones anew (run inside a pod)
    ProbeReconnect(Rest),
    /// A real Kubernetes cluster: up, down, kubectl
    Cluster(Rest),
    /// Holds a pod's namespaces (internal)
    #[command(hide = true)]
    Pause,
    /// PID 1 of a node (internal)
    #[command(hide = true)]
    NodeInit(Rest),
    /// Removes a run whose creator died (internal)
    #[command(hide = true)]
    Reaper(Rest),
}

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(rest) => up::main(rest.args),
        Command::Demo(rest) => evenkeel_testbed::demo::main(rest.args),
        Command::Server(rest) => evenkeel_testbed::peer::server::main(rest.args),
        Command::Client(rest) => evenkeel_testbed::peer::client::main(rest.args),
        Command::EchoServer(rest) => evenkeel_testbed::probe::echo::main(rest.args),
        Command::ProbeConnect(rest) => evenkeel_testbed::probe::connect::main(rest.args),
        Command::ProbeReconnect(rest) => evenkeel_testbed::probe::reconnect::main(rest.args),
        Command::Cluster(rest) => evenkeel_testbed::cluster::main(rest.args),
        Command::Pause => evenkeel_testbed::pause::main(),
        Command::NodeInit(rest) => evenkeel_testbed::node_init(rest.args),
        Command::Reaper(rest) => evenkeel_testbed::cleanup::reaper(rest.args),
    }
}

/// Clap's errors know how to be shown (help is one of them); others are one line.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        usage.exit();
    }
    eprintln!("evenkeel-testbed: {error:#}");
    ExitCode::FAILURE
}
