// SPDX-License-Identifier: Apache-2.0
//! Between zones and endpoints: what a list of endpoints adds up to per zone, and what a row of a plan means for each.
//!
//! The same two rules hold on both sides: draining endpoints serve only when nothing is healthy (KEP-1669), and when all
//! that could serve have a weight of zero, all count as one, because somebody has to serve ([`crate::alias`] does the same).

use super::Zone;
use crate::priority::Health;

/// An endpoint as far as zones are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Index of its zone.
    pub zone: usize,
    /// Its weight: its part of the zone's capacity and of the zone's traffic.
    pub weight: u32,
    /// See [`Health`].
    pub health: Health,
}

/// Which endpoints serve, and what they weigh.
struct Serving {
    health: Health,
    all_zero: bool,
}

impl Serving {
    fn of(endpoints: &[Endpoint]) -> Self {
        let best = [Health::Healthy, Health::Draining];
        let health = best.into_iter().find(|h| endpoints.iter().any(|e| e.health == *h));
        let health = health.unwrap_or(Health::Healthy);
        let all_zero = endpoints.iter().filter(|e| e.health == health).all(|e| e.weight == 0);
        Self { health, all_zero }
    }

    fn weight(&self, endpoint: &Endpoint) -> u64 {
        if self.all_zero { 1 } else { u64::from(endpoint.weight) }
    }

    fn serves(&self, endpoint: &Endpoint) -> bool {
        endpoint.health == self.health
    }
}

/// Adds `endpoints` up to `zones` zones, without region, demand and capacity, which endpoints do not tell. Endpoints of a
/// zone that is not among them are not counted.
#[must_use]
pub fn tally(endpoints: &[Endpoint], zones: usize) -> Vec<Zone> {
    let (serving, mut out) = (Serving::of(endpoints), vec![Zone::default(); zones]);
    for endpoint in endpoints {
        let Some(zone) = out.get_mut(endpoint.zone) else { continue };
        zone.weight += serving.weight(endpoint);
        zone.healthy += if serving.serves(endpoint) { serving.weight(endpoint) } else { 0 };
    }
    out
}

/// How finely a share is divided among the endpoints of a zone: 65 536 × this is what a row adds up to, and fits `u32`.
const GRAIN: u128 = 4_096;

/// The weight of each endpoint for a client whose row of the plan is `row`, in the same order: the zone's share divided by
/// weight among its endpoints that serve. At least 1 for one that serves with a weight in a zone that is sent to, whatever
/// rounds; zero for all others, so all are zero when nobody serves.
#[must_use]
pub fn endpoint_weights(row: &[u32], endpoints: &[Endpoint]) -> Vec<u32> {
    let (serving, zones) = (Serving::of(endpoints), tally(endpoints, row.len()));
    let weight = |e: &Endpoint| match row.get(e.zone) {
        Some(share) if *share > 0 && serving.serves(e) && serving.weight(e) > 0 => {
            let part = u128::from(*share) * GRAIN * u128::from(serving.weight(e));
            // Not zero: this endpoint's own weight is in it.
            ((part / u128::from(zones[e.zone].healthy)) as u32).max(1)
        }
        _ => 0,
    };
    endpoints.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::{Health::*, *};
    use crate::alias::WHOLE;
    use proptest::prelude::*;

    fn endpoint(zone: usize, weight: u32, health: Health) -> Endpoint {
        Endpoint { zone, weight, health }
    }

    #[test]
    fn weights_and_health_add_up_per_zone() {
        let endpoints = [
            endpoint(0, 2, Healthy),
            endpoint(0, 3, Unhealthy),
            endpoint(1, 5, Draining),
            endpoint(9, 1, Healthy),
        ];
        let zones = tally(&endpoints, 3);
        assert_eq!(zones.iter().map(|z| (z.weight, z.healthy)).collect::<Vec<_>>(), [(5, 2), (5, 0), (0, 0)]);
    }

    #[test]
    fn draining_endpoints_serve_when_nothing_is_healthy() {
        let endpoints = [endpoint(0, 2, Draining), endpoint(1, 3, Unhealthy)];
        assert_eq!(tally(&endpoints, 2)[0].healthy, 2);
        assert_eq!(endpoint_weights(&[WHOLE, 0], &endpoints), [WHOLE * 4_096, 0]);
    }

    #[test]
    fn when_all_that_serve_weigh_nothing_they_serve_alike() {
        let endpoints = [endpoint(0, 0, Healthy), endpoint(0, 0, Healthy), endpoint(0, 7, Unhealthy)];
        assert_eq!((tally(&endpoints, 1)[0].weight, tally(&endpoints, 1)[0].healthy), (3, 2));
        assert_eq!(endpoint_weights(&[WHOLE], &endpoints), [WHOLE * 2_048, WHOLE * 2_048, 0]);
    }

    #[test]
    fn a_small_weight_in_a_zone_that_gets_little_is_not_rounded_away() {
        let endpoints = [endpoint(0, 1, Healthy), endpoint(0, u32::MAX, Healthy), endpoint(1, 1, Healthy)];
        assert_eq!(endpoint_weights(&[1, WHOLE - 1], &endpoints)[..2], [1, 4_095]);
    }

    #[test]
    fn nobody_and_nobody_healthy_give_no_weight() {
        assert!(endpoint_weights(&[WHOLE], &[]).is_empty());
        assert_eq!(endpoint_weights(&[WHOLE], &[endpoint(0, 5, Unhealthy)]), [0]);
        assert_eq!(tally(&[], 2), [Zone::default(); 2]);
    }

    proptest! {
        #[test]
        fn endpoints_of_a_zone_share_its_share_by_weight(
            weights in prop::collection::vec((0usize..3, 1u32..1_000), 1..40), first in 0..=WHOLE
        ) {
            let endpoints: Vec<_> = weights.iter().map(|(z, w)| endpoint(*z, *w, Healthy)).collect();
            let row = [first, WHOLE - first, 0];
            let (out, zones) = (endpoint_weights(&row, &endpoints), tally(&endpoints, 3));
            for (weight, e) in out.iter().zip(&endpoints) {
                let exact = f64::from(row[e.zone]) * 4_096.0 * f64::from(e.weight) / zones[e.zone].weight as f64;
                prop_assert!((f64::from(*weight) - exact).abs() <= 1.0);
            }
        }

        #[test]
        fn weights_that_would_overflow_do_not(count in 1usize..50) {
            let out = endpoint_weights(&[WHOLE], &vec![endpoint(0, u32::MAX, Healthy); count]);
            prop_assert!(out.iter().all(|w| *w > 0 && u64::from(*w) * count as u64 <= u64::from(WHOLE) * 4_096));
        }
    }
}
