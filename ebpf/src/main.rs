// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The kernel programs: entry points only, one line each. What they do is in the modules; what they share with the
//! agent is in `evenkeel-abi`.
//!
//! Always true: every program on a cgroup lets the operation go on (it returns 1). A program that cannot do its work
//! leaves the operation as the application asked for it, because kube-proxy still stands behind.
#![no_std]
#![no_main]
// The atomic add and the context loads of `sockops` need instructions that LLVM does not pick by itself.
#![feature(asm_experimental_arch)]

mod connect;
mod ctx;
mod events;
mod exit;
mod maps;
mod names;
mod release;
mod sockops;
mod stats;

use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, raw_tracepoint, sock_ops};
use aya_ebpf::programs::{RawTracePointContext, SockAddrContext, SockContext, SockOpsContext};

use crate::ctx::SockAddr;

/// `connect(2)` of an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub fn ek_connect4(ctx: SockAddrContext) -> i32 {
    connect::v4(&SockAddr::new(ctx))
}

/// `connect(2)` of an IPv6 socket, which may dial an IPv4-mapped address.
#[cgroup_sock_addr(connect6)]
pub fn ek_connect6(ctx: SockAddrContext) -> i32 {
    connect::v6(&SockAddr::new(ctx))
}

/// `getpeername(2)` of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub fn ek_getpeername4(ctx: SockAddrContext) -> i32 {
    names::peer_v4(&SockAddr::new(ctx))
}

/// `getpeername(2)` of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub fn ek_getpeername6(ctx: SockAddrContext) -> i32 {
    names::peer_v6(&SockAddr::new(ctx))
}

/// `getsockname(2)` of an IPv4 socket.
#[cgroup_sock_addr(getsockname4)]
pub fn ek_getsockname4(ctx: SockAddrContext) -> i32 {
    names::local_v4(&SockAddr::new(ctx))
}

/// `getsockname(2)` of an IPv6 socket.
#[cgroup_sock_addr(getsockname6)]
pub fn ek_getsockname6(ctx: SockAddrContext) -> i32 {
    names::local_v6(&SockAddr::new(ctx))
}

/// The last `close(2)` of a socket.
#[cgroup_sock(sock_release)]
pub fn ek_sock_release(ctx: SockContext) -> i32 {
    release::release(&ctx)
}

/// TCP state callbacks.
#[sock_ops]
pub fn ek_sockops(ctx: SockOpsContext) -> u32 {
    sockops::event(&ctx)
}

/// The end of a thread.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn ek_exit(_: RawTracePointContext) -> i32 {
    exit::exited();
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
