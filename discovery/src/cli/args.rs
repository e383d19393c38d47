// SPDX-License-Identifier: Apache-2.0
//! Flags and subcommands. Help texts are the doc comments.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use evenkeel_proto::DISCOVERY_ADMIN_SOCKET;

use crate::certificates::CertificatesArgs;
use crate::config;

/// Rows of a table on one screen, beside its head.
const ROWS: usize = 30;

/// Evenkeel's endpoint discovery service: reads Services, EndpointSlices and Nodes, serves them as xDS
///
/// Without a command it serves: over TCP with TLS (--tls-cert, --tls-key), or in PLAINTEXT if you say so by name
/// (--plaintext). A unix socket needs neither. The commands ask a service that runs on this machine.
#[derive(Debug, Parser)]
#[command(name = "evenkeel-discovery", version)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Cli {
    /// How to serve.
    #[command(flatten)]
    pub serve: config::Args,
    /// What to ask instead.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make or renew the certificates that the service and its clients use, as objects of the cluster
    Certificates(Box<CertificatesArgs>),
    /// Asks a running service.
    #[command(flatten)]
    Ask(Question),
}

/// Questions to a running service.
#[derive(Debug, Subcommand)]
pub enum Question {
    /// Show the service as a whole: what it holds, where it has it from, what is wrong
    Index(Query),
    /// Show one Service with its endpoints
    Service {
        /// NAMESPACE/NAME, or NAME where that is unambiguous
        service: String,
        /// As clients in this zone see it
        #[arg(long, value_name = "ZONE", default_value = "")]
        zone: String,
        /// How and whom to ask.
        #[command(flatten)]
        query: Query,
    },
    /// List the clients, those that are not in sync first
    Clients(Query),
    /// Show one client: what it asked for, what it has acknowledged, what it has rejected and why
    Client {
        /// Its node.id, or the number of its stream
        client: String,
        /// How and whom to ask.
        #[command(flatten)]
        query: Query,
    },
    /// Show the load that clients report, by Service and zones
    Load {
        /// NAMESPACE/NAME, or NAME where that is unambiguous; all Services if it is not given
        service: Option<String>,
        /// How and whom to ask.
        #[command(flatten)]
        query: Query,
    },
}

/// What all questions have in common.
#[derive(Debug, Args)]
pub struct Query {
    /// How to answer
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Table)]
    output: Output,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// All rows, however many screens they need
    #[arg(long)]
    all: bool,
    /// Unix socket of the service
    #[arg(long, value_name = "PATH", env = "EVENKEEL_DISCOVERY_ADMIN_SOCKET", default_value = DISCOVERY_ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
}

/// How a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

// === impl Query ===

impl Query {
    /// Whether to answer in JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        self.json || self.output == Output::Json
    }

    /// How many rows a table may have.
    #[must_use]
    pub fn rows(&self) -> usize {
        if self.all { usize::MAX } else { ROWS }
    }
}
