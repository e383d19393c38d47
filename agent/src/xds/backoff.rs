// SPDX-License-Identifier: Apache-2.0
//! How long to wait before the next stream.
//!
//! A stream that delivered and was lost is followed by a wait of anything up to [`SPREAD`]: when a replica dies, all of its
//! agents lose their stream in one instant, and 5 000 TLS handshakes in a tenth of a second would be the next failure.
//! After that, exponential from 200 ms to 15 s, each wait drawn from its upper half. Only a stream that delivered a response
//! starts over (gRFC A57): one that connects and dies at once is no success.
//!
//! Pure: randomness comes in, the wait goes out, nobody sleeps here.

use std::time::Duration;

/// Longest wait after a stream that delivered. What is in force stays meanwhile, so nobody misses anything.
pub const SPREAD: Duration = Duration::from_secs(1);
/// Longest first wait after a stream that did not.
pub const FIRST: Duration = Duration::from_millis(200);
/// Longest wait.
pub const LAST: Duration = Duration::from_secs(15);
/// `FIRST` doubled this often exceeds `LAST`.
const DOUBLINGS_MAX: u32 = 7;

/// Waits between streams.
#[derive(Debug, Default)]
pub struct Backoff {
    doublings: u32,
}

impl Backoff {
    /// The wait after a stream ended. `delivered`: whether it had brought a response. `random` is uniform in [0, 1).
    pub fn after(&mut self, delivered: bool, random: f64) -> Duration {
        let random = random.clamp(0.0, 1.0);
        if delivered {
            self.doublings = 0;
            return SPREAD.mul_f64(random);
        }
        let longest = FIRST.saturating_mul(1 << self.doublings).min(LAST);
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
        longest.mul_f64(0.5 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_a_response_starts_over() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.after(false, 1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
        assert_eq!(backoff.after(true, 1.0), SPREAD);
        assert_eq!(backoff.after(false, 1.0).as_millis(), 200);
    }

    #[test]
    fn agents_that_lose_their_stream_together_come_back_spread_out() {
        let waits = (0..5_000).map(|agent| Backoff::default().after(true, f64::from(agent) / 5_000.0));
        let mut tenths = [0; 10];
        waits.for_each(|wait| tenths[wait.as_millis() as usize / 100] += 1);
        assert_eq!(tenths, [500; 10]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_wait_after_a_failure_is_in_the_upper_half_of_its_step(randoms in prop::collection::vec(0.0..1.0f64, 1..100)) {
            let mut backoff = Backoff::default();
            let mut longest = Backoff::default();
            for random in randoms {
                let wait = backoff.after(false, random);
                let most = longest.after(false, 1.0);
                prop_assert!(wait <= most && wait >= most / 2 && most <= LAST);
            }
        }
    }
}
