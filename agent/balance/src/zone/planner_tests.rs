// SPDX-License-Identifier: Apache-2.0
//! Hysteresis: harm is answered at once, improvement waits.

use super::*;
use crate::zone::Reason;
use proptest::prelude::*;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Two zones of capacity 100, filled to the brim, with these demands.
fn zones(demands: [f64; 2]) -> Vec<Zone> {
    let zone =
        |demand| Zone { weight: 10, healthy: 10, demand: Some(demand), capacity: Some(100.0), region: 0 };
    demands.map(zone).into()
}

fn planner() -> Planner {
    Planner::new(Config { fill_percent: 100, ..Config::default() }, Steadiness::default()).unwrap()
}

#[test]
fn overload_beyond_the_band_is_answered_at_once() {
    let mut planner = planner();
    assert_eq!(planner.update(&zones([90.0, 20.0]), seconds(0)).why, Why::First);
    let decision = planner.update(&zones([130.0, 20.0]), seconds(1));
    assert_eq!((decision.why, decision.plan.reason(0)), (Why::LeftBand, Reason::Overloaded));
    assert_eq!(decision.plan.spill(0), (WHOLE * 30 + 65) / 130);
}

#[test]
fn overload_within_the_band_waits_for_the_hold_time() {
    let mut planner = planner();
    planner.update(&zones([100.0, 20.0]), seconds(0));
    let held = planner.update(&zones([104.0, 20.0]), seconds(1));
    assert_eq!((held.why, held.plan.spill(0)), (Why::Held, 0));
    assert_eq!(planner.update(&zones([104.0, 20.0]), seconds(30)).why, Why::HoldOver);
}

#[test]
fn coming_home_waits_for_the_hold_time() {
    let mut planner = planner();
    planner.update(&zones([200.0, 0.0]), seconds(0));
    let held = planner.update(&zones([50.0, 0.0]), seconds(29));
    assert_eq!(
        (held.why, held.plan.spill(0), held.plan.reason(0)),
        (Why::Held, WHOLE / 2, Reason::Overloaded)
    );
    let home = planner.update(&zones([50.0, 0.0]), seconds(30));
    assert_eq!((home.why, home.plan.spill(0)), (Why::HoldOver, 0));
}

#[test]
fn a_demand_that_swings_around_the_limit_changes_the_plan_once_per_hold_time() {
    let (mut planner, mut adopted) = (planner(), 0);
    for second in 0..120 {
        let demand = if second % 2 == 0 { 80.0 } else { 120.0 };
        adopted += u32::from(planner.update(&zones([demand, 0.0]), seconds(second)).why.adopted());
    }
    // First plan, spill at second 1; then home at most every 30 s, and away again after each.
    assert!(adopted <= 2 + 2 * 4, "{adopted}");
}

#[test]
fn a_zone_that_is_lost_is_left_at_once_even_without_demand() {
    let mut planner = planner();
    planner.update(&zones([0.0, 0.0]), seconds(0));
    let mut lost = zones([0.0, 0.0]);
    lost[1].healthy = 0;
    let decision = planner.update(&lost, seconds(1));
    assert_eq!((decision.why, decision.plan.row(1)), (Why::Unserved, &[WHOLE, 0][..]));
    assert_eq!(planner.update(&zones([0.0, 0.0]), seconds(2)).why, Why::Held);
    assert_eq!(planner.update(&zones([0.0, 0.0]), seconds(31)).why, Why::HoldOver);
}

#[test]
fn a_remote_zone_that_shrinks_is_relieved_at_once() {
    let mut planner = planner();
    planner.update(&zones([180.0, 20.0]), seconds(0));
    let mut shrunk = zones([180.0, 20.0]);
    shrunk[1].healthy = 5;
    assert_eq!(planner.update(&shrunk, seconds(1)).why, Why::LeftBand);
}

#[test]
fn where_all_are_overloaded_anyway_a_plan_that_helps_little_waits() {
    let mut planner = planner();
    planner.update(&zones([200.0, 100.0]), seconds(0));
    assert_eq!(planner.update(&zones([204.0, 100.0]), seconds(1)).why, Why::Held);
    assert_eq!(planner.update(&zones([400.0, 100.0]), seconds(2)).why, Why::LeftBand);
}

#[test]
fn another_number_of_zones_is_another_plan() {
    let mut planner = planner();
    planner.update(&zones([1.0, 1.0]), seconds(0));
    assert_eq!(planner.update(&zones([1.0, 1.0])[..1], seconds(0)).why, Why::ZonesChanged);
    assert_eq!(planner.update(&[], seconds(0)).why, Why::ZonesChanged);
    assert_eq!(planner.update(&[], seconds(0)).why, Why::Same);
}

#[test]
fn a_kept_plan_tells_what_is_known_now() {
    let mut planner = planner();
    assert!(planner.update(&zones([100.0, 100.0]), seconds(0)).plan.covered);
    let now = planner.update(&zones([102.0, 100.0]), seconds(1));
    assert_eq!((now.why, now.plan.covered), (Why::Held, false));
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut planner = planner();
    planner.update(&zones([200.0, 0.0]), seconds(100));
    assert_eq!(planner.update(&zones([50.0, 0.0]), seconds(1)).why, Why::Held);
}

#[test]
fn bad_fields_are_named() {
    let field = |config, band_percent| {
        Planner::new(config, Steadiness { band_percent, hold: seconds(1) }).unwrap_err().field
    };
    let good = Config::default();
    assert_eq!(field(good, 101), "band_percent");
    assert_eq!(field(Config { fill_percent: 0, ..good }, 5), "fill_percent");
    assert_eq!(field(Config { headroom_percent: 99, ..good }, 5), "headroom_percent");
    assert_eq!(field(Config { overprovisioning_percent: 99, ..good }, 5), "overprovisioning_percent");
}

proptest! {
    #[test]
    fn what_is_kept_never_overloads_a_zone_beyond_the_band_that_the_best_plan_would_not(
        steps in prop::collection::vec((0.0f64..300.0, 0.0f64..300.0, 0u64..=10), 1..40)
    ) {
        let mut planner = planner();
        for (second, (a, b, healthy)) in steps.iter().enumerate() {
            let mut zones = zones([*a, *b]);
            zones[1].healthy = *healthy;
            let config = Config { fill_percent: 100, ..Config::default() };
            let known = Knowledge::of(&zones, &config);
            let best = loads(&split::plan(&zones, &config), &known.demand);
            let kept = loads(planner.update(&zones, seconds(second as u64)).plan, &known.demand);
            for ((kept, best), limit) in kept.iter().zip(&best).zip(&known.limit) {
                prop_assert!(*kept <= 1.05 * limit.max(*best) + 1e-6);
            }
        }
    }
}
