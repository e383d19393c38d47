// SPDX-License-Identifier: Apache-2.0
//! What the pods' tasks need of the kernel's maps, as a trait: the maps in the daemon, a table in tests.

use std::{io, os::fd::BorrowedFd};

use evenkeel_abi::PodAddresses;

/// Where listeners and addresses of pods are registered, by namespace cookie.
pub trait Registry: Send + Sync + 'static {
    /// Registers or replaces listeners and addresses. A family without a listener has none afterwards.
    ///
    /// # Errors
    /// A map is full or refused the socket.
    fn register(
        &self,
        netns_cookie: u64,
        v4: BorrowedFd<'_>,
        v6: Option<BorrowedFd<'_>>,
        addresses: PodAddresses,
    ) -> io::Result<()>;

    /// Takes an entry out; none there is fine.
    ///
    /// # Errors
    /// The map refused.
    fn unregister(&self, netns_cookie: u64) -> io::Result<()>;

    /// Generation of the agent whose entry is there.
    fn owner(&self, netns_cookie: u64) -> Option<u64>;

    /// All entries: cookie and generation.
    ///
    /// # Errors
    /// The map could not be read.
    fn entries(&self) -> io::Result<Vec<(u64, u64)>>;
}

/// What this agent is to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not the owner: it has not claimed the node yet, or a newer live agent has. Finds pods, registers nothing.
    Standby,
    /// The owner: registers, and asserts its entries.
    Owner,
    /// On its way out: takes back its own entries, accepts a little longer, finishes what it has.
    Draining,
    /// On its way out because a newer agent owns the node: as [`Role::Draining`], once that one's listeners are in place.
    Superseded,
}
