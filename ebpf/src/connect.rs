// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `connect4` and `connect6`: leave alone, hand over to the request path, or choose a backend here.
//!
//! Always true:
//! * an address that is not opted in costs one lookup and is untouched;
//! * nothing is rewritten before storage for it exists, so that what is counted is returned;
//! * a backend of another family than the one dialled is never written.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_coarse_ns};
use aya_log_ebpf::warn;
use evenkeel_abi::{
    Address, Backend, Control, Counter, FAMILY_V4, FAMILY_V6, ListenerKey, PROTOCOL_TCP, Service, ServiceKey,
    SocketKind, SocketState, Stance, choose, has_departed, service_flags, stance,
};

use crate::ctx::{SockAddr, listener_port_be};
use crate::maps::{self, Lookup};
use crate::{events, stats};

/// What the programs return: the call goes on.
const PROCEED: i32 = 1;

/// Where the application wants to go.
struct Dialled {
    address: Address,
    port_be: u16,
    family: u32,
}

/// Where it goes instead.
struct Target {
    address: Address,
    port_be: u16,
}

/// `connect4`.
#[inline(always)]
pub fn v4(call: &SockAddr) -> i32 {
    let dialled = Dialled { address: call.v4(), port_be: call.port_be(), family: FAMILY_V4 };
    if let Some(target) = decide(call, &dialled) {
        call.set_v4(&target.address, target.port_be);
    }
    PROCEED
}

/// `connect6`. An IPv4-mapped address is IPv4 in all but its spelling.
#[inline(always)]
pub fn v6(call: &SockAddr) -> i32 {
    let address = call.v6();
    let family = if address.is_v4() { FAMILY_V4 } else { FAMILY_V6 };
    let dialled = Dialled { address, port_be: call.port_be(), family };
    if let Some(target) = decide(call, &dialled) {
        call.set_v6(&target.address, target.port_be);
    }
    PROCEED
}

#[inline(always)]
fn decide(call: &SockAddr, dialled: &Dialled) -> Option<Target> {
    if call.protocol() != PROTOCOL_TCP {
        return None;
    }
    let key = ServiceKey {
        address: dialled.address,
        port_be: dialled.port_be,
        protocol: PROTOCOL_TCP,
        reserved: 0,
    };
    let service = match maps::service(&key) {
        Lookup::Hit(service) => service,
        // The socket may have been balanced before and now goes elsewhere. Not a lookup: a socket that never was
        // balanced has no storage, and the helper sees that by one null pointer in it.
        Lookup::Miss => return leave(call, None),
        Lookup::Changing => return leave(call, Some(Counter::Dangling)),
    };
    if service.flags & !service_flags::KNOWN != 0 {
        return leave(call, Some(Counter::UnknownFlags));
    }
    let stance = current_stance();
    if stance == Stance::Aside {
        return leave(call, Some(Counter::StoodAside));
    }
    if service.slot_count == 0 {
        return leave(call, Some(Counter::NoEndpoint));
    }
    let Some(state) = call.state_or_new() else {
        stats::count(Counter::NoStorage);
        say_no_storage(service.id);
        return None;
    };
    forget(state);
    if service.flags & service_flags::REQUEST != 0
        && let Some(target) = hand_over(call, dialled, &service, stance, state)
    {
        return Some(target);
    }
    balance(dialled, &service, state)
}

/// Leaves the connect as it is, and returns what an earlier connect of the same socket holds.
#[inline(always)]
fn leave(call: &SockAddr, why: Option<Counter>) -> Option<Target> {
    if let Some(counter) = why {
        stats::count(counter);
    }
    if let Some(state) = call.state() {
        forget(state);
    }
    None
}

/// Returns what an earlier connect of the same socket holds.
#[inline(always)]
fn forget(state: &mut SocketState) {
    if state.kind == SocketKind::Untouched as u8 {
        return;
    }
    if state.kind == SocketKind::Balanced as u8 {
        maps::add_load(state.backend, -1);
    }
    state.kind = SocketKind::Untouched as u8;
    stats::count(Counter::Reconnected);
}

#[inline(always)]
fn current_stance() -> Stance {
    // The coarse clock is a plain read and at most one tick behind, which is nothing against seconds.
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    stance(
        now,
        maps::control(Control::Heartbeat),
        maps::control(Control::StaleAfter),
        maps::control(Control::StandAsideAfter),
    )
}

/// Whether the agent is dying or dead. Its listeners are found for some time yet, but what connects to them is lost.
#[inline(always)]
fn departed() -> bool {
    has_departed(maps::control(Control::Generation), maps::control(Control::Departed))
}

/// Rewrites to the namespace's listener, if the agent lives, the socket can use loopback and the listener is there.
#[inline(always)]
fn hand_over(
    call: &SockAddr,
    dialled: &Dialled,
    service: &Service,
    stance: Stance,
    state: &mut SocketState,
) -> Option<Target> {
    if stance != Stance::Serve || departed() {
        stats::count(Counter::Stale);
        return None;
    }
    let cookie = call.netns_cookie();
    if !suitable(call, dialled.family, cookie) {
        stats::count(Counter::Unsuitable);
        return None;
    }
    let Some(port_be) = listener_port_be(&ListenerKey::new(cookie, dialled.family)) else {
        stats::count(Counter::NoListener);
        events::no_listener(cookie);
        return None;
    };
    let address = if dialled.family == FAMILY_V4 { Address::LOOPBACK_V4 } else { Address::LOOPBACK_V6 };
    let target = Target { address, port_be };
    remember(state, dialled, service, &target);
    state.netns_cookie = cookie;
    // SAFETY: no arguments.
    state.cgroup = unsafe { bpf_get_current_cgroup_id() };
    state.kind = SocketKind::HandedOver as u8;
    stats::count(Counter::HandedOver);
    Some(target)
}

/// Whether the socket can reach loopback and close cleanly there: bound neither to a device nor to a foreign
/// address. Bound to the pod's IPv4 works; bound to its IPv6 a close can hang in LAST-ACK.
#[inline(always)]
fn suitable(call: &SockAddr, family: u32, cookie: u64) -> bool {
    if call.bound_to_device() {
        return false;
    }
    if family == FAMILY_V6 {
        let source = call.source_v6();
        return source.is_none() || source == Address::LOOPBACK_V6;
    }
    let source = call.source_v4();
    source == 0
        || source == Address::LOOPBACK_V4.v4_word()
        || maps::pod(cookie).is_some_and(|pod| pod.v4.v4_word() == source)
}

/// Chooses a backend and counts it.
#[inline(always)]
fn balance(dialled: &Dialled, service: &Service, state: &mut SocketState) -> Option<Target> {
    // SAFETY: no arguments.
    let random = unsafe { [bpf_get_prandom_u32(), bpf_get_prandom_u32()] };
    let chosen = choose(service, random, maps::slot, maps::load)
        .and_then(|candidate| Some((candidate.backend, backend(candidate.backend, dialled.family)?)));
    let Some((index, backend)) = chosen else {
        stats::count(Counter::Dangling);
        say_dangling(service.id);
        return None;
    };
    let target = Target { address: backend.address, port_be: backend.port_be };
    remember(state, dialled, service, &target);
    state.backend = index;
    state.kind = SocketKind::Balanced as u8;
    maps::add_load(index, 1);
    stats::count(Counter::Balanced);
    Some(target)
}

/// A backend that can be written into this call.
#[inline(always)]
fn backend(index: u32, family: u32) -> Option<Backend> {
    maps::backend(index).filter(|backend| {
        backend.address.is_v4() == (family == FAMILY_V4) && backend.protocol == PROTOCOL_TCP
    })
}

#[inline(always)]
fn remember(state: &mut SocketState, dialled: &Dialled, service: &Service, target: &Target) {
    state.dialled = dialled.address;
    state.dialled_port_be = dialled.port_be;
    state.peer = target.address;
    state.peer_port_be = target.port_be;
    state.protocol = PROTOCOL_TCP;
    state.family = dialled.family as u8;
    state.service = service.id;
}

// The log lines are functions of their own, so that their code and stack are not in the path of every connect.

#[cold]
#[inline(never)]
fn say_no_storage(service: u32) {
    warn!((), "no memory for socket storage: a connect to service port {} is left alone", service);
}

#[cold]
#[inline(never)]
fn say_dangling(service: u32) {
    warn!((), "the tables of service port {} name what is not there: a connect is left alone", service);
}
