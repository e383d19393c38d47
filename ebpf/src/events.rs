// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Telling the agent at once that a namespace has no listener, without flooding it.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use evenkeel_abi::{Event, EventKind};

use crate::maps::{EVENTS, REPORTED};

/// A namespace is reported again after this time: the agent may have missed or lost what it was told.
const AGAIN_AFTER_NS: u64 = 1_000_000_000;

/// Reports that a connect from `netns_cookie` found no listener.
#[inline(always)]
pub fn no_listener(netns_cookie: u64) {
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: copied at once; a wrong time only sends an event more or less.
    if let Some(last) = unsafe { REPORTED.get(netns_cookie) }.copied() {
        if now.saturating_sub(last) < AGAIN_AFTER_NS {
            return;
        }
    }
    let _ = REPORTED.insert(netns_cookie, now, 0);
    let event = Event {
        netns_cookie,
        time_ns: now,
        kind: EventKind::NoListener as u32,
        tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
    };
    // A full buffer means that the agent does not read: it then finds the namespace by other ways.
    let _ = EVENTS.output::<Event>(event, 0);
}
