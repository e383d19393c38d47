// SPDX-License-Identifier: Apache-2.0
//! `evenkeel detach`: takes links and pins out of the kernel. Needs no agent, and is refused while one lives.
//!
//! Connections that the kernel has placed stay as they are; new ones are left to the node's own rules.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData};
use evenkeel_abi::{Control, Stance, maps, stance};

use tokio::signal::unix::{SignalKind, signal};

use super::args::DetachArgs;
use crate::{
    clock::monotonic_ns,
    kernel::{self, KernelError},
    store::persist::{self, SaveError},
};

/// How often it is looked whether an agent still lives.
const LOOK: Duration = Duration::from_millis(200);

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
    /// The last good state could not be deleted.
    #[error("detached, but {0}")]
    Forget(#[from] SaveError),
}

/// What was detached.
#[derive(Debug, serde::Serialize)]
pub(super) struct Detached {
    /// Folder of the pins.
    pub pins: PathBuf,
    /// Names of what was removed from it.
    pub removed: Vec<String>,
    /// Whether a last good state was deleted.
    pub forgotten: bool,
}

/// Does what the command line says, but for waiting at the end.
pub(super) fn run(flags: &DetachArgs) -> Result<Detached, DetachError> {
    let DetachArgs { pins, force, wait, forget, state_dir, stay: _, output: _ } = flags;
    let mut detached = until(Instant::now() + *wait, || detach(pins, *force))?;
    detached.forgotten = *forget && persist::forget(state_dir)?;
    Ok(detached)
}

/// Tries again while an agent lives, until `deadline`. The kernel tells nobody when a heartbeat ends.
fn until(
    deadline: Instant,
    mut detach: impl FnMut() -> Result<Detached, DetachError>,
) -> Result<Detached, DetachError> {
    loop {
        match detach() {
            Err(DetachError::Alive { .. }) if Instant::now() < deadline => std::thread::sleep(LOOK),
            result => return result,
        }
    }
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn told_to_end() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Detaches what is pinned in `pins`, unless a live agent owns it and `force` is not given.
pub(super) fn detach(pins: &Path, force: bool) -> Result<Detached, DetachError> {
    if !force && let Some(age_ms) = live_heartbeat(pins) {
        return Err(DetachError::Alive { pins: pins.to_owned(), age_ms });
    }
    Ok(Detached { pins: pins.to_owned(), removed: kernel::detach(pins)?, forgotten: false })
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
        if self.forgotten {
            writeln!(f, "The last good state is deleted.")?;
        }
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
    fn a_living_agent_is_waited_for_and_no_longer_than_told() {
        let alive = || Err(DetachError::Alive { pins: "/pins".into(), age_ms: 1 });
        assert!(matches!(until(Instant::now(), alive), Err(DetachError::Alive { .. })));
        let mut looks = 0;
        let goes = || {
            looks += 1;
            if looks < 3 {
                alive()
            } else {
                Ok(Detached { pins: "/pins".into(), removed: vec![], forgotten: false })
            }
        };
        until(Instant::now() + Duration::from_secs(60), goes).unwrap();
        assert_eq!(looks, 3);
    }

    #[test]
    fn what_was_removed_is_named() {
        let removed = vec!["ek_connect4".into(), "SLOTS".into()];
        let detached = Detached { pins: "/pins".into(), removed, forgotten: false };
        assert_eq!(
            detached.to_string(),
            "Detached; removed from /pins:\n  ek_connect4\n  SLOTS\nNew connections are left to the node's own rules; \
             open ones go on as they are.\n"
        );
        let mut nothing = Detached { pins: "/pins".into(), removed: vec![], forgotten: false };
        assert_eq!(nothing.to_string(), "Nothing is pinned in /pins: nothing to detach.\n");
        nothing.forgotten = true;
        assert!(nothing.to_string().starts_with("The last good state is deleted.\nNothing is pinned"));
    }
}
