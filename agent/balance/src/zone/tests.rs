// SPDX-License-Identifier: Apache-2.0
//! Laws of the split, its reasons, the small zone that must not drown, and bad reports.

use super::*;
use proptest::prelude::*;

const FULL: Config = Config {
    policy: Policy::Prefer,
    fill_percent: 100,
    headroom_percent: 125,
    overprovisioning_percent: 100,
};

fn zone(weight: u64, healthy: u64, demand: f64, capacity: f64) -> Zone {
    Zone { weight, healthy, region: 0, demand: Some(demand), capacity: Some(capacity) }
}

fn counts(weights: &[u64]) -> Vec<Zone> {
    weights.iter().map(|w| Zone { weight: *w, healthy: *w, ..Zone::default() }).collect()
}

fn with(policy: Policy) -> Config {
    Config { policy, ..FULL }
}

/// What zone `j` is given, in units of demand.
fn load(plan: &Plan, zones: &[Zone], j: usize) -> f64 {
    let sent = |(i, z): (usize, &Zone)| z.demand.unwrap() * f64::from(plan.row(i)[j]) / f64::from(WHOLE);
    zones.iter().enumerate().map(sent).sum()
}

// === What a plan does ===

#[test]
fn traffic_is_local_up_to_the_limit_and_only_the_excess_leaves() {
    for (demand, local, reason) in
        [(70.0, 1.0, Reason::Local), (100.0, 1.0, Reason::Local), (130.0, 100.0 / 130.0, Reason::Overloaded)]
    {
        let plan = plan(&[zone(10, 10, demand, 100.0), zone(10, 10, 10.0, 100.0)], &FULL);
        assert_eq!(plan.row(0)[0], (local * f64::from(WHOLE)).round() as u32);
        assert_eq!(plan.reason(0), reason);
        assert_eq!(plan.reason(1), Reason::Local);
    }
}

#[test]
fn a_measured_capacity_is_filled_to_the_configured_part() {
    let config = Config { fill_percent: 80, ..FULL };
    let plan = plan(&[zone(10, 10, 100.0, 100.0), zone(10, 10, 0.0, 100.0)], &config);
    assert_eq!(plan.row(0)[0], (0.8 * f64::from(WHOLE)).round() as u32);
}

#[test]
fn excess_goes_by_what_each_zone_has_to_spare() {
    // Spare: 30 and 60; 45 leave.
    let zones = [zone(1, 1, 145.0, 100.0), zone(1, 1, 70.0, 100.0), zone(1, 1, 40.0, 100.0)];
    let plan = plan(&zones, &FULL);
    assert!((load(&plan, &zones, 1) - 85.0).abs() < 0.01 && (load(&plan, &zones, 2) - 70.0).abs() < 0.01);
}

#[test]
fn the_own_region_is_filled_before_others() {
    let mut zones = vec![zone(1, 1, 150.0, 100.0), zone(1, 1, 80.0, 100.0), zone(1, 1, 0.0, 100.0)];
    zones[2].region = 1;
    let plan = plan(&zones, &FULL);
    assert!((load(&plan, &zones, 1) - 100.0).abs() < 0.01 && (load(&plan, &zones, 2) - 30.0).abs() < 0.01);
}

#[test]
fn when_everything_is_overloaded_all_zones_are_overloaded_alike() {
    let zones = [zone(1, 1, 500.0, 100.0), zone(1, 1, 10.0, 200.0)];
    let plan = plan(&zones, &FULL);
    assert!((load(&plan, &zones, 0) - 170.0).abs() < 0.01 && (load(&plan, &zones, 1) - 340.0).abs() < 0.01);
    assert_eq!((plan.reason(0), plan.reason(1), plan.covered), (Reason::AllOverloaded, Reason::Local, false));
}

#[test]
fn a_zone_that_lost_endpoints_spills_what_they_carried_and_says_so() {
    let plan = plan(&[zone(10, 5, 80.0, 100.0), zone(10, 10, 0.0, 100.0)], &FULL);
    assert_eq!((plan.row(0)[0], plan.reason(0)), (WHOLE * 5 / 8, Reason::Degraded));
}

#[test]
fn a_zone_without_endpoints_and_a_zone_without_healthy_ones_send_everything_away() {
    let plan = plan(&[zone(0, 0, 10.0, 100.0), zone(10, 0, 10.0, 100.0), zone(10, 10, 10.0, 100.0)], &FULL);
    assert_eq!((plan.reason(0), plan.reason(1)), (Reason::NoLocalEndpoint, Reason::LocalDown));
    assert_eq!((plan.row(0), plan.row(1)), (&[0, 0, WHOLE][..], &[0, 0, WHOLE][..]));
}

#[test]
fn strict_stays_even_where_nobody_serves() {
    let plan = plan(&[zone(1, 1, 900.0, 1.0), zone(1, 0, 1.0, 1.0)], &with(Policy::Strict));
    assert_eq!((plan.row(0), plan.row(1)), (&[WHOLE, 0][..], &[0, WHOLE][..]));
    assert_eq!((plan.reason(0), plan.reason(1)), (Reason::Strict, Reason::StrictUnserved));
}

#[test]
fn ignore_goes_by_capacity_from_everywhere() {
    let plan = plan(&[zone(1, 1, 1.0, 100.0), zone(1, 1, 500.0, 300.0)], &with(Policy::Ignore));
    assert_eq!(
        (plan.row(0), plan.row(1)),
        (&[WHOLE / 4, WHOLE * 3 / 4][..], &[WHOLE / 4, WHOLE * 3 / 4][..])
    );
    assert_eq!(plan.reason(0), Reason::Ignored);
}

// === With less knowledge ===

#[test]
fn a_small_zone_with_much_demand_does_not_drown_its_own_endpoints() {
    // The documented fault of preferring a zone without looking at its size: one endpoint here, ten there, clients alike.
    // Kept local, the one would get ten times what the others get.
    let zones = [
        Zone { weight: 1, healthy: 1, demand: Some(500.0), ..Zone::default() },
        Zone { weight: 10, healthy: 10, demand: Some(500.0), ..Zone::default() },
    ];
    let fair = 1_000.0 / 11.0;
    let plan = plan(&zones, &FULL);
    assert!(load(&plan, &zones, 0) <= 1.25 * fair + 0.01);
    assert_eq!((plan.reason(0), plan.reason(1)), (Reason::Overloaded, Reason::Local));
    // The same without any report: zones are taken to send the same.
    assert_eq!(super::plan(&counts(&[1, 10]), &FULL).row(0), plan.row(0));
}

#[test]
fn zones_that_differ_by_less_than_the_headroom_stay_local_without_reports() {
    let plan = plan(&counts(&[4, 3, 3]), &FULL);
    assert!((0..3).all(|i| plan.spill(i) == 0 && plan.reason(i) == Reason::Local));
    assert!(!plan.demand_known && !plan.capacity_known && plan.covered);
}

#[test]
fn a_zone_without_a_report_is_taken_to_be_like_the_others() {
    let mut zones = vec![zone(10, 10, 100.0, 200.0), zone(10, 10, 100.0, 200.0), zone(5, 5, 0.0, 0.0)];
    zones[2].demand = None;
    zones[2].capacity = None;
    // Half the weight, so half the capacity: 100, which is just what it is taken to send.
    let plan = plan(&zones, &FULL);
    assert_eq!((plan.spill(2), plan.reason(2)), (0, Reason::Local));
    zones[2].weight = 4;
    zones[2].healthy = 4;
    assert_eq!(super::plan(&zones, &FULL).row(2)[2], (0.8 * f64::from(WHOLE)).round() as u32);
}

// === Bad input ===

#[test]
fn no_zone_no_endpoint_and_nothing_healthy_have_a_plan() {
    for policy in [Policy::Prefer, Policy::Ignore] {
        let config = with(policy);
        assert_eq!(plan(&[], &config).zones(), 0);
        let nobody = plan(&counts(&[0, 0]), &config);
        assert_eq!(
            (nobody.row(1), nobody.reason(1), nobody.covered),
            (&[0, WHOLE][..], Reason::NoEndpoint, false)
        );
        let sick = plan(&[zone(3, 0, 1.0, 1.0), zone(1, 0, 1.0, 1.0)], &config);
        assert_eq!((sick.reason(0), sick.covered), (Reason::NoneHealthy, false));
    }
    assert_eq!(plan(&counts(&[0]), &with(Policy::Strict)).row(0), [WHOLE]);
}

#[test]
fn one_zone_keeps_everything_whatever_it_is_told() {
    for demand in [0.0, 1e300, f64::NAN, f64::INFINITY] {
        assert_eq!(plan(&[zone(1, 1, demand, 1.0)], &FULL).row(0), [WHOLE]);
    }
}

#[test]
fn a_report_that_is_no_number_is_no_report() {
    let good = [zone(2, 2, 10.0, 5.0), zone(1, 1, 10.0, 9.0)];
    let unknown = |i: usize| {
        let mut zones = good;
        zones[i].demand = None;
        zones[i].capacity = None;
        plan(&zones, &FULL)
    };
    for bad in [f64::NAN, -1.0, f64::NEG_INFINITY] {
        for i in 0..2 {
            let mut zones = good;
            zones[i].demand = Some(bad);
            zones[i].capacity = Some(bad);
            assert_eq!(plan(&zones, &FULL), unknown(i), "{bad}");
        }
    }
}

#[test]
fn infinite_demand_spills_and_infinite_capacity_takes_it() {
    let plan = plan(&[zone(1, 1, f64::INFINITY, 1.0), zone(1, 1, 0.0, f64::INFINITY)], &FULL);
    assert_eq!(plan.row(0), [0, WHOLE]);
}

// === Laws ===

/// Zones in some region, with reports or without. Healthy is at most weight.
fn any_zone() -> impl Strategy<Value = Zone> {
    let number = || {
        prop_oneof![
            6 => (0.0f64..1_000.0).prop_map(Some),
            2 => Just(None),
            1 => prop_oneof![Just(0.0), Just(f64::NAN), Just(-3.0), Just(f64::INFINITY), Just(f64::MIN_POSITIVE), Just(1e308)]
                .prop_map(Some)
        ]
    };
    let weight = prop_oneof![4 => 0u64..20, 1 => Just(u64::MAX)];
    (weight, 0u64..20, 0u32..3, number(), number()).prop_map(|(weight, healthy, region, demand, capacity)| {
        Zone { weight, healthy, region, demand, capacity }
    })
}

/// Zones that report plain numbers and have endpoints.
fn reporting_zone() -> impl Strategy<Value = Zone> {
    (1u64..=10, 0u32..3, 0.0f64..1_000.0, 1.0f64..1_000.0).prop_map(|(healthy, region, demand, capacity)| {
        Zone { weight: 10, healthy, region, demand: Some(demand), capacity: Some(capacity) }
    })
}

fn any_config() -> impl Strategy<Value = Config> {
    let policy = prop_oneof![Just(Policy::Prefer), Just(Policy::Strict), Just(Policy::Ignore)];
    (policy, 1u32..=100, 100u32..300, 100u32..300).prop_map(
        |(policy, fill_percent, headroom_percent, overprovisioning_percent)| Config {
            policy,
            fill_percent,
            headroom_percent,
            overprovisioning_percent,
        },
    )
}

fn limit(zone: &Zone) -> f64 {
    zone.capacity.unwrap() * zone.healthy as f64 / zone.weight as f64
}

proptest! {
    #[test]
    fn every_row_sums_to_the_whole_whatever_is_reported(
        zones in prop::collection::vec(any_zone(), 0..8), config in any_config()
    ) {
        let plan = plan(&zones, &config);
        for i in 0..zones.len() {
            prop_assert_eq!(plan.row(i).iter().sum::<u32>(), WHOLE);
        }
    }

    #[test]
    fn nobody_sends_to_a_zone_where_nobody_serves_while_somebody_serves(
        zones in prop::collection::vec(any_zone(), 1..8), ignore in any::<bool>()
    ) {
        prop_assume!(zones.iter().any(|z| z.weight > 0 && z.healthy > 0));
        let plan = plan(&zones, &with(if ignore { Policy::Ignore } else { Policy::Prefer }));
        for (j, zone) in zones.iter().enumerate().filter(|(_, z)| z.weight == 0 || z.healthy == 0) {
            prop_assert!((0..zones.len()).all(|i| plan.row(i)[j] == 0), "{zone:?}");
        }
    }

    #[test]
    fn a_zone_is_given_no_more_than_its_limit_while_there_is_room(
        zones in prop::collection::vec(reporting_zone(), 1..8), load_of_all in 0.0f64..=1.0
    ) {
        let room: f64 = zones.iter().map(limit).sum();
        let total: f64 = zones.iter().map(|z| z.demand.unwrap()).sum();
        let scale = load_of_all * room / total.max(1.0);
        let zones: Vec<Zone> = zones.iter().map(|z| Zone { demand: z.demand.map(|d| d * scale), ..*z }).collect();
        let plan = plan(&zones, &FULL);
        prop_assert!(plan.covered);
        let unit = room / f64::from(WHOLE);
        for (j, zone) in zones.iter().enumerate() {
            prop_assert!(load(&plan, &zones, j) <= limit(zone) + unit + 1e-9);
        }
    }

    #[test]
    fn nothing_leaves_a_zone_that_can_take_it(zones in prop::collection::vec(reporting_zone(), 1..8)) {
        let plan = plan(&zones, &FULL);
        for (i, zone) in zones.iter().enumerate().filter(|(_, z)| z.demand.unwrap() <= limit(z)) {
            prop_assert_eq!(plan.spill(i), 0, "{:?}", zone);
        }
    }

    #[test]
    fn when_nothing_is_spare_all_zones_are_loaded_alike(zones in prop::collection::vec(reporting_zone(), 1..8)) {
        let overloaded: Vec<Zone> =
            zones.iter().map(|z| Zone { demand: Some(limit(z) + z.demand.unwrap()), region: 0, ..*z }).collect();
        let plan = plan(&overloaded, &FULL);
        let total: f64 = overloaded.iter().map(|z| z.demand.unwrap()).sum();
        let room: f64 = overloaded.iter().map(limit).sum();
        for (j, zone) in overloaded.iter().enumerate() {
            let even = total * limit(zone) / room;
            prop_assert!((load(&plan, &overloaded, j) - even).abs() <= total / f64::from(WHOLE) + 1e-9);
        }
    }

    #[test]
    fn spill_is_monotone_in_overload(
        mut zones in prop::collection::vec(reporting_zone(), 1..8), steps in prop::collection::vec(0.0f64..500.0, 1..8)
    ) {
        let mut last = 0;
        for step in steps {
            zones[0].demand = zones[0].demand.map(|d| d + step);
            let spill = plan(&zones, &FULL).spill(0);
            // One unit of rounding.
            prop_assert!(spill + 1 >= last, "{spill} after {last} at {zones:?}");
            last = spill.max(last);
        }
    }

    #[test]
    fn strict_never_leaves(zones in prop::collection::vec(any_zone(), 1..8)) {
        let plan = plan(&zones, &with(Policy::Strict));
        prop_assert!((0..zones.len()).all(|i| plan.spill(i) == 0));
    }

    #[test]
    fn ignore_is_proportional_to_capacity(zones in prop::collection::vec(reporting_zone(), 1..8)) {
        let plan = plan(&zones, &with(Policy::Ignore));
        let room: f64 = zones.iter().map(limit).sum();
        for i in 0..zones.len() {
            for (share, zone) in plan.row(i).iter().zip(&zones) {
                prop_assert!((f64::from(*share) - limit(zone) / room * f64::from(WHOLE)).abs() <= 1.0);
            }
        }
    }

    #[test]
    fn the_unit_of_reports_does_not_matter(zones in prop::collection::vec(reporting_zone(), 1..8)) {
        let scaled: Vec<Zone> = zones
            .iter()
            .map(|z| Zone { demand: z.demand.map(|d| d * 1024.0), capacity: z.capacity.map(|c| c * 1024.0), ..*z })
            .collect();
        prop_assert_eq!(plan(&zones, &FULL), plan(&scaled, &FULL));
    }
}
