// SPDX-License-Identifier: Apache-2.0
//! CPU time of this thread, and the best of several rounds.
//!
//! The best round, not the mean: what disturbs a round (another process in the caches, an interrupt) only ever adds.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::{ClockId, clock_gettime};

/// CPU time that this thread has used.
pub(crate) fn cpu() -> Result<Duration> {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    clock_gettime(clock).map(Duration::from).context("cannot read the CPU time of this thread")
}

/// The least CPU time of `rounds` runs.
pub(crate) fn best(rounds: usize, mut run: impl FnMut()) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..rounds {
        let started = cpu()?;
        run();
        least = least.min(cpu()?.saturating_sub(started));
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_cpu_time() {
        let mut sum = 0u64;
        let took = best(2, || sum = (0..1_000_000u64).fold(sum, |a, b| std::hint::black_box(a ^ b))).unwrap();
        assert!(took > Duration::ZERO && took < Duration::from_secs(10));
    }
}
