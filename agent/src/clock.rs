// SPDX-License-Identifier: Apache-2.0
//! The one clock of the agent: what the kernel programs compare the heartbeat with, and what every back-off and idle time is
//! told in.
//!
//! Deliberately not here: wall-clock time, which can be set back.

use nix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds of `CLOCK_MONOTONIC`: what `bpf_ktime_get_ns` gives.
#[must_use]
pub fn monotonic_ns() -> u64 {
    // It cannot fail with a clock that every kernel has.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
