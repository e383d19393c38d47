// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! The few numbers by which agents steer the programs and see each other: ABI version, generation, heartbeat, death.
//!
//! Each is one `u64` of its own, so that every write is whole. Times are nanoseconds of `CLOCK_MONOTONIC`, which
//! is what `bpf_ktime_get_ns` reads.

/// Index into the `CONTROL` array.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of whoever created the maps. Zero: not yet written.
    AbiVersion = 0,
    /// Generation of the agent that owns the slots: the larger is the newer.
    Generation = 1,
    /// When the owning agent last proved that it accepts connections and applies changes.
    Heartbeat = 2,
    /// Age of the heartbeat from which nothing is handed to the request path any more.
    StaleAfter = 3,
    /// Age of the heartbeat from which endpoints are no longer trusted and every connect is left alone.
    StandAsideAfter = 4,
    /// Generation of the last owner that died, written by the kernel as it does; see [`has_departed`](crate::has_departed).
    Departed = 5,
}

impl Control {
    /// Entries of the `CONTROL` array.
    pub const LEN: u32 = 16;
    /// Default of [`Control::StaleAfter`]: 2 s.
    pub const DEFAULT_STALE_NS: u64 = 2_000_000_000;
    /// Default of [`Control::StandAsideAfter`]: 30 s.
    pub const DEFAULT_STAND_ASIDE_NS: u64 = 30_000_000_000;
}

/// What the age of the heartbeat allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// The agent lives: hand over what is balanced per request, balance the rest in the kernel.
    Serve,
    /// The agent is silent: balance everything in the kernel with the endpoints last known.
    Kernel,
    /// The agent has been gone for long: leave every connect to whoever stands behind us.
    Aside,
}

/// Reads the heartbeat. A heartbeat of zero was never written: nobody vouches for the endpoints, so stand aside.
/// A heartbeat in the future (written on another CPU an instant ago) is fresh.
#[inline(always)]
pub fn stance(now_ns: u64, heartbeat_ns: u64, stale_ns: u64, stand_aside_ns: u64) -> Stance {
    if heartbeat_ns == 0 {
        return Stance::Aside;
    }
    let age = now_ns.saturating_sub(heartbeat_ns);
    if age >= stand_aside_ns {
        Stance::Aside
    } else if age >= stale_ns {
        Stance::Kernel
    } else {
        Stance::Serve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heartbeat_ages_from_serve_to_kernel_to_aside() {
        let at = |now| stance(now, 1_000, 200, 3_000);
        assert_eq!(at(1_000), Stance::Serve);
        assert_eq!(at(1_199), Stance::Serve);
        assert_eq!(at(1_200), Stance::Kernel);
        assert_eq!(at(3_999), Stance::Kernel);
        assert_eq!(at(4_000), Stance::Aside);
    }

    #[test]
    fn a_heartbeat_never_written_stands_aside() {
        assert_eq!(stance(5, 0, 200, 3_000), Stance::Aside);
    }

    #[test]
    fn a_heartbeat_from_the_future_is_fresh() {
        assert_eq!(stance(5, 6, 200, 3_000), Stance::Serve);
    }
}
