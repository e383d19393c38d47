// SPDX-License-Identifier: Apache-2.0
//! The binary `evenkeel`: the node agent and the commands that ask it.

use std::process::ExitCode;

use clap::Parser as _;
use evenkeel_agent::{
    app,
    cli::{self, Cli, Command},
    telemetry,
};

/// As clap exits on wrong usage.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => run(*args),
        command => cli::main(command),
    }
}

fn run(args: evenkeel_agent::config::RunArgs) -> ExitCode {
    if let Err(error) = telemetry::init_logs(&args.log, args.log_format) {
        return refuse(&error);
    }
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let config = match args.validate(&host_name) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    telemetry::exit_on_panic();
    match app::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evenkeel: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with those of its causes that it does not tell itself.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("evenkeel: {error}");
    ExitCode::from(USAGE)
}
