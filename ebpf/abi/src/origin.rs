// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where a connection that was handed to the request path wanted to go.
//!
//! Written by `sockops` before the proxy can accept, read by the proxy, never deleted: an entry is overwritten by the
//! next connection from the same source, and deleting lost look-ups when measured.

use crate::Address;

/// Key of the `ORIGINS` map: the client side of the loopback connection. The source address is part of it
/// because a client bound to the pod's own address can share a port with a loopback one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginKey {
    /// Cookie of the client's network namespace.
    pub netns_cookie: u64,
    /// Source address.
    pub address: Address,
    /// Source port in host byte order.
    pub port: u32,
    /// [`FAMILY_V4`](crate::FAMILY_V4) or [`FAMILY_V6`](crate::FAMILY_V6).
    pub family: u32,
}
crate::assert_layout!(OriginKey, 32, 8);

/// Value of the `ORIGINS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The Service address that was dialled.
    pub address: Address,
    /// Port in network byte order.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
    /// [`Service::id`](crate::Service::id).
    pub service: u32,
    /// `SO_MARK` of the client's socket, to be carried upstream.
    pub mark: u32,
    /// Always zero.
    pub reserved2: u32,
    /// cgroup id of the client process.
    pub cgroup: u64,
}
crate::assert_layout!(Origin, 40, 8);
