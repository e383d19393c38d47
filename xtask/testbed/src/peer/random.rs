// SPDX-License-Identifier: Apache-2.0
//! Seeded randomness for load: exponential gaps and service times.
//!
//! SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014) is more than good enough for
//! arrival times and needs no dependency. Deliberately not here: anything that has to be unpredictable.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// A generator with 64 bits of state.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The same name gives the same sequence, different names give unrelated ones.
    pub(crate) fn named(name: &str) -> Self {
        // DefaultHasher::new uses fixed keys.
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in the half-open interval (0, 1], so that its logarithm is finite.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed with the given mean: the gap between arrivals of a Poisson process.
    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-self.unit().ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_gaps_have_the_mean_that_was_asked_for() {
        let mut random = Random::named("client-a1");
        let total: Duration = (0..20_000).map(|_| random.exponential(Duration::from_millis(10))).sum();
        let mean = total.as_secs_f64() / 20_000.0;
        assert!((0.0097..0.0103).contains(&mean), "mean {mean}");
    }

    #[test]
    fn different_names_give_different_sequences() {
        let mut a = Random::named("client-a1");
        let mut b = Random::named("client-a2");
        let mut again = Random::named("client-a1");
        let first = a.next();
        assert_ne!(first, b.next());
        assert_eq!(first, again.next());
    }
}
