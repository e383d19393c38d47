// SPDX-License-Identifier: Apache-2.0
//! Random times.
//!
//! Uniform bits become doubles by exact arithmetic; logarithm, exponential and sine are those of the `libm` crate, which is
//! Rust and the same on any machine. Times are nanoseconds, rounded down. Exponentials are drawn by a ziggurat of 256 layers
//! (Marsaglia, Tsang, "The Ziggurat Method for Generating Random Variables", 2000), because a logarithm per request is
//! a seventh of what a request costs; a standard normal by Marsaglia's polar method (1964), which needs no cosine.

use std::sync::LazyLock;

use evenkeel_balance::rng::Rng;

use crate::model::ServiceTime;

/// The upper 53 bits as a number from 0 (included) to 1 (excluded). By way of `i64`, which processors convert directly.
#[inline]
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as i64 as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// 0 (included) to 1 (excluded), in steps of 2^-53.
#[inline]
pub(crate) fn unit(rng: &mut impl Rng) -> f64 {
    fraction(rng.next_u64())
}

/// True with a probability of `share`. Draws nothing for 0 and 1, which are the usual values.
#[inline]
pub(crate) fn chance(share: f64, rng: &mut impl Rng) -> bool {
    share > 0.0 && (share >= 1.0 || unit(rng) < share)
}

/// Layers of the ziggurat.
const LAYERS: usize = 256;
/// Where its lowest layer ends and the tail begins.
const TAIL: f64 = 7.697_117_470_131_05;
/// Area of each layer.
const AREA: f64 = 0.003_949_659_822_581_557;

/// Right ends of the layers, the lowest first, and the density there. The lowest layer is as wide as if its area, tail
/// included, were a rectangle.
static ZIGGURAT: LazyLock<[(f64, f64); LAYERS + 1]> = LazyLock::new(|| {
    let mut ends = [(0.0, 1.0); LAYERS + 1];
    ends[0] = (AREA * libm::exp(TAIL), 0.0);
    ends[1] = (TAIL, libm::exp(-TAIL));
    for i in 2..LAYERS {
        let (x, density) = ends[i - 1];
        let end = -libm::log(AREA / x + density);
        ends[i] = (end, libm::exp(-end));
    }
    ends
});

/// Exponential with mean 1.
#[inline]
pub(crate) fn exponential(rng: &mut impl Rng) -> f64 {
    let ends = &*ZIGGURAT;
    loop {
        let bits = rng.next_u64();
        // The layer and the place in it are of different bits.
        let layer = (bits & (LAYERS as u64 - 1)) as usize;
        let x = fraction(bits) * ends[layer].0;
        if x < ends[layer + 1].0 {
            return x;
        }
        if layer == 0 {
            // The tail of an exponential is an exponential; 1 − u is above zero, so that the logarithm is finite.
            return TAIL - libm::log(1.0 - unit(rng));
        }
        let (low, high) = (ends[layer].1, ends[layer + 1].1);
        if low + (high - low) * unit(rng) < libm::exp(-x) {
            return x;
        }
    }
}

/// Uniform from 0 to `most`, both included.
#[inline]
pub(crate) fn up_to(most: u64, rng: &mut impl Rng) -> u64 {
    if most == 0 { 0 } else { ((u128::from(rng.next_u64()) * (u128::from(most) + 1)) >> 64) as u64 }
}

/// Normal with mean 0 and deviation 1.
fn normal(rng: &mut impl Rng) -> f64 {
    loop {
        let (x, y) = (2.0 * unit(rng) - 1.0, 2.0 * unit(rng) - 1.0);
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            return x * (-2.0 * libm::log(square) / square).sqrt();
        }
    }
}

/// A service time that is ready to be drawn: durations as nanoseconds in `f64`, the lognormal's parameters computed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Times {
    Fixed(f64),
    Exponential(f64),
    Lognormal { mu: f64, sigma: f64 },
    Bimodal { short: f64, long: f64, long_share: f64 },
}

impl Times {
    pub(crate) fn new(time: &ServiceTime) -> Self {
        let ns = |d: std::time::Duration| d.as_nanos() as f64;
        match *time {
            ServiceTime::Fixed(time) => Self::Fixed(ns(time)),
            ServiceTime::Exponential { mean } => Self::Exponential(ns(mean)),
            // The mean of a lognormal is exp(mu + sigma² / 2).
            ServiceTime::Lognormal { mean, sigma } => {
                Self::Lognormal { mu: libm::log(ns(mean)) - sigma * sigma / 2.0, sigma }
            }
            ServiceTime::Bimodal { short, long, long_share } => {
                Self::Bimodal { short: ns(short), long: ns(long), long_share }
            }
        }
    }

    /// One draw, in nanoseconds.
    #[inline]
    pub(crate) fn draw(&self, rng: &mut impl Rng) -> f64 {
        match *self {
            Self::Fixed(time) => time,
            Self::Exponential(mean) => mean * exponential(rng),
            Self::Lognormal { mu, sigma } => libm::exp(mu + sigma * normal(rng)),
            Self::Bimodal { short, long, long_share } => {
                if chance(long_share, rng) {
                    long
                } else {
                    short
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evenkeel_balance::rng::SplitMix64;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    fn mean_and_deviation(time: ServiceTime) -> (f64, f64) {
        let (times, mut rng, n) = (Times::new(&time), SplitMix64::new(7), 400_000);
        let draws: Vec<f64> = (0..n).map(|_| times.draw(&mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / f64::from(n);
        (mean, variance.sqrt())
    }

    #[test]
    fn every_distribution_has_the_mean_that_it_promises() {
        for time in [
            ServiceTime::Fixed(MS),
            ServiceTime::Exponential { mean: MS },
            ServiceTime::Lognormal { mean: MS, sigma: 1.0 },
            ServiceTime::Bimodal { short: MS, long: 10 * MS, long_share: 0.1 },
        ] {
            let (mean, _) = mean_and_deviation(time);
            assert!((mean / time.mean_ns() - 1.0).abs() < 0.01, "{time:?}: {mean}");
        }
    }

    #[test]
    fn exponentials_have_their_distribution_in_the_body_and_in_the_tail() {
        let (mut rng, n) = (SplitMix64::new(4), 4_000_000u32);
        let draws: Vec<f64> = (0..n).map(|_| exponential(&mut rng)).collect();
        for x in [0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 7.5, 8.0, 9.0] {
            let above = draws.iter().filter(|d| **d > x).count() as f64;
            let want = libm::exp(-x) * f64::from(n);
            // Five deviations of a binomial count.
            assert!((above - want).abs() < 5.0 * want.sqrt(), "{above} above {x}, want {want}");
        }
    }

    #[test]
    fn deviations_are_those_of_the_distributions() {
        let (_, exponential) = mean_and_deviation(ServiceTime::Exponential { mean: MS });
        assert!((exponential / 1e6 - 1.0).abs() < 0.01, "{exponential}");
        // Lognormal: deviation = mean × sqrt(exp(sigma²) − 1).
        let (_, lognormal) = mean_and_deviation(ServiceTime::Lognormal { mean: MS, sigma: 0.5 });
        assert!((lognormal / (1e6 * (0.25f64.exp() - 1.0).sqrt()) - 1.0).abs() < 0.02, "{lognormal}");
    }

    #[test]
    fn a_draw_is_the_same_bits_everywhere() {
        let mut rng = SplitMix64::new(1);
        let times = Times::new(&ServiceTime::Lognormal { mean: MS, sigma: 1.0 });
        let bits: Vec<u64> = (0..3).map(|_| times.draw(&mut rng).to_bits()).collect();
        assert_eq!(bits, GOLDEN, "{bits:#x?}");
    }

    /// As drawn on x86-64; another machine must agree.
    const GOLDEN: [u64; 3] = [0x412c_7056_661f_d9c6, 0x412d_379b_56b3_93c7, 0x411a_b2d8_1d86_bb45];

    #[test]
    fn chances_of_nothing_and_of_certainty_draw_nothing() {
        let (mut a, mut b) = (SplitMix64::new(3), SplitMix64::new(3));
        assert!(!chance(0.0, &mut a) && chance(1.0, &mut a));
        assert_eq!(a.next_u64(), b.next_u64());
    }
}
