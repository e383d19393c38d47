// SPDX-License-Identifier: Apache-2.0
//! When each connection is sent away while a replica drains.
//!
//! Connections are numbered as they come. Each gets the fraction `number × φ` of the drain time, shifted by a random start:
//! multiples of the golden ratio, modulo 1, spread any run of numbers evenly (Knuth, The Art of Computer Programming, 6.4,
//! exercise 9), so that however many are open, and whichever have closed meanwhile, about as many leave in each second,
//! without a list of them. Pure.

use std::time::Duration;

/// The golden ratio, less its whole part.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// How long after the start of the drain the connection of this number is sent away. `start` is uniform in [0, 1).
pub(super) fn turn(number: u64, start: f64, drain_time: Duration) -> Duration {
    // Numbers beyond 2^53 would lose their low bits; at a million connections a second that is in 285 years.
    #[allow(clippy::cast_precision_loss)]
    let fraction = (number as f64 * GOLDEN + start).fract();
    drain_time.mul_f64(fraction)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_tenth_of_the_drain_time_gets_much_more_than_its_share(
            first in 0_u64..1_000_000,
            count in 20_u64..5_000,
            start in 0.0..1.0_f64,
        ) {
            let mut tenths = [0_u64; 10];
            for number in first..first + count {
                let turn = turn(number, start, Duration::from_secs(10));
                prop_assert!(turn <= Duration::from_secs(10));
                tenths[usize::try_from(turn.as_secs()).unwrap().min(9)] += 1;
            }
            // The discrepancy of this sequence grows with the logarithm of the count.
            prop_assert!(tenths.iter().all(|tenth| tenth.abs_diff(count / 10) <= 5), "{tenths:?}");
        }
    }
}
