// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the programs know of a pod's network namespace: its listener and its own addresses.

use crate::Address;

/// Key of the `LISTENERS` socket hash.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// Cookie of the namespace (`SO_NETNS_COOKIE`).
    pub netns_cookie: u64,
    /// [`FAMILY_V4`](crate::FAMILY_V4) or [`FAMILY_V6`](crate::FAMILY_V6).
    pub family: u32,
    /// Always zero.
    pub reserved: u32,
}
crate::assert_layout!(ListenerKey, 16, 8);

impl ListenerKey {
    /// The key of a namespace and a family.
    #[inline(always)]
    pub const fn new(netns_cookie: u64, family: u32) -> Self {
        Self { netns_cookie, family, reserved: 0 }
    }
}

/// Value of the `PODS` map: what `getsockname` answers instead of loopback. [`Address::NONE`] where unknown.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodAddresses {
    /// The pod's IPv4 address.
    pub v4: Address,
    /// The pod's IPv6 address.
    pub v6: Address,
    /// Generation of the agent that wrote the entry and put the listeners in.
    pub generation: u64,
}
crate::assert_layout!(PodAddresses, 40, 8);
