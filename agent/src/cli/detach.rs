// SPDX-License-Identifier: Apache-2.0
//! `evenkeel detach`: takes links and pins out of the kernel. Needs no agent, and is refused while one lives.
//!
//! Connections that the kernel has placed stay as they are; new ones are left to the node's own rules.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use aya::maps::{Array, Map, MapData};
use evenkeel_abi::{Control, Stance, maps, stance};

use crate::{
    clock::monotonic_ns,
    kernel::{self, KernelError},
};

/// Why nothing was detached.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// An agent is at work.
    #[error(
        "an agent is alive (its heartbeat in {} is {age_ms} ms old): stop it first, or give --force to detach under it",
        pins.display()
    )]
    Alive {
        /// Folder of the pins.
        pins: PathBuf,
        /// Age of the heartbeat.
        age_ms: u64,
    },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// What was detached.
#[derive(Debug, serde::Serialize)]
pub(super) struct Detached {
    /// Folder of the pins.
    pub pins: PathBuf,
    /// Names of what was removed from it.
    pub removed: Vec<String>,
}

/// Detaches what is pinned in `pins`, unless a live agent owns it and `force` is not given.
pub(super) fn detach(pins: &Path, force: bool) -> Result<Detached, DetachError> {
    if !force && let Some(age_ms) = live_heartbeat(pins) {
        return Err(DetachError::Alive { pins: pins.to_owned(), age_ms });
    }
    Ok(Detached { pins: pins.to_owned(), removed: kernel::detach(pins)? })
}

/// The age of the pinned heartbeat in ms, if it is fresh. Pins that cannot be read hold no live agent for us: detaching
/// is then the way out.
fn live_heartbeat(pins: &Path) -> Option<u64> {
    let data = MapData::from_pin(pins.join(maps::CONTROL)).ok()?;
    let control: Array<_, u64> = Map::Array(data).try_into().ok()?;
    let read = |index: Control| control.get(&(index as u32), 0).ok();
    fresh_age(monotonic_ns(), read(Control::Heartbeat)?, read(Control::StaleAfter)?)
}

fn fresh_age(now_ns: u64, heartbeat_ns: u64, stale_ns: u64) -> Option<u64> {
    let fresh = stance(now_ns, heartbeat_ns, stale_ns, u64::MAX) == Stance::Serve;
    fresh.then(|| now_ns.saturating_sub(heartbeat_ns) / 1_000_000)
}

impl fmt::Display for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.removed.is_empty() {
            return writeln!(f, "Nothing is pinned in {}: nothing to detach.", self.pins.display());
        }
        writeln!(f, "Detached; removed from {}:", self.pins.display())?;
        self.removed.iter().try_for_each(|name| writeln!(f, "  {name}"))?;
        writeln!(f, "New connections are left to the node's own rules; open ones go on as they are.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_heartbeat_counts_as_alive() {
        const MS: u64 = 1_000_000;
        assert_eq!(fresh_age(1_500 * MS, 1_000 * MS, 2_000 * MS), Some(500));
        assert_eq!(fresh_age(3_000 * MS, 1_000 * MS, 2_000 * MS), None, "stale");
        assert_eq!(fresh_age(3_000 * MS, 0, 2_000 * MS), None, "never beaten");
    }

    #[test]
    fn a_folder_without_pins_holds_no_agent() {
        assert_eq!(live_heartbeat(Path::new("/does/not/exist")), None);
    }

    #[test]
    fn what_was_removed_is_named() {
        let detached = Detached { pins: "/pins".into(), removed: vec!["ek_connect4".into(), "SLOTS".into()] };
        assert_eq!(
            detached.to_string(),
            "Detached; removed from /pins:\n  ek_connect4\n  SLOTS\nNew connections are left to the node's own rules; \
             open ones go on as they are.\n"
        );
        let nothing = Detached { pins: "/pins".into(), removed: vec![] };
        assert_eq!(nothing.to_string(), "Nothing is pinned in /pins: nothing to detach.\n");
    }
}
