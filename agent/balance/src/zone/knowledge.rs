// SPDX-License-Identifier: Apache-2.0
//! From what is reported to what is reckoned with: every zone gets a demand and a limit, in one unit.
//!
//! What is not known is filled in from what is: a missing demand is the mean of the known ones; a missing capacity is the
//! zone's weight times the known capacity per weight. Where no capacity is known, all endpoints together are built for all
//! demand with some headroom, each by its weight; where no demand is known, all zones send the same. A zone with few
//! endpoints is then not taken to be a zone with few clients, which is the mistake that drowns small zones.

use super::{Config, Zone};

/// Bounds what reports can say, so that no sum is infinite and no quotient is lost.
const CEILING: f64 = 1e18;

/// What is reckoned with. All numbers are finite and not negative.
pub(super) struct Knowledge {
    pub(super) demand: Vec<f64>,
    /// What each zone is to be given at most, by its health.
    pub(super) limit: Vec<f64>,
    /// The same if all of its endpoints were healthy.
    pub(super) healthy_limit: Vec<f64>,
    pub(super) demand_known: bool,
    pub(super) capacity_known: bool,
    /// No zone has a healthy endpoint: `limit` is `healthy_limit`.
    pub(super) none_healthy: bool,
}

impl Knowledge {
    pub(super) fn of(zones: &[Zone], config: &Config) -> Self {
        let demands: Vec<Option<f64>> = zones.iter().map(|z| known_demand(z.demand)).collect();
        let demand_known = demands.iter().any(Option::is_some);
        let mean = demands.iter().flatten().sum::<f64>() / demands.iter().flatten().count().max(1) as f64;
        let mut demand: Vec<f64> = demands.iter().map(|d| d.unwrap_or(mean)).collect();

        let capacity_known = zones.iter().any(|z| known_capacity(z).is_some());
        let per_weight = capacity_per_weight(zones, demand.iter().sum(), config);
        let fill = if capacity_known { percent(config.fill_percent) } else { 1.0 };
        let healthy_limit: Vec<f64> =
            zones.iter().map(|z| known_capacity(z).unwrap_or(z.weight as f64 * per_weight) * fill).collect();
        if !demand_known {
            let all: f64 = healthy_limit.iter().sum();
            demand.fill(all / percent(config.headroom_percent) / zones.len().max(1) as f64);
        }

        let over = percent(config.overprovisioning_percent);
        let mut limit: Vec<f64> =
            zones.iter().zip(&healthy_limit).map(|(z, l)| l * availability(z, over)).collect();
        let none_healthy = limit.iter().all(|l| *l == 0.0);
        if none_healthy {
            limit.clone_from(&healthy_limit);
        }
        Self { demand, limit, healthy_limit, demand_known, capacity_known, none_healthy }
    }
}

fn percent(percent: u32) -> f64 {
    f64::from(percent) / 100.0
}

/// A demand that can be believed. NaN compares with nothing, so it fails both.
fn known_demand(demand: Option<f64>) -> Option<f64> {
    demand.filter(|d| *d >= 0.0).map(|d| d.min(CEILING))
}

/// A capacity that can be believed, of a zone that has endpoints. The floor keeps limits from vanishing by underflow.
fn known_capacity(zone: &Zone) -> Option<f64> {
    zone.capacity.filter(|c| *c > 0.0 && zone.weight > 0).map(|c| c.clamp(CEILING.recip(), CEILING))
}

/// Of zones whose capacity is known; else what makes all of them together carry all demand with headroom.
fn capacity_per_weight(zones: &[Zone], demand: f64, config: &Config) -> f64 {
    let (capacity, weight) = zones
        .iter()
        .filter_map(|z| known_capacity(z).map(|c| (c, z.weight as f64)))
        .fold((0.0, 0.0), |(c, w), (capacity, weight)| (c + capacity, w + weight));
    if weight > 0.0 {
        return capacity / weight;
    }
    let all: f64 = zones.iter().map(|z| z.weight as f64).sum();
    // Without demand any unit will do.
    let built_for = demand * percent(config.headroom_percent);
    if all > 0.0 && built_for > 0.0 { built_for.max(CEILING.recip()) / all } else { 1.0 }
}

/// The part of a zone's capacity that its health leaves, 0 to 1.
fn availability(zone: &Zone, overprovisioning: f64) -> f64 {
    if zone.weight == 0 {
        return 0.0;
    }
    (zone.healthy as f64 / zone.weight as f64 * overprovisioning).min(1.0)
}
