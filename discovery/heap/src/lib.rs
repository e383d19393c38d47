// SPDX-License-Identifier: Apache-2.0
//! Gives back to the system what the allocator keeps for later.
//!
//! glibc gives memory back at the end of its heaps only. A first sync of all clients at once, with a few small pieces that
//! stay at the end of it, would be resident for ever ([`give_back`]). And once a large block has been freed, glibc takes
//! all up to its size out of heaps, where they leave holes ([`keep_large_blocks_apart`]). Sources: malloc_trim(3),
//! mallopt(3).
//!
//! A crate of its own because it calls C, and its user forbids `unsafe`. Deliberately not here: when ([`give_back`] takes
//! milliseconds, and the allocator's locks meanwhile).

/// From how many bytes on a block is the system's own: glibc's value at the start, which it raises later.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 128 << 10;

/// From now on large blocks go back to the system when they are freed. Call it once, at the start. Does nothing with other
/// C libraries than glibc.
pub fn keep_large_blocks_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: no pointer is passed in either direction, and the function takes the allocator's own locks.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// Gives back all whole pages that are not used, and says whether there were any. Does nothing with other C libraries than
/// glibc.
pub fn give_back() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: no pointer is passed in either direction, and the function takes the allocator's own locks.
        (unsafe { libc::malloc_trim(0) }) == 1
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        false
    }
}
