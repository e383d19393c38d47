// SPDX-License-Identifier: Apache-2.0
//! The agent's sign of life, and who of several agents owns the node.
//!
//! The programs read it at every connect to a Service (see [`evenkeel_abi::stance`]); agents read it to learn that a newer
//! one took over. Deciding is pure ([`judge`]); writing is one `u64` at a time.

use std::time::Duration;

use evenkeel_abi::{Control, has_departed};

use super::{
    KernelError,
    ownership::{ControlArray, Ownership},
};
use crate::clock::monotonic_ns;

/// A heartbeat younger than this belongs to a live agent. Agents beat several times within it.
pub const ALIVE: Duration = Duration::from_secs(1);

/// What a look at the heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// We own the node.
    Owner,
    /// A newer, live agent owns it. Register nothing, write nothing.
    Superseded {
        /// Its generation.
        generation: u64,
    },
    /// Another agent owned it and is dead or silent: claim again, unless this one is about to go.
    Vacant {
        /// Its generation.
        generation: u64,
    },
}

/// Decides from our generation (zero: never claimed), the one in the map, that of the last owner that died, and the
/// heartbeat's age.
#[must_use]
pub fn judge(ours: u64, owner: u64, departed: u64, now_ns: u64, heartbeat_ns: u64) -> Beat {
    if ours != 0 && ours == owner {
        return Beat::Owner;
    }
    let age = now_ns.saturating_sub(heartbeat_ns);
    if heartbeat_ns != 0 && age < ALIVE.as_nanos() as u64 && !has_departed(owner, departed) {
        Beat::Superseded { generation: owner }
    } else {
        Beat::Vacant { generation: owner }
    }
}

/// The heartbeat of this agent. Cheap to clone.
#[derive(Clone)]
pub struct Heartbeat {
    control: ControlArray,
    ownership: Ownership,
    stale_after: Duration,
    stand_aside_after: Duration,
}

impl Heartbeat {
    pub(super) fn new(
        control: ControlArray,
        ownership: Ownership,
        stale_after: Duration,
        stand_aside_after: Duration,
    ) -> Self {
        Self { control, ownership, stale_after, stand_aside_after }
    }

    /// The generation after the one that is there: larger than that of every agent before.
    pub fn next_generation(&self) -> Result<u64, KernelError> {
        Ok(self.control.get(Control::Generation)?.saturating_add(1))
    }

    /// Makes this agent the owner, with its time limits, and beats once. Waits for a publication of the previous owner to
    /// end, at most about two seconds.
    pub fn claim(&self, generation: u64) -> Result<(), KernelError> {
        self.ownership.claim(generation, |control| {
            control.set(Control::StaleAfter, self.stale_after.as_nanos() as u64)?;
            control.set(Control::StandAsideAfter, self.stand_aside_after.as_nanos() as u64)?;
            control.set(Control::Heartbeat, monotonic_ns())
        })
    }

    /// As [`Heartbeat::claim`], but without a beat: for an agent that first publishes, and only then vouches for what the
    /// maps say.
    pub fn claim_quietly(&self, generation: u64) -> Result<(), KernelError> {
        self.ownership.claim(generation, |control| {
            control.set(Control::StaleAfter, self.stale_after.as_nanos() as u64)?;
            control.set(Control::StandAsideAfter, self.stand_aside_after.as_nanos() as u64)
        })
    }

    /// Beats, if this agent is the owner.
    pub fn beat(&self) -> Result<Beat, KernelError> {
        let beat = self.look()?;
        if beat == Beat::Owner {
            self.control.set(Control::Heartbeat, monotonic_ns())?;
        }
        Ok(beat)
    }

    /// Looks without beating.
    pub fn look(&self) -> Result<Beat, KernelError> {
        let owner = self.control.get(Control::Generation)?;
        let departed = self.control.get(Control::Departed)?;
        let heartbeat = self.control.get(Control::Heartbeat)?;
        Ok(judge(self.ownership.generation(), owner, departed, monotonic_ns(), heartbeat))
    }

    /// The generation of a newer agent that lives, if there is one.
    pub fn newer_owner(&self) -> Result<Option<u64>, KernelError> {
        let ours = self.ownership.generation();
        Ok(match self.look()? {
            Beat::Superseded { generation } if generation > ours => Some(generation),
            _ => None,
        })
    }

    /// Our generation; zero before the first claim.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.ownership.generation()
    }

    /// Age of the heartbeat in force; `None` when there never was one.
    pub fn age(&self) -> Result<Option<Duration>, KernelError> {
        let heartbeat = self.control.get(Control::Heartbeat)?;
        let age = monotonic_ns().saturating_sub(heartbeat);
        Ok((heartbeat != 0).then(|| Duration::from_nanos(age)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_agent_whose_generation_is_there_owns_the_node() {
        assert_eq!(judge(3, 3, 0, 90 * SECOND, 1), Beat::Owner);
    }

    #[test]
    fn a_newer_live_agent_supersedes() {
        assert_eq!(judge(3, 4, 0, 10 * SECOND, 10 * SECOND - 1), Beat::Superseded { generation: 4 });
    }

    #[test]
    fn a_newer_agent_that_died_leaves_the_node_vacant_at_once() {
        let died = |departed| judge(3, 4, departed, 10 * SECOND, 10 * SECOND - 1);
        assert_eq!(died(4), Beat::Vacant { generation: 4 });
        assert_eq!(died(2), Beat::Superseded { generation: 4 }, "that was another one");
    }

    #[test]
    fn a_newer_silent_agent_leaves_the_node_vacant() {
        assert_eq!(judge(3, 4, 0, 10 * SECOND, 9 * SECOND), Beat::Vacant { generation: 4 });
    }

    #[test]
    fn before_the_first_claim_nobody_is_owner_of_fresh_maps() {
        assert_eq!(judge(0, 0, 0, 10 * SECOND, 0), Beat::Vacant { generation: 0 });
    }
}
