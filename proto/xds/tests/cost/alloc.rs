// SPDX-License-Identifier: Apache-2.0
//! The system's allocator, which counts what this thread asks of it and what it holds.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread has asked for memory, growing included.
pub(crate) fn asked() -> u64 {
    ASKED.get()
}

/// Bytes that are held. A thread can free what another one has asked for, so only differences mean something.
pub(crate) fn held() -> i64 {
    HELD.get()
}

/// The most bytes that were held at once since the last call, and starts anew.
pub(crate) fn peak() -> i64 {
    PEAK.replace(HELD.get())
}

struct Counting;

fn count(asked: u64, more: usize, less: usize) {
    // A thread that is ending has no counters any more, and nobody who would read them.
    let _ = ASKED.try_with(|count| count.set(count.get() + asked));
    let _ = HELD.try_with(|held| {
        held.set(held.get() + more as i64 - less as i64);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged. Counting touches only constant-initialised cells of this
// thread without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, 0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}
