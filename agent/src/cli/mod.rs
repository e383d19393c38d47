// SPDX-License-Identifier: Apache-2.0
//! The commands of `evenkeel`: the daemon, the questions one can ask it, and the simulator (`evenkeel_sim::cli`).
//!
//! | file | what it is |
//! |---|---|
//! | `args` | command line |
//! | `ask` | the questions of the admin API |
//! | `tables` | messages as tables for people |
//! | `detach` | taking everything out of the kernel, without an agent |
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. JSON is the message with its field names; tables may change between
//! versions, JSON only grows.

mod args;
mod ask;
mod detach;
mod tables;

use std::{io::IsTerminal as _, process::ExitCode};

pub use args::{Cli, Command};
use args::{Output, Query};
use evenkeel_console::{ask::AskError, json, print};

/// A command failed: what a person reads, and the exit code.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The admin API did not answer, or refused.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Detaching failed or was refused.
    #[error(transparent)]
    Detach(#[from] detach::DetachError),
    /// A scenario is wrong, or a drawing could not be written.
    #[error(transparent)]
    Simulate(#[from] evenkeel_sim::cli::SimulateError),
    /// No runtime could be built.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// Runs any command but `run`, prints its answer, and returns the exit code.
#[must_use]
pub fn main(command: Command) -> ExitCode {
    match execute(command) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("evenkeel: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs any command but `run` and returns what it prints.
///
/// # Errors
/// What went wrong, for a person.
pub fn execute(command: Command) -> Result<String, CliError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    match command {
        // The daemon is not a question; `main` dispatches it before it comes here.
        Command::Run(_) => Ok(String::new()),
        Command::Status(query) => runtime.block_on(async {
            let status = ask::Client::connect(&query.admin_socket).await?.status().await?;
            Ok(answer(&query, &status, tables::status))
        }),
        Command::Services(query) => runtime.block_on(async {
            let services = ask::Client::connect(&query.admin_socket).await?.services().await?;
            Ok(answer(&query, &services, tables::services))
        }),
        Command::Endpoints { service, query } => runtime.block_on(async {
            let endpoints = ask::Client::connect(&query.admin_socket).await?.endpoints(service).await?;
            Ok(answer(&query, &endpoints, tables::endpoints))
        }),
        Command::Connections(query) => runtime.block_on(async {
            let connections = ask::Client::connect(&query.admin_socket).await?.connections().await?;
            Ok(answer(&query, &connections, tables::connections))
        }),
        Command::Explain { address, query } => runtime.block_on(async {
            let explanation = ask::Client::connect(&query.admin_socket).await?.explain(address).await?;
            Ok(answer(&query, &explanation, tables::explanation))
        }),
        Command::Detach(flags) => {
            let detached = detach::run(&flags)?;
            let text = match flags.output {
                Output::Json => json(&detached),
                Output::Table => detached.to_string(),
            };
            if !flags.stay {
                return Ok(text);
            }
            print(&text);
            runtime.block_on(detach::told_to_end()).map_err(CliError::Runtime)?;
            Ok(String::new())
        }
        Command::Simulate(args) => Ok(evenkeel_sim::cli::execute(&args, std::io::stderr().is_terminal())?),
    }
}

fn answer<M: serde::Serialize>(query: &Query, message: &M, table: impl Fn(&M) -> String) -> String {
    match query.output {
        Output::Json => json(message),
        Output::Table => table(message),
    }
}
