// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! One port of one Service address: what `connect` looks up first, and what it finds.

use crate::Address;

/// Key of the `SERVICES` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The Service address (cluster IP).
    pub address: Address,
    /// Port in network byte order.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
}
crate::assert_layout!(ServiceKey, 20, 4);

impl ServiceKey {
    /// A key from an address, a port in host byte order and an IP protocol number.
    #[inline(always)]
    pub const fn new(address: Address, port: u16, protocol: u8) -> Self {
        Self { address, port_be: port.to_be(), protocol, reserved: 0 }
    }
}

/// Value of the `SERVICES` map: a range of slots and what to do with the connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// Identifies the port for the agent (explain, events). Stable while the agent's pins live.
    pub id: u32,
    /// First slot of the alias table.
    pub slot_base: u32,
    /// Slots in the table; zero means no endpoint, and the connect is left alone.
    pub slot_count: u32,
    /// See [`service_flags`].
    pub flags: u32,
}
crate::assert_layout!(Service, 16, 4);

/// Bits of [`Service::flags`]. A program that meets a bit it does not know leaves the connect alone.
pub mod service_flags {
    /// Hand the connection to the request path where there is a live listener.
    pub const REQUEST: u32 = 1;
    /// All bits that this ABI version knows.
    pub const KNOWN: u32 = REQUEST;
}
