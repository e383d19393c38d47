// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! `sock_release`: the last close of a balanced socket returns its load, whether it ever connected or not.

use aya_ebpf::programs::SockContext;
use evenkeel_abi::{Counter, SocketKind};

use crate::ctx::released_state;
use crate::{maps, stats};

/// The hook. Returns "go on".
#[inline(always)]
pub fn release(ctx: &SockContext) -> i32 {
    if let Some(state) = released_state(ctx)
        && state.kind == SocketKind::Balanced as u8
    {
        maps::add_load(state.backend, -1);
        state.kind = SocketKind::Untouched as u8;
        stats::count(Counter::Released);
    }
    1
}
