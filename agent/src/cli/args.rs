// SPDX-License-Identifier: Apache-2.0
//! The command line. Help texts are the doc comments.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{DEFAULT_ADMIN_SOCKET, DEFAULT_PINS, DEFAULT_STATE_DIR, RunArgs, duration};

/// Node-level load balancing: every connection and every gRPC request of this node's pods to a near, healthy, lightly
/// loaded endpoint
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the node agent
    Run(Box<RunArgs>),
    /// Show the agent as a whole: who it is, what it holds, what is wrong
    Status(Query),
    /// List the Services that opted in, port by port
    Services(Query),
    /// List the endpoints of a Service with their load
    Endpoints {
        /// NAMESPACE/NAME, or NAME where that is unambiguous
        service: String,
        /// How and whom to ask.
        #[command(flatten)]
        query: Query,
    },
    /// List connections: per endpoint what the kernel placed, per client what the request path serves
    Connections(Query),
    /// Tell why a connect to an address goes where it goes
    Explain {
        /// ADDRESS:PORT of a Service, e.g. 10.96.0.10:8080 or [fd00::1]:80
        #[arg(value_name = "ADDRESS:PORT", value_parser = address)]
        address: SocketAddr,
        /// How and whom to ask.
        #[command(flatten)]
        query: Query,
    },
    /// Take programs, links and maps out of the kernel; works without an agent
    Detach(DetachArgs),
    /// Compare balancing policies on a scenario, in virtual time; needs neither agent nor root
    Simulate(Box<evenkeel_sim::cli::Args>),
}

/// What all questions have in common.
#[derive(Debug, Args)]
pub struct Query {
    /// How to answer
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Unix socket of the agent
    #[arg(long, value_name = "PATH", env = "EVENKEEL_ADMIN_SOCKET", default_value = DEFAULT_ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
}

/// Flags of `detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// Folder of bpffs that holds the pins
    #[arg(long, value_name = "DIR", env = "EVENKEEL_PINS", default_value = DEFAULT_PINS)]
    pub pins: PathBuf,
    /// Detach even while an agent is alive: it goes on without any effect until it is started anew
    #[arg(long)]
    pub force: bool,
    /// How long to wait for agents that are still draining, e.g. 2m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s", conflicts_with = "force")]
    pub wait: Duration,
    /// Delete the last good state as well
    #[arg(long)]
    pub forget: bool,
    /// Folder of the last good state
    #[arg(long, value_name = "DIR", env = "EVENKEEL_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// When done, wait for SIGTERM instead of ending: for a pod that must not end, as a DaemonSet's
    #[arg(long)]
    pub stay: bool,
    /// How to answer
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "it is not ADDRESS:PORT, e.g. 10.96.0.10:8080 or [fd00::1]:80; host names are not resolved, give the Service's \
         cluster IP"
            .to_owned()
    })
}
