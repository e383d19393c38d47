// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `sockops`: at ACTIVE_ESTABLISHED, before the proxy can accept, record where the connection wanted to go.
//!
//! The record is never deleted (see `evenkeel_abi::Origin`).

use aya_ebpf::bindings::BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB;
use aya_ebpf::programs::SockOpsContext;
use aya_log_ebpf::warn;
use evenkeel_abi::{Counter, FAMILY_V6, Origin, OriginKey, SocketKind};

use crate::ctx::{ops_local_port, ops_local_v4, ops_local_v6, ops_state};
use crate::{maps, stats};

/// The hook. Returns "go on".
#[inline(always)]
pub fn event(ctx: &SockOpsContext) -> u32 {
    if ctx.op() == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB {
        established(ctx);
    }
    1
}

#[inline(always)]
fn established(ctx: &SockOpsContext) {
    let Some((state, mark)) = ops_state(ctx) else { return };
    if state.kind != SocketKind::HandedOver as u8 {
        return;
    }
    let family = state.family as u32;
    let address = if family == FAMILY_V6 { ops_local_v6(ctx) } else { ops_local_v4(ctx) };
    let key = OriginKey { netns_cookie: state.netns_cookie, address, port: ops_local_port(ctx), family };
    let origin = Origin {
        address: state.dialled,
        port_be: state.dialled_port_be,
        protocol: state.protocol,
        reserved: 0,
        service: state.service,
        mark,
        reserved2: 0,
        cgroup: state.cgroup,
    };
    if maps::record_origin(&key, &origin) {
        stats::count(Counter::Established);
    } else {
        stats::count(Counter::NoOrigin);
        say_no_origin(state.service);
    }
}

#[cold]
#[inline(never)]
fn say_no_origin(service: u32) {
    warn!((), "no origin recorded for a connection to service port {}: it will be refused", service);
}
