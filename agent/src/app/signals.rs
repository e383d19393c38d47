// SPDX-License-Identifier: Apache-2.0
//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// As a shell reports a process that SIGTERM ended.
const IMPATIENT_EXIT: i32 = 143;

/// The signals that ask the agent to go.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    asked: bool,
}

impl Signals {
    /// Takes them over from the default, which would end the process.
    pub(super) fn new() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, asked: false })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        let name = tokio::select! {
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            else => std::future::pending().await,
        };
        self.asked = true;
        name
    }

    /// Cancels `asked` at the first one, or now if that has been, and ends the process at the second: whoever asks twice does not want to wait. An agent that drains because a newer
    /// one has taken over has not been asked yet: the runtime sends its first SIGTERM when the newer one is ready.
    pub(super) async fn exit_when_asked_twice(mut self, asked: CancellationToken) {
        if !self.asked {
            let name = self.next().await;
            tracing::info!("{name}: draining already");
        }
        asked.cancel();
        let name = self.next().await;
        tracing::warn!("{name} while draining: going at once");
        std::process::exit(IMPATIENT_EXIT);
    }
}
