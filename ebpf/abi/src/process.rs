// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Who the agent is, as the kernel knows it when it dies.

/// Value of the `PROCESS` array: the agent that loaded the program beside it. All zeros: nobody yet.
///
/// A process is named by its number in its own pid namespace, because an agent in a container knows no other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Device of the pid namespace's file, as the kernel encodes it ([`Process::device`]).
    pub namespace_device: u64,
    /// Inode of that file. Never zero for a namespace.
    pub namespace_inode: u64,
    /// Its generation. Never zero for an agent.
    pub generation: u64,
    /// Its process id in that namespace.
    pub pid: u32,
    /// Always zero.
    pub reserved: u32,
}
crate::assert_layout!(Process, 32, 8);

impl Process {
    /// A device number as the kernel's own `dev_t` has it: 12 bits of major, 20 of minor. What stat(2) gives has them in
    /// another order.
    #[must_use]
    pub const fn device(major: u32, minor: u32) -> u64 {
        ((major as u64) << 20) | (minor & 0xf_ffff) as u64
    }
}

/// Whether the agent that owns the node has died: `departed` is the generation of the last owner that did, zero if none.
#[inline(always)]
#[must_use]
pub const fn has_departed(generation: u64, departed: u64) -> bool {
    departed != 0 && departed == generation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_of_now_can_have_departed() {
        assert!(has_departed(7, 7));
        assert!(!has_departed(8, 7), "a newer agent has taken over");
        assert!(!has_departed(0, 0), "nobody ever owned the node");
    }

    #[test]
    fn a_device_has_its_major_above_twenty_bits_of_minor() {
        assert_eq!(Process::device(0, 4), 4);
        assert_eq!(Process::device(8, 0x12345), 0x0081_2345);
    }
}
