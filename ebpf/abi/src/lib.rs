// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the kernel programs and the agent must agree on: the records that lie in BPF maps, the constants that
//! size and index them, and the rule by which an endpoint is chosen.
//!
//! Always true here:
//! * every record is `repr(C)`, has no implicit padding (asserted at compile time) and no `bool`, so that any
//!   byte pattern a map may hold is a valid value;
//! * addresses and ports are in network byte order, as `bpf_sock_addr` shows them, and IPv4 is written as
//!   IPv4-mapped IPv6, so that one key serves both families and v4-mapped sockets;
//! * a change of any layout, map name, map size or meaning of what is pinned raises [`ABI_VERSION`]; a use for what was
//!   always zero does not, if zero goes on to mean what it did.
//!
//! Deliberately not here: map declarations (they are the kernel programs'), anything that reads a map, and any
//! policy other than the choice that must run inside `connect()`.
#![cfg_attr(not(any(test, feature = "user")), no_std)]

mod address;
mod backend;
mod control;
mod counters;
mod event;
mod origin;
mod pod;
mod process;
mod select;
mod service;
mod socket;
#[cfg(feature = "user")]
mod user;

pub use address::Address;
pub use backend::{Backend, Slot};
pub use control::{Control, Stance, stance};
pub use counters::Counter;
pub use event::{Event, EventKind};
pub use origin::{Origin, OriginKey};
pub use pod::{ListenerKey, PodAddresses};
pub use process::{Process, has_departed};
pub use select::{Candidate, choose, draw, position};
pub use service::{Service, ServiceKey, service_flags};
pub use socket::{SocketKind, SocketState};

/// Version of everything in this crate. It is stored in the pinned [`Control::AbiVersion`] slot; an agent that
/// finds another number there refuses to adopt the maps.
pub const ABI_VERSION: u64 = 1;

/// IP protocol number of TCP, as in `bpf_sock_addr.protocol`.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;

/// Families as the ABI counts them: the IP version, not `AF_*`.
pub const FAMILY_V4: u32 = 4;
/// See [`FAMILY_V4`].
pub const FAMILY_V6: u32 = 6;

/// Names of the maps, as pinned in the agent's folder of bpffs.
pub mod maps {
    /// Hash: [`ServiceKey`](crate::ServiceKey) to [`Service`](crate::Service). Not preallocated, so that an unused table costs
    /// nothing. A replaced element may be reused at once while a program still reads it: readers look a hit up again.
    pub const SERVICES: &str = "SERVICES";
    /// Array of [`Slot`](crate::Slot): the alias tables of all services, each a contiguous range.
    pub const SLOTS: &str = "SLOTS";
    /// Array of [`Backend`](crate::Backend).
    pub const BACKENDS: &str = "BACKENDS";
    /// Array of `u64`, memory-mappable: open sockets per backend, same index as [`BACKENDS`].
    pub const LOADS: &str = "LOADS";
    /// Array of `u64` indexed by [`Control`](crate::Control).
    pub const CONTROL: &str = "CONTROL";
    /// Per-CPU array of `u64` indexed by [`Counter`](crate::Counter).
    pub const COUNTERS: &str = "COUNTERS";
    /// Socket hash: [`ListenerKey`](crate::ListenerKey) to the listening socket in that namespace.
    pub const LISTENERS: &str = "LISTENERS";
    /// Hash: namespace cookie (`u64`) to [`PodAddresses`](crate::PodAddresses).
    pub const PODS: &str = "PODS";
    /// LRU hash: [`OriginKey`](crate::OriginKey) to [`Origin`](crate::Origin). Entries are never deleted: the last writer is right.
    pub const ORIGINS: &str = "ORIGINS";
    /// LRU hash: namespace cookie to the time (ns) of the last event about it, so that events do not flood.
    pub const REPORTED: &str = "REPORTED";
    /// Ring buffer of [`Event`](crate::Event).
    pub const EVENTS: &str = "EVENTS";
    /// Array of one [`Process`](crate::Process): the agent that loaded the programs. Each agent has its own.
    pub const PROCESS: &str = "PROCESS";
    /// Socket storage: [`SocketState`](crate::SocketState).
    pub const SOCKETS: &str = "SOCKETS";

    /// Entries of [`SERVICES`]: 10 000 Services with three ports and two families fit.
    pub const SERVICES_LEN: u32 = 65_536;
    /// Entries of [`SLOTS`]: 100 000 endpoints twice over (a new range is written beside the old), and room.
    pub const SLOTS_LEN: u32 = 262_144;
    /// Entries of [`BACKENDS`] and [`LOADS`]. Index 0 is never a backend.
    pub const BACKENDS_LEN: u32 = 131_072;
    /// Entries of [`LISTENERS`]: two families for 1 024 pods on a node.
    pub const LISTENERS_LEN: u32 = 2_048;
    /// Entries of [`PODS`].
    pub const PODS_LEN: u32 = 1_024;
    /// Entries of [`ORIGINS`]: above the sum of the listeners' backlogs that a node can hold unaccepted.
    pub const ORIGINS_LEN: u32 = 65_536;
    /// Entries of [`REPORTED`].
    pub const REPORTED_LEN: u32 = 4_096;
    /// Bytes of [`EVENTS`].
    pub const EVENTS_BYTES: u32 = 65_536;
}

/// Names of the programs in the object, which are also the names of their links where these are pinned.
pub mod programs {
    /// `cgroup/connect4`.
    pub const CONNECT4: &str = "ek_connect4";
    /// `cgroup/connect6`.
    pub const CONNECT6: &str = "ek_connect6";
    /// `cgroup/getpeername4`.
    pub const GETPEERNAME4: &str = "ek_getpeername4";
    /// `cgroup/getpeername6`.
    pub const GETPEERNAME6: &str = "ek_getpeername6";
    /// `cgroup/getsockname4`.
    pub const GETSOCKNAME4: &str = "ek_getsockname4";
    /// `cgroup/getsockname6`.
    pub const GETSOCKNAME6: &str = "ek_getsockname6";
    /// `cgroup/sock_release`.
    pub const SOCK_RELEASE: &str = "ek_sock_release";
    /// `sockops`.
    pub const SOCKOPS: &str = "ek_sockops";
    /// `raw_tracepoint/sched_process_exit`. Its link goes with the agent, which is what it waits for.
    pub const EXIT: &str = "ek_exit";
}

/// Fails to compile when `$t` is not exactly `$size` bytes, that is: when padding crept in or a field moved.
macro_rules! assert_layout {
    ($t:ty, $size:expr, $align:expr) => {
        const _: () = assert!(core::mem::size_of::<$t>() == $size && core::mem::align_of::<$t>() == $align);
    };
}
pub(crate) use assert_layout;
