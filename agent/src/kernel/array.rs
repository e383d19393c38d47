// SPDX-License-Identifier: Apache-2.0
//! A memory-mapped array of `u64`: reading an element costs a load, not a system call.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// The mapping, read-only for us; the kernel programs write it.
pub(super) struct SharedArray {
    base: NonNull<AtomicU64>,
    length: u32,
}

// SAFETY: the mapping is not tied to a thread, and every access is an atomic load.
unsafe impl Send for SharedArray {}
// SAFETY: as above.
unsafe impl Sync for SharedArray {}

impl SharedArray {
    /// Maps an array map of `length` elements of 8 bytes that was made memory-mappable.
    pub(super) fn map(fd: impl AsFd, length: u32) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::bytes(length),
                libc::PROT_READ,
                libc::MAP_SHARED,
                fd.as_fd().as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { base, length })
    }

    fn bytes(length: u32) -> usize {
        length as usize * std::mem::size_of::<u64>()
    }

    /// The element at `index`; `None` beyond the end.
    pub(super) fn get(&self, index: u32) -> Option<u64> {
        // SAFETY: within the mapping, aligned, never written by us; the kernel changes it with atomic instructions.
        (index < self.length)
            .then(|| unsafe { self.base.add(index as usize).as_ref() }.load(Ordering::Relaxed))
    }
}

impl Drop for SharedArray {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; nobody else has its address.
        unsafe { libc::munmap(self.base.as_ptr().cast(), Self::bytes(self.length)) };
    }
}
