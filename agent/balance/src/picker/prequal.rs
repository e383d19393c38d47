// SPDX-License-Identifier: Apache-2.0
//! `prequal`: the fastest of a few candidates that are not overloaded, by what they said when probed.
//!
//! Source: Wydrowski, Kleinberg, Rumble, Archer, "Load is Not What You Should Balance: Introducing Prequal", NSDI 2024.
//! The hot-cold lexicographic rule: a candidate is hot if its requests in flight lie above a quantile of them, else cold.
//! Of the cold ones the one with the lowest latency is taken; if all were hot, the one with the fewest requests in flight.
//! Here the quantile is taken among the few candidates of the pick: with three of them the most loaded one is hot (the
//! paper's best quantiles are 0.6 to 0.9), unless another has as much; the others are cold, so there always is one.
//!
//! The paper's client keeps a pool of probes, uses each a few times and raises its count at each use. This picker is
//! immutable: its pool is a few endpoints drawn by weight, and an endpoint counts as loaded with at least as many requests
//! as this client alone has in flight to it. Requests in flight are compared per weight. A probe older than
//! [`Prequal::FRESH`] counts for nothing; with fewer than two fresh ones the first two candidates are compared as
//! `least-request` does.
//!
//! **Cost per pick:** three draws, probe reads and load reads, for any number of endpoints.
//!
//! **When it fails:** it needs fresh probes of most endpoints: of a large set probed thinly it finds few and becomes
//! `least-request`, so the set must be made small first. Probes shared by many requests send all of them to the same
//! endpoint until the next probe, bounded only by the client's own requests in flight. A server that fails fast and reports
//! a low latency is taken at its word; outlier detection has to stand before this picker.

use std::{hint::select_unpredictable, time::Duration};

use super::{Picker, View, draw::Draw, least_request::lightest_of};
use crate::rng::Rng;

/// Candidates per pick. A fourth makes a pick half as dear again.
const CANDIDATES: usize = 3;

/// A draw that was probed lately.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    endpoint: usize,
    /// Requests in flight per weight, in units of the mean weight.
    load: f64,
    latency_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Prequal {
    draw: Draw,
    mean_weight: f64,
}

impl Prequal {
    /// The oldest probe that is used: the paper's.
    pub const FRESH: Duration = Duration::from_secs(1);

    /// A picker over endpoints of these weights.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        let draw = Draw::new(weights);
        Self { mean_weight: draw.mean_weight(), draw }
    }

    /// What a fresh probe says of an endpoint, if there is one.
    fn candidate(&self, endpoint: usize, view: &dyn View) -> Option<Candidate> {
        let probe = view.probe(endpoint).filter(|probe| probe.age <= Self::FRESH)?;
        let in_flight = probe.in_flight.max(view.in_flight(endpoint));
        let load = in_flight as f64 * self.mean_weight / f64::from(self.draw.weight(endpoint));
        Some(Candidate { endpoint, load, latency_ns: probe.latency_ns })
    }
}

impl Picker for Prequal {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        let first = self.draw.first(view, rng)?;
        let mut pool = [Candidate { endpoint: first, load: 0.0, latency_ns: 0 }; CANDIDATES];
        let mut fresh = 0;
        for nth in 0..CANDIDATES {
            let drawn = if nth == 0 { Some(first) } else { self.draw.other(first, view, rng) };
            let new = drawn.filter(|endpoint| pool[..fresh].iter().all(|c| c.endpoint != *endpoint));
            if let Some(candidate) = new.and_then(|endpoint| self.candidate(endpoint, view)) {
                pool[fresh] = candidate;
                fresh += 1;
            }
        }
        if fresh < 2 {
            return Some(lightest_of(&self.draw, first, 1, view, rng));
        }
        Some(hot_cold(&pool[..fresh]))
    }
}

/// The rule, over at least two candidates. Ties go to the first, which was drawn by weight. Without a sort and without
/// branches on what nobody can predict: a wrong guess costs more than the rest of the rule.
fn hot_cold(pool: &[Candidate]) -> usize {
    let (mut most, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for Candidate { load, .. } in pool {
        let less = if *load < most { *load } else { most };
        second = if less > second { less } else { second };
        most = if *load > most { *load } else { most };
    }
    let (mut best, mut lowest) = (pool[0].endpoint, u64::MAX);
    for Candidate { endpoint, load, latency_ns } in pool {
        // Half of what a number of nanoseconds can be is 292 years: the uppermost bit is free.
        let rank = u64::from(*load > second) << 63 | (*latency_ns).min(u64::MAX >> 1);
        best = select_unpredictable(rank < lowest, *endpoint, best);
        lowest = lowest.min(rank);
    }
    best
}
