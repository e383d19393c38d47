// SPDX-License-Identifier: Apache-2.0
//! When the next request of a stream arrives.
//!
//! All processes are Poisson processes whose rate changes over time. Where the rate is constant in pieces, the draw starts
//! anew at each change, which a process without memory allows; the sine wave is thinned from its highest rate (Lewis, Shedler,
//! "Simulation of Nonhomogeneous Poisson Processes by Thinning", 1979). Cost: one logarithm per request, a sine and a few
//! draws more for thinning.

use evenkeel_balance::rng::SplitMix64;

use super::{
    draw::{exponential, unit},
    ns,
};
use crate::model::Process;

#[derive(Debug)]
pub(crate) struct Stream {
    process: Process,
    factor: f64,
    /// Counts changes of the factor: an arrival that was drawn before one is dropped.
    pub(crate) generation: u32,
}

/// What a stream does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A request arrives.
    Request(u64),
    /// Nothing arrives before this time: ask again then.
    Ask(u64),
    /// Nothing arrives any more, unless the factor changes.
    Never,
}

impl Stream {
    pub(crate) fn new(process: Process) -> Self {
        Self { process, factor: 1.0, generation: 0 }
    }

    pub(crate) fn set_factor(&mut self, factor: f64) {
        self.factor = factor;
        self.generation += 1;
    }

    #[inline]
    pub(crate) fn next(&self, now: u64, rng: &mut SplitMix64) -> Next {
        let (rate, until) = self.rate(now);
        if rate <= 0.0 {
            return until.map_or(Next::Never, Next::Ask);
        }
        // Gaps are whole nanoseconds, rounded down: at most one nanosecond too short.
        let at = now.saturating_add((exponential(rng) * (1e9 / rate)) as u64);
        match until {
            Some(until) if at >= until => Next::Ask(until),
            _ if self.thinned_out(at, rng) => Next::Ask(at),
            _ => Next::Request(at),
        }
    }

    /// The rate from `now` on (for the sine wave: the highest), and until when it holds.
    fn rate(&self, now: u64) -> (f64, Option<u64>) {
        match self.process {
            Process::Poisson { rate } => (rate * self.factor, None),
            Process::Burst { rate, burst_rate, every, length } => {
                let (every, length) = (ns(every), ns(length));
                let (start, place) = (now - now % every, now % every);
                if place < every - length {
                    (rate * self.factor, Some(start + every - length))
                } else {
                    (burst_rate * self.factor, Some(start + every))
                }
            }
            Process::Diurnal { rate, amplitude, .. } => (rate * (1.0 + amplitude) * self.factor, None),
        }
    }

    fn thinned_out(&self, at: u64, rng: &mut SplitMix64) -> bool {
        let Process::Diurnal { amplitude, period, .. } = self.process else { return false };
        let period = ns(period);
        let turn = (at % period) as f64 / period as f64;
        let share = (1.0 + amplitude * libm::sin(std::f64::consts::TAU * turn)) / (1.0 + amplitude);
        unit(rng) >= share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    /// Requests per bin of `width` up to `end`.
    fn counts(process: Process, width: u64, end: u64) -> Vec<u64> {
        let (stream, mut rng, mut now) = (Stream::new(process), SplitMix64::new(5), 0);
        let mut bins = vec![0; (end / width) as usize];
        while now < end {
            now = match stream.next(now, &mut rng) {
                Next::Request(at) => {
                    if at < end {
                        bins[(at / width) as usize] += 1;
                    }
                    at
                }
                Next::Ask(at) => at,
                Next::Never => break,
            };
        }
        bins
    }

    #[test]
    fn a_poisson_stream_has_its_rate_and_a_variance_equal_to_its_mean() {
        let bins = counts(Process::Poisson { rate: 10_000.0 }, SECOND / 100, 100 * SECOND);
        let mean = bins.iter().sum::<u64>() as f64 / bins.len() as f64;
        let variance = bins.iter().map(|b| (*b as f64 - mean).powi(2)).sum::<f64>() / bins.len() as f64;
        assert!((mean - 100.0).abs() < 0.5 && (variance / mean - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn bursts_come_at_the_end_of_each_turn() {
        let process = Process::Burst {
            rate: 0.0,
            burst_rate: 1_000.0,
            every: Duration::from_secs(10),
            length: Duration::from_secs(1),
        };
        let bins = counts(process, SECOND, 40 * SECOND);
        for (second, count) in bins.iter().enumerate() {
            assert_eq!(*count > 800, second % 10 == 9, "{bins:?}");
            assert!(*count == 0 || *count > 800);
        }
    }

    #[test]
    fn a_day_has_its_peak_in_its_first_half() {
        let process = Process::Diurnal { rate: 1_000.0, amplitude: 0.5, period: Duration::from_secs(40) };
        let bins = counts(process, 10 * SECOND, 400 * SECOND);
        let quarter = |q: usize| bins.iter().skip(q).step_by(4).sum::<u64>() as f64 / 100.0;
        // The mean of the sine over its first quarter is 2 / pi.
        let (up, down) =
            (1_000.0 * (1.0 + 1.0 / std::f64::consts::PI), 1_000.0 * (1.0 - 1.0 / std::f64::consts::PI));
        assert!((quarter(0) / up - 1.0).abs() < 0.02 && (quarter(1) / up - 1.0).abs() < 0.02, "{bins:?}");
        assert!((quarter(2) / down - 1.0).abs() < 0.02 && (quarter(3) / down - 1.0).abs() < 0.02, "{bins:?}");
    }
}
