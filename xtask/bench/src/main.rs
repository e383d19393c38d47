// SPDX-License-Identifier: Apache-2.0
//! Benchmarks that need no root and no kernel. Started by `cargo xtask bench`, which builds them optimised.
//!
//! What must always be true:
//! * figures of `balance` are CPU time of the measuring thread, the best of several rounds: what other processes do costs
//!   time, not figures; those of `discovery` are the server's CPU time and, where delays are the point, time on the clock;
//! * a target that is missed is said so, and the exit code is 1;
//! * with `--json` the last line of standard output is one JSON object; progress goes to standard error.
//!
//! Deliberately not here: comparisons with other balancers, and anything that leaves the machine.

mod alloc;
mod balance;
mod bar;
mod clock;
mod discovery;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    about = "Measure parts of Evenkeel on this machine"
)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Pickers: time and allocations per pick, rebuild of a large view, requests simulated per second
    Balance {
        /// Print the figures as one JSON object, the last line
        #[arg(long)]
        json: bool,
    },
    /// The discovery service: first sync, delay and CPU per change, memory, with up to 5 000 clients
    Discovery(discovery::Args),
    /// The clients that `discovery` measures with; it starts this itself
    #[command(hide = true)]
    DiscoveryClients(discovery::ClientArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().what {
        What::Balance { json } => balance::run(json),
        What::Discovery(args) => discovery::run(&args),
        What::DiscoveryClients(args) => discovery::clients(&args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
