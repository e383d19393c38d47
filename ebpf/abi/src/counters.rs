// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the programs count, per CPU, by outcome. A connect to an address that is not opted in counts nothing.

/// Index into the `COUNTERS` per-CPU array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Connects rewritten to an endpoint chosen in the kernel.
    Balanced = 0,
    /// Connects handed to the request path.
    HandedOver = 1,
    /// Balanced in the kernel though the port is per request: the namespace has no live listener.
    NoListener = 2,
    /// Balanced in the kernel though the port is per request: the heartbeat is stale, or the agent has died.
    Stale = 3,
    /// Balanced in the kernel though the port is per request: the socket cannot use loopback.
    Unsuitable = 4,
    /// Left alone: the heartbeat has been stale for long.
    StoodAside = 5,
    /// Left alone: the Service has no endpoint.
    NoEndpoint = 6,
    /// Left alone: the Service carries a flag that this program does not know.
    UnknownFlags = 7,
    /// Left alone: no memory for socket storage.
    NoStorage = 8,
    /// Handed over, but the original destination could not be recorded; the proxy will refuse it.
    NoOrigin = 9,
    /// Balanced sockets closed, their load returned.
    Released = 10,
    /// Sockets that connected again: the earlier choice was returned first.
    Reconnected = 11,
    /// `getpeername`/`getsockname` answers rewritten.
    Translated = 12,
    /// Answers left alone: the peer is not the one that was chosen.
    PeerChanged = 13,
    /// Handed-over connections that were established.
    Established = 14,
    /// Left alone: a slot or a backend that the tables name is missing.
    Dangling = 15,
}

impl Counter {
    /// Entries of the `COUNTERS` array.
    pub const LEN: u32 = 32;

    /// Every counter with its name in metrics and in `evenkeel status`.
    pub const ALL: [(Self, &'static str); 16] = [
        (Self::Balanced, "balanced"),
        (Self::HandedOver, "handed_over"),
        (Self::NoListener, "no_listener"),
        (Self::Stale, "stale"),
        (Self::Unsuitable, "unsuitable"),
        (Self::StoodAside, "stood_aside"),
        (Self::NoEndpoint, "no_endpoint"),
        (Self::UnknownFlags, "unknown_flags"),
        (Self::NoStorage, "no_storage"),
        (Self::NoOrigin, "no_origin"),
        (Self::Released, "released"),
        (Self::Reconnected, "reconnected"),
        (Self::Translated, "translated"),
        (Self::PeerChanged, "peer_changed"),
        (Self::Established, "established"),
        (Self::Dangling, "dangling"),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_place_and_name() {
        for (i, (counter, name)) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, i);
            assert!(Counter::ALL.iter().filter(|(_, other)| other == name).count() == 1);
        }
        assert!(Counter::ALL.len() <= Counter::LEN as usize);
    }
}
