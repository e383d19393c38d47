// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a balanced socket remembers, in its own storage: who chose what for it, and what must be given back.

use crate::Address;

/// Values of [`SocketState::kind`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Nothing was rewritten, or it was given back.
    Untouched = 0,
    /// Rewritten to a backend; its load was counted.
    Balanced = 1,
    /// Rewritten to the listener of the request path.
    HandedOver = 2,
}

/// Value of the `SOCKETS` storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketState {
    /// The address that the application dialled.
    pub dialled: Address,
    /// The address that it was rewritten to. Reverse translation checks it against the current peer.
    pub peer: Address,
    /// Cookie of the socket's network namespace; only set when handed over.
    pub netns_cookie: u64,
    /// cgroup id of the process that connected; only set when handed over.
    pub cgroup: u64,
    /// Port dialled, in network byte order.
    pub dialled_port_be: u16,
    /// Port rewritten to, in network byte order.
    pub peer_port_be: u16,
    /// See [`SocketKind`].
    pub kind: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// [`FAMILY_V4`](crate::FAMILY_V4) or [`FAMILY_V6`](crate::FAMILY_V6): of the connection, not of the socket.
    pub family: u8,
    /// Always zero.
    pub reserved: u8,
    /// Index of the backend whose load was counted; only when balanced.
    pub backend: u32,
    /// [`Service::id`](crate::Service::id).
    pub service: u32,
}
crate::assert_layout!(SocketState, 64, 8);
