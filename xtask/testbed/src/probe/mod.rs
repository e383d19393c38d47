// SPDX-License-Identifier: Apache-2.0
//! Small TCP peers for tests of connections: a server that says who it is and whom it sees, and clients that count what
//! they got. All are subcommands, run inside pods.
//!
//! Deliberately not here: HTTP/2 and load ([`crate::peer`]).

pub mod connect;
pub mod echo;
pub mod reconnect;

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};

/// Prints a line of JSON at once: whoever reads the other end of the pipe waits for it.
fn print(what: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what)?)?;
    Ok(out.flush()?)
}

/// The report in a probe's output: its last line.
fn last_report<R: DeserializeOwned>(text: &str) -> Result<R> {
    let line = text.lines().next_back().context("the probe printed nothing")?;
    serde_json::from_str(line).with_context(|| format!("not a probe's report: {line}"))
}

/// `ECONNREFUSED` and the like; a timeout of our own is `timeout`.
fn error_name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => "timeout".into(),
        Some(code) => format!("{:?}", nix::errno::Errno::from_raw(code)),
        None if error.kind() == io::ErrorKind::TimedOut => "timeout".into(),
        None => error.to_string(),
    }
}
