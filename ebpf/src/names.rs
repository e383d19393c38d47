// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `getpeername` and `getsockname`: show the application what it dialled, and its pod's own address.
//!
//! Always true: an answer is only changed when it is exactly what `connect` wrote, address and port, so that a
//! socket that got another peer by any other way keeps the truth.

use evenkeel_abi::{Address, Counter, FAMILY_V4, SocketKind};

use crate::ctx::SockAddr;
use crate::{maps, stats};

/// What the programs return: the call goes on.
const PROCEED: i32 = 1;

/// `getpeername4`.
#[inline(always)]
pub fn peer_v4(call: &SockAddr) -> i32 {
    if let Some((address, port_be)) = dialled(call, call.v4()) {
        call.set_v4(&address, port_be);
    }
    PROCEED
}

/// `getpeername6`.
#[inline(always)]
pub fn peer_v6(call: &SockAddr) -> i32 {
    if let Some((address, port_be)) = dialled(call, call.v6()) {
        call.set_v6(&address, port_be);
    }
    PROCEED
}

/// `getsockname4`.
#[inline(always)]
pub fn local_v4(call: &SockAddr) -> i32 {
    if let Some(address) = own(call, call.v4()) {
        call.set_v4_address(&address);
    }
    PROCEED
}

/// `getsockname6`.
#[inline(always)]
pub fn local_v6(call: &SockAddr) -> i32 {
    if let Some(address) = own(call, call.v6()) {
        call.set_v6_address(&address);
    }
    PROCEED
}

/// What was dialled, if `peer` is what it was rewritten to.
#[inline(always)]
fn dialled(call: &SockAddr, peer: Address) -> Option<(Address, u16)> {
    let state = call.state()?;
    if state.kind == SocketKind::Untouched as u8 {
        return None;
    }
    if state.peer != peer || state.peer_port_be != call.port_be() {
        stats::count(Counter::PeerChanged);
        return None;
    }
    stats::count(Counter::Translated);
    Some((state.dialled, state.dialled_port_be))
}

/// The pod's address, if the socket was handed over and `local` is loopback.
#[inline(always)]
fn own(call: &SockAddr, local: Address) -> Option<Address> {
    let state = call.state()?;
    if state.kind != SocketKind::HandedOver as u8 {
        return None;
    }
    let pod = maps::pod(state.netns_cookie)?;
    let (loopback, address) = if state.family as u32 == FAMILY_V4 {
        (Address::LOOPBACK_V4, pod.v4)
    } else {
        (Address::LOOPBACK_V6, pod.v6)
    };
    if local != loopback || address.is_none() {
        return None;
    }
    stats::count(Counter::Translated);
    Some(address)
}
