// SPDX-License-Identifier: Apache-2.0
//! The command line: the service itself, and questions that one can ask a running one.
//!
//! | file | what it is |
//! |---|---|
//! | `args` | flags and subcommands |
//! | `ask` | the questions of the admin API |
//! | `tables` | messages as tables for people |
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. JSON is the message with its field names; tables may change between
//! versions, JSON only grows.

mod args;
mod ask;
mod tables;

use std::process::ExitCode;

use evenkeel_console::{ask::AskError, json, print};
use evenkeel_proto::discovery_admin as api;

pub use self::args::{Cli, Command, Query, Question};

/// A command failed: what a person reads.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The admin API did not answer, or refused.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No runtime could be built.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// Asks, prints the answer, and returns the exit code.
#[must_use]
pub fn main(question: Question) -> ExitCode {
    match execute(question) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("evenkeel-discovery: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Asks and returns what is printed.
///
/// # Errors
/// What went wrong, for a person.
pub fn execute(question: Question) -> Result<String, CliError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    Ok(runtime.block_on(answer(question))?)
}

async fn answer(question: Question) -> Result<String, AskError> {
    match question {
        Question::Index(query) => {
            let index = ask::Client::connect(&query.admin_socket).await?.index().await?;
            Ok(shown(&query, &index, tables::index))
        }
        Question::Service { service, zone, query } => {
            let request = api::GetServiceRequest { service, zone };
            let service = ask::Client::connect(&query.admin_socket).await?.service(request).await?;
            Ok(shown(&query, &service, tables::service))
        }
        Question::Clients(query) => {
            let clients = ask::Client::connect(&query.admin_socket).await?.clients().await?;
            Ok(shown(&query, &clients, tables::clients))
        }
        Question::Client { client, query } => {
            let client = ask::Client::connect(&query.admin_socket).await?.client(client).await?;
            Ok(shown(&query, &client, tables::client))
        }
        Question::Load { service, query } => {
            let service = service.unwrap_or_default();
            let load = ask::Client::connect(&query.admin_socket).await?.load(service).await?;
            Ok(shown(&query, &load, tables::load))
        }
    }
}

fn shown<M: serde::Serialize>(query: &Query, message: &M, table: impl Fn(&M, usize) -> String) -> String {
    if query.json() { json(message) } else { table(message, query.rows()) }
}
