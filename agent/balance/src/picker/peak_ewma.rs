// SPDX-License-Identifier: Apache-2.0
//! `peak-ewma`: the better of two choices by expected latency times requests in flight per weight.
//!
//! Source: Finagle's `PeakEwma` load balancer (Twitter, 2014), as Linkerd and Envoy have it; the estimate itself is
//! [`crate::latency`]. The cost of an endpoint is `latency × (1 + in flight / weight)`, with weights in units of their
//! mean. The one stands inside the bracket, not above the weight, because the draw is by weight already: idle endpoints of
//! equal latency must be picked by weight, not by its square.
//!
//! An endpoint without a measured latency starts from the mean of the warm candidates (of two: from the other's), so that
//! requests in flight alone decide: it is neither flooded, as it would be from zero, nor starved, as it would be from a
//! pessimistic constant.
//!
//! **Cost per pick:** two draws, two load reads, two latency reads, for any number of endpoints.
//!
//! **When it fails:** latency must be the endpoint's, not the request's. Where a few requests are a hundred times dearer
//! than the rest, each of them makes its endpoint look slow for a while, and traffic sloshes. An endpoint that is far but
//! idle loses to one that is near and busy until that one's queue outweighs the distance: that is meant, but it evens
//! nothing out. Without measurements it is `least-request`.

use super::{Picker, View, draw::Draw};
use crate::rng::Rng;

/// See the module.
#[derive(Debug)]
pub struct PeakEwma {
    draw: Draw,
    mean_weight: f64,
}

/// Longer than any latency, in nanoseconds (31 years); keeps products finite.
const LONGEST: f64 = 1e18;

impl PeakEwma {
    /// A picker over endpoints of these weights.
    #[must_use]
    pub fn new(weights: &[u32]) -> Self {
        let draw = Draw::new(weights);
        Self { mean_weight: draw.mean_weight(), draw }
    }

    /// Requests in flight per weight, and one.
    fn pressure(&self, endpoint: usize, view: &dyn View) -> f64 {
        1.0 + view.in_flight(endpoint) as f64 * self.mean_weight / f64::from(self.draw.weight(endpoint))
    }
}

impl Picker for PeakEwma {
    fn pick(&self, view: &dyn View, rng: &mut dyn Rng) -> Option<usize> {
        let a = self.draw.first(view, rng)?;
        let Some(b) = self.draw.other(a, view, rng) else { return Some(a) };
        let (latency_a, latency_b) = match (latency(a, view), latency(b, view)) {
            (Some(a), Some(b)) => (a, b),
            (Some(warm), None) | (None, Some(warm)) => (warm, warm),
            (None, None) => (1.0, 1.0),
        };
        let b_is_better = latency_b * self.pressure(b, view) < latency_a * self.pressure(a, view);
        Some(if b_is_better { b } else { a })
    }
}

/// The endpoint's latency if it is known. What cannot be (NaN, less than nothing) is not known. At least a nanosecond, so that requests in flight
/// count for something at any latency.
fn latency(endpoint: usize, view: &dyn View) -> Option<f64> {
    view.latency(endpoint).filter(|ns| *ns >= 0.0).map(|ns| ns.clamp(1.0, LONGEST))
}
