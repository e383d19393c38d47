// SPDX-License-Identifier: Apache-2.0
//! Room for bytes on their way between a socket and HTTP/2, one per thread and direction.
//!
//! Thousands of connections that each kept buffers would keep megabytes for nothing, and a buffer that was used a
//! microsecond ago is still in the cache. What must always be true: nobody relies on what is in it from before, and nobody
//! borrows it twice at a time.

use std::cell::RefCell;

/// The largest frame that clients may send (RFC 9113, 6.5.2), with what is before it.
const READ: usize = (16 << 10) + 9;
/// What is kept for writing; more is given back.
const WRITE: usize = 64 << 10;

thread_local! {
    static READING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static WRITING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends room for what is read, with anything in it.
pub(super) fn reading<R>(read: impl FnOnce(&mut [u8]) -> R) -> R {
    READING.with_borrow_mut(|bytes| {
        bytes.resize(READ, 0);
        read(bytes)
    })
}

/// Lends an empty vector for what is written.
pub(super) fn writing<R>(write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    WRITING.with_borrow_mut(|bytes| {
        bytes.clear();
        bytes.shrink_to(WRITE);
        write(bytes)
    })
}
