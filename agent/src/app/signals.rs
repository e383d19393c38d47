// SPDX-License-Identifier: Apache-2.0
//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// As a shell reports a process that SIGTERM ended.
const IMPATIENT_EXIT: i32 = 143;

/// The signals that ask the agent to go.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them over from the default, which would end the process.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            else => std::future::pending().await,
        }
    }

    /// Ends the process at the next one: whoever asks twice does not want to wait.
    pub(super) async fn exit_at_next(mut self) {
        let name = self.next().await;
        tracing::warn!("{name} while draining: going at once");
        std::process::exit(IMPATIENT_EXIT);
    }
}
