// SPDX-License-Identifier: Apache-2.0
//! How long to wait before the API server is asked again.
//!
//! Exponential with jitter, as client-go's reflector waits, but with a lower cap: three watches per replica are no
//! stampede, and what is served gets older while nobody asks. What a server demands with `Retry-After` (RFC 9110,
//! section 10.2.3) is obeyed as a minimum. Pure: the random number is an argument.

use std::time::Duration;

/// A restarted server is back within a second or two; the first attempts must not sleep through that.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait of our own.
const LAST: Duration = Duration::from_secs(10);
/// The longest wait a server may ask for: a day in a header must not stop a source for a day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something worked: the next failure is the first one again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The last attempt has failed as well.
    pub(super) fn is_repeated(&self) -> bool {
        self.failures > 0
    }

    /// The wait after one more failure: between half and all of the exponential step, and never less than what the
    /// server asked for. `random` is uniform over all values.
    pub(super) fn next(&mut self, retry_after: Option<Duration>, random: u64) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(16)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        let half = step / 2;
        #[expect(clippy::cast_precision_loss, reason = "a jitter does not need 64 bits")]
        let jitter = half.mul_f64(random as f64 / u64::MAX as f64);
        match retry_after {
            // Replicas that were turned away together must not come back together.
            Some(asked) => asked.min(MAX_RETRY_AFTER) + jitter,
            None => half + jitter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..20).map(|_| backoff.next(None, u64::MAX)).collect();
        assert_eq!(waits[0], FIRST);
        assert_eq!(waits[1], FIRST * 2);
        assert!(waits[6..].iter().all(|wait| *wait == LAST), "{waits:?}");
        backoff.reset();
        assert_eq!(backoff.next(None, 0), FIRST / 2, "jitter takes at most half away");
    }

    #[test]
    fn a_server_that_says_when_to_come_back_is_obeyed_within_reason() {
        let mut backoff = Backoff::default();
        let second = Duration::from_secs(1);
        assert_eq!(backoff.next(Some(second), 0), second);
        assert!(backoff.next(Some(second), u64::MAX) > second);
        assert_eq!(backoff.next(Some(Duration::from_secs(86_400)), 0), MAX_RETRY_AFTER);
    }
}
