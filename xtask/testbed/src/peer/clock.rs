// SPDX-License-Identifier: Apache-2.0
//! One time scale for all processes of a run: microseconds of Unix time, derived from the monotonic clock.
//!
//! Faults are injected by one process and felt by others, so their instants must be comparable; within a process they
//! must never go backwards. Deliberately not here: sleeping.

use std::time::{Duration, Instant, SystemTime};

/// Translates monotonic instants to Unix microseconds by one reading taken at the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    instant: Instant,
    unix: Duration,
}

impl Clock {
    /// Reads both clocks once.
    pub(crate) fn start() -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), unix }
    }

    /// Unix microseconds of `at`.
    pub(crate) fn micros(&self, at: Instant) -> u64 {
        let unix = match at.checked_duration_since(self.instant) {
            Some(later) => self.unix + later,
            None => self.unix.saturating_sub(self.instant - at),
        };
        u64::try_from(unix.as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_before_and_after_the_reading_keep_their_distance() {
        let clock = Clock::start();
        let later = clock.instant + Duration::from_millis(5);
        assert_eq!(clock.micros(later) - clock.micros(clock.instant), 5_000);
        if let Some(earlier) = clock.instant.checked_sub(Duration::from_millis(5)) {
            assert_eq!(clock.micros(clock.instant) - clock.micros(earlier), 5_000);
        }
    }
}
