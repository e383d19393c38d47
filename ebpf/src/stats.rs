// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Counting by outcome, per CPU.

use evenkeel_abi::Counter;

use crate::maps::COUNTERS;

/// Counts one.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(cell) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own cell, checked by the lookup; the program does not migrate.
        unsafe { *cell += 1 };
    }
}
