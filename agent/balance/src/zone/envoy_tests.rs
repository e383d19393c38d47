// SPDX-License-Identifier: Apache-2.0
//! Envoy's published arithmetic, reproduced as special cases of ours.
//!
//! Sources, all in envoyproxy/envoy: `docs/root/intro/arch_overview/upstream/load_balancing/` `priority.rst`,
//! `panic_threshold.rst`, `locality_weight.rst` and `zone_aware.rst`; the numbers of zone-aware routing are those of the
//! comment in `regenerateLocalityRoutingStructures` (`load_balancer_impl.cc`). Envoy reckons in whole percents and rounds on
//! the way; we reckon in 1/65 536 and round once, so tables agree to within one percent point.

use super::*;
use crate::panic::{self, Panic};

const CONFIG: Config = Config {
    policy: Policy::Prefer,
    fill_percent: 100,
    headroom_percent: 100,
    overprovisioning_percent: 140,
};

/// Zone 0 sends everything; each level can carry all of it when healthy. That is what Envoy assumes of priorities. The
/// second level is of the first one's region, the third is not: levels are used in order.
fn levels(healthy: &[u64]) -> Vec<Zone> {
    let zone = |(level, healthy): (usize, &u64)| Zone {
        weight: 100,
        healthy: *healthy,
        region: u32::from(level > 1),
        demand: Some(if level == 0 { 100.0 } else { 0.0 }),
        capacity: Some(100.0),
    };
    healthy.iter().enumerate().map(zone).collect()
}

fn agrees(plan: &Plan, percents: &[u32], case: &dyn std::fmt::Debug) {
    for (share, percent) in plan.row(0).iter().zip(percents) {
        let ours = f64::from(*share) * 100.0 / f64::from(WHOLE);
        assert!((ours - f64::from(*percent)).abs() <= 1.0, "{case:?}: {ours} for {percent} %");
    }
}

#[test]
fn two_priority_levels_are_loaded_as_in_envoys_tables() {
    // priority.rst, first table (P=1 healthy) and second table.
    let table = [
        ([100, 100], [100, 0]),
        ([72, 100], [100, 0]),
        ([71, 100], [99, 1]),
        ([50, 100], [70, 30]),
        ([25, 100], [35, 65]),
        ([0, 100], [0, 100]),
        ([72, 72], [100, 0]),
        ([71, 71], [99, 1]),
        ([50, 50], [70, 30]),
        ([25, 25], [50, 50]),
    ];
    for (healthy, percents) in table {
        agrees(&plan(&levels(&healthy), &CONFIG), &percents, &healthy);
    }
}

#[test]
fn three_priority_levels_are_loaded_as_in_envoys_table() {
    let table = [
        ([100, 100, 100], [100, 0, 0]),
        ([72, 72, 100], [100, 0, 0]),
        ([71, 71, 100], [99, 1, 0]),
        ([50, 50, 100], [70, 30, 0]),
        ([25, 100, 100], [35, 65, 0]),
        ([25, 25, 100], [35, 35, 30]),
        ([25, 25, 20], [36, 36, 28]),
    ];
    for (healthy, percents) in table {
        agrees(&plan(&levels(&healthy), &CONFIG), &percents, &healthy);
    }
}

#[test]
fn a_total_health_below_all_of_it_is_normalised() {
    // priority.rst: health {20, 30} becomes a load of {40 %, 60 %}. Health is given as it is: no overprovisioning.
    let config = Config { overprovisioning_percent: 100, ..CONFIG };
    agrees(&plan(&levels(&[20, 30]), &config), &[40, 60], &"20, 30");
}

#[test]
fn levels_panic_as_in_envoys_tables() {
    // panic_threshold.rst: (healthy, in panic). Panic is disregarded while total health is normalised to 100 %. Two rows of
    // its second table give loads that contradict priority.rst (50/60 and 25/100); only their panic is taken from there.
    let table = [
        ([72, 100], [false, false]),
        ([50, 100], [false, false]),
        ([25, 100], [false, false]),
        ([0, 100], [false, false]),
        ([72, 72], [false, false]),
        ([71, 71], [false, false]),
        ([50, 60], [false, false]),
        ([25, 25], [true, true]),
        ([5, 65], [true, false]),
    ];
    for (healthy, panics) in table {
        let covered = plan(&levels(&healthy), &CONFIG).covered;
        let verdict = |healthy| {
            Panic::new(panic::Config::default()).unwrap().observe(healthy, 100, covered).panicking()
        };
        assert_eq!(healthy.map(verdict), panics, "{healthy:?}");
    }
    agrees(&plan(&levels(&[5, 65]), &CONFIG), &[7, 93], &"5, 65");
}

#[test]
fn locality_weights_are_effective_as_in_envoys_table() {
    // locality_weight.rst: X of weight 1, Y of weight 2 and healthy.
    let config = Config { policy: Policy::Ignore, ..CONFIG };
    let table =
        [(100, [33, 67]), (70, [33, 67]), (69, [32, 68]), (50, [26, 74]), (25, [15, 85]), (0, [0, 100])];
    for (healthy, percents) in table {
        let zone =
            |healthy, capacity| Zone { weight: 100, healthy, capacity: Some(capacity), ..Zone::default() };
        agrees(&plan(&[zone(healthy, 1.0), zone(100, 2.0)], &config), &percents, &healthy);
    }
}

#[test]
fn zone_aware_routing_is_envoys_when_shares_of_hosts_stand_for_demand_and_capacity() {
    // Originating 40/40/20, upstream 25/50/25: of zone 0, 62.5 % stay (25/40), and what leaves goes by residual capacity,
    // 0/10/5. Zones whose upstream share is the larger keep everything.
    let zone =
        |demand, hosts: u64| Zone { weight: hosts, healthy: hosts, demand: Some(demand), ..Zone::default() };
    let plan = plan(&[zone(40.0, 25), zone(40.0, 50), zone(20.0, 25)], &CONFIG);
    assert_eq!(plan.row(0), [WHOLE * 5 / 8, WHOLE / 4, WHOLE / 8]);
    assert_eq!((plan.row(1), plan.row(2)), (&[0, WHOLE, 0][..], &[0, 0, WHOLE][..]));
    assert_eq!(plan.reason(0), Reason::Overloaded);
    assert!(plan.covered);
}

#[test]
fn a_zone_with_a_fifth_of_the_clients_and_a_tenth_of_the_hosts_keeps_half() {
    // The other example of the same comment: local 20 %, upstream 10 %, so 50 % go directly.
    let zone =
        |demand, hosts| Zone { weight: hosts, healthy: hosts, demand: Some(demand), ..Zone::default() };
    assert_eq!(plan(&[zone(20.0, 10), zone(80.0, 90)], &CONFIG).row(0), [WHOLE / 2, WHOLE / 2]);
}
