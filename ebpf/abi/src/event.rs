// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What the programs tell the agent at once, through the ring buffer.

/// Why an [`Event`] was sent.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A connect that should be balanced per request came from a namespace without a listener.
    NoListener = 1,
}

/// Element of the `EVENTS` ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Cookie of the network namespace (`SO_NETNS_COOKIE`).
    pub netns_cookie: u64,
    /// When, in ns of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// See [`EventKind`]; other values come from newer programs and are skipped.
    pub kind: u32,
    /// Thread-group id of the process as the initial pid namespace counts it.
    pub tgid: u32,
}
crate::assert_layout!(Event, 24, 8);
