// SPDX-License-Identifier: Apache-2.0
//! `pause`: holds the namespaces of a container runtime's pod, and reaps what becomes an orphan in them.

use anyhow::{Context, Result};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

/// Waits for SIGINT or SIGTERM.
///
/// # Errors
/// The kernel refuses a signal mask.
pub fn main() -> Result<()> {
    // SAFETY: no handler is installed. Ignored children leave no zombies.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.context("ignore the end of children")?;
    let mut end = SigSet::empty();
    end.add(Signal::SIGINT);
    end.add(Signal::SIGTERM);
    end.thread_block().context("block signals")?;
    end.wait().context("wait for a signal")?;
    Ok(())
}
