// SPDX-License-Identifier: Apache-2.0
//! The tracing subscriber, and panics that end the process.

use std::{io, io::IsTerminal as _, panic};

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::config::LogFormat;

/// Exit code after a panic; Rust's own.
const PANIC_EXIT: i32 = 101;

/// The filter cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log {filter:?}: {reason}; give a level (error, warn, info, debug, trace) or directives such as \
         info,evenkeel_agent=debug"
)]
pub struct LogError {
    /// As given.
    pub filter: String,
    /// What the parser said.
    pub reason: String,
}

/// Logs to stderr. Call once.
///
/// # Errors
/// When the filter does not parse.
pub fn init_logs(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let refuse = |reason: String| LogError { filter: filter.to_owned(), reason };
    let parsed = EnvFilter::try_new(filter).map_err(|error| refuse(error.to_string()))?;
    let registry = tracing_subscriber::registry().with(parsed);
    let done = match format {
        LogFormat::Text => {
            let colour = io::stderr().is_terminal();
            registry.with(fmt::layer().with_ansi(colour).with_writer(io::stderr)).try_init()
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(io::stderr)).try_init(),
    };
    done.map_err(|error| refuse(error.to_string()))
}

/// Makes a panic in any thread or task the end of the process: an agent of which a part is missing must not go on to beat
/// its heart. The kernel notices a dead agent at once and loses no connect; it could not notice half a one.
pub fn exit_on_panic() {
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            place,
            "panic, the agent ends (this is a bug, please report it): {message}"
        );
        std::process::exit(PANIC_EXIT);
    }));
}
