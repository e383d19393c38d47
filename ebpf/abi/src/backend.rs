// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Where a connection can go, and the alias-table slots that name it.
//!
//! A backend is one (address, port, protocol) on this node, however many Services select it, so that its load is
//! the load of all of them. Weights belong to the Service, hence to the slot.

use crate::Address;

/// Element of the `BACKENDS` array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Backend {
    /// The endpoint's address; [`Address::NONE`] marks a free index.
    pub address: Address,
    /// Port in network byte order.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
}
crate::assert_layout!(Backend, 20, 4);

/// Element of the `SLOTS` array: one column of a Walker alias table (Vose 1991), so that a weighted draw costs
/// the same for any weights.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Backend taken when the drawn fraction is below [`Slot::threshold`].
    pub backend: u32,
    /// Weight of [`Slot::backend`], at least 1.
    pub weight: u32,
    /// Backend taken otherwise.
    pub alias: u32,
    /// Weight of [`Slot::alias`], at least 1.
    pub alias_weight: u32,
    /// 0 to 65 536, in 1/65 536.
    pub threshold: u32,
}
crate::assert_layout!(Slot, 20, 4);
