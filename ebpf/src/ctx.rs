// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The programs' contexts and sockets behind safe methods: the only place that touches their memory.
//!
//! Always true: every access is one load or store of the width that the verifier knows, at a constant offset from
//! the context (volatile, or written in assembly where LLVM would merge two of them into one off a computed
//! pointer, which the verifier refuses).

use core::ptr::{addr_of, addr_of_mut, null_mut};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_map_lookup_elem, bpf_sk_release, bpf_sk_storage_get,
};
use aya_ebpf::programs::{SockAddrContext, SockContext, SockOpsContext};
use evenkeel_abi::{Address, ListenerKey, SocketState};

use crate::maps::{LISTENERS, SOCKETS};

/// `TCP_LISTEN`, as in `bpf_sock.state`.
const TCP_LISTEN: u32 = 10;

macro_rules! read {
    ($place:expr) => {
        // SAFETY: a field of a context or socket that the kernel handed to the program and the verifier checks.
        unsafe { core::ptr::read_volatile(addr_of!($place)) }
    };
}
macro_rules! write {
    ($place:expr, $value:expr) => {
        // SAFETY: as in `read`; the verifier refuses fields that may not be written.
        unsafe { core::ptr::write_volatile(addr_of_mut!($place), $value) }
    };
}

/// `bpf_sock_addr`: the address that a socket call is about, and the socket.
pub struct SockAddr {
    ctx: SockAddrContext,
}

impl SockAddr {
    #[inline(always)]
    pub fn new(ctx: SockAddrContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn raw(&self) -> *mut bpf_sock_addr {
        self.ctx.sock_addr
    }

    #[inline(always)]
    fn socket(&self) -> *mut bpf_sock {
        read!((*self.raw()).__bindgen_anon_1.sk)
    }

    /// IP protocol number of the socket.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        read!((*self.raw()).protocol) as u8
    }

    /// The IPv4 address of the call.
    #[inline(always)]
    pub fn v4(&self) -> Address {
        Address::v4(read!((*self.raw()).user_ip4))
    }

    /// The IPv6 address of the call, which may be IPv4-mapped.
    #[inline(always)]
    pub fn v6(&self) -> Address {
        let raw = self.raw();
        Address {
            words: [
                read!((*raw).user_ip6[0]),
                read!((*raw).user_ip6[1]),
                read!((*raw).user_ip6[2]),
                read!((*raw).user_ip6[3]),
            ],
        }
    }

    /// The port of the call, in network byte order.
    #[inline(always)]
    pub fn port_be(&self) -> u16 {
        read!((*self.raw()).user_port) as u16
    }

    /// Replaces the IPv4 address and the port.
    #[inline(always)]
    pub fn set_v4(&self, address: &Address, port_be: u16) {
        write!((*self.raw()).user_ip4, address.v4_word());
        write!((*self.raw()).user_port, port_be as u32);
    }

    /// Replaces the IPv6 address and the port.
    #[inline(always)]
    pub fn set_v6(&self, address: &Address, port_be: u16) {
        self.set_v6_address(address);
        write!((*self.raw()).user_port, port_be as u32);
    }

    /// Replaces the IPv4 address only.
    #[inline(always)]
    pub fn set_v4_address(&self, address: &Address) {
        write!((*self.raw()).user_ip4, address.v4_word());
    }

    /// Replaces the IPv6 address only.
    #[inline(always)]
    pub fn set_v6_address(&self, address: &Address) {
        let raw = self.raw();
        write!((*raw).user_ip6[0], address.words[0]);
        write!((*raw).user_ip6[1], address.words[1]);
        write!((*raw).user_ip6[2], address.words[2]);
        write!((*raw).user_ip6[3], address.words[3]);
    }

    /// Cookie of the socket's network namespace.
    #[inline(always)]
    pub fn netns_cookie(&self) -> u64 {
        // SAFETY: the context of this program.
        unsafe { bpf_get_netns_cookie(self.ctx.as_ptr()) }
    }

    /// Whether the socket is bound to a device.
    #[inline(always)]
    pub fn bound_to_device(&self) -> bool {
        read!((*self.socket()).bound_dev_if) != 0
    }

    /// The IPv4 source address that the socket is bound to, as its word.
    #[inline(always)]
    pub fn source_v4(&self) -> u32 {
        read!((*self.socket()).src_ip4)
    }

    /// The IPv6 source address that the socket is bound to.
    #[inline(always)]
    pub fn source_v6(&self) -> Address {
        let socket = self.socket();
        Address {
            words: [
                read!((*socket).src_ip6[0]),
                read!((*socket).src_ip6[1]),
                read!((*socket).src_ip6[2]),
                read!((*socket).src_ip6[3]),
            ],
        }
    }

    /// What the socket remembers, if it was ever balanced.
    #[inline(always)]
    pub fn state(&self) -> Option<&'static mut SocketState> {
        // SAFETY: the socket of this context.
        unsafe { storage(self.socket(), null_mut(), 0) }
    }

    /// What the socket remembers, made now if need be. `None` when there is no memory for it.
    #[inline(always)]
    pub fn state_or_new(&self) -> Option<&'static mut SocketState> {
        let mut empty = SocketState::default();
        // SAFETY: the socket of this context; `empty` is copied by the kernel.
        unsafe { storage(self.socket(), &mut empty, BPF_SK_STORAGE_GET_F_CREATE as u64) }
    }
}

/// Looks a socket's storage up.
///
/// # Safety
/// `socket` is one that the verifier accepts (a context's own), and it is locked by the system call that runs the
/// program, so that nobody else holds a reference to its storage.
#[inline(always)]
unsafe fn storage(
    socket: *mut bpf_sock,
    initial: *mut SocketState,
    flags: u64,
) -> Option<&'static mut SocketState> {
    // SAFETY: as promised by the caller; the kernel returns null or a whole value.
    unsafe {
        let map = addr_of!(SOCKETS).cast_mut().cast();
        bpf_sk_storage_get(map, socket.cast(), initial.cast(), flags).cast::<SocketState>().as_mut()
    }
}

/// What the socket that is being closed remembers.
#[inline(always)]
pub fn released_state(ctx: &SockContext) -> Option<&'static mut SocketState> {
    // SAFETY: the socket that is this program's context, at its last close.
    unsafe { storage(ctx.sock, null_mut(), 0) }
}

/// Port (network byte order) of the live listener under `key`.
///
/// The map holds the socket itself: once its owner dies the entry is gone, and a port that somebody else took since
/// is never handed out.
#[inline(always)]
pub fn listener_port_be(key: &ListenerKey) -> Option<u16> {
    // SAFETY: map and key are what the helper wants; a socket that it returns is released below on every path.
    let socket = unsafe {
        bpf_map_lookup_elem(addr_of!(LISTENERS).cast_mut().cast(), addr_of!(*key).cast()) as *mut bpf_sock
    };
    if socket.is_null() {
        return None;
    }
    let state = read!((*socket).state);
    let port = read!((*socket).src_port) as u16;
    // SAFETY: the socket that the lookup returned, not used afterwards.
    unsafe { bpf_sk_release(socket.cast()) };
    (state == TCP_LISTEN && port != 0).then_some(port.to_be())
}

/// One word of `bpf_sock_ops` by its offset.
macro_rules! ops_word {
    ($ctx:expr, $offset:literal) => {{
        let value: u64;
        // SAFETY: a readable u32 field of this program's context; the verifier checks the offset.
        unsafe {
            core::arch::asm!(
                concat!("{v} = *(u32 *)({c} + ", $offset, ")"),
                v = out(reg) value,
                c = in(reg) $ctx.ops,
            );
        }
        value as u32
    }};
}

/// The local IPv4 address in a `sockops` call.
#[inline(always)]
pub fn ops_local_v4(ctx: &SockOpsContext) -> Address {
    Address::v4(ops_word!(ctx, 28))
}

/// The local IPv6 address in a `sockops` call.
#[inline(always)]
pub fn ops_local_v6(ctx: &SockOpsContext) -> Address {
    Address { words: [ops_word!(ctx, 48), ops_word!(ctx, 52), ops_word!(ctx, 56), ops_word!(ctx, 60)] }
}

/// The local port in a `sockops` call, in host byte order.
#[inline(always)]
pub fn ops_local_port(ctx: &SockOpsContext) -> u32 {
    ops_word!(ctx, 68)
}

/// The storage of the socket in a `sockops` call, and its mark.
#[inline(always)]
pub fn ops_state(ctx: &SockOpsContext) -> Option<(&'static mut SocketState, u32)> {
    let socket = read!((*ctx.ops).__bindgen_anon_2.sk);
    if socket.is_null() {
        return None;
    }
    // SAFETY: the socket of this context, checked; TCP runs the callback with the socket locked.
    let state = unsafe { storage(socket, null_mut(), 0) }?;
    Some((state, read!((*socket).mark)))
}
