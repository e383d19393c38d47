// SPDX-License-Identifier: Apache-2.0
//! Gives back to the system what the allocator keeps for later.
//!
//! glibc gives memory back at the end of its heaps only. A first sync of all clients at once, with a few small pieces that
//! stay at the end of it, would be resident for ever. Source: malloc_trim(3).
//!
//! A crate of its own because it calls C, and its user forbids `unsafe`. Deliberately not here: when ([`give_back`] takes
//! milliseconds, and the allocator's locks meanwhile).

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
