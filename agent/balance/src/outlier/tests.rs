// SPDX-License-Identifier: Apache-2.0
//! The life of an endpoint under outlier detection, A50's rules by hand, and the cap as a law.

use super::*;
use crate::rng::SplitMix64;
use proptest::prelude::*;
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

/// A detector with a generator, for endpoints 0 to n - 1.
struct Rig {
    detector: Detector<u32>,
    rng: SplitMix64,
}

impl Rig {
    fn new(endpoints: u32, config: Config) -> Self {
        let mut detector = Detector::new(config).unwrap();
        assert!(detector.set_endpoints(0..endpoints).is_empty());
        Self { detector, rng: SplitMix64::new(50) }
    }

    /// Without jitter and statistics: five failures, back-off from 1 s to 60 s.
    fn breaker(endpoints: u32) -> Self {
        let consecutive = Some(Consecutive { jitter_percent: 0, ..Consecutive::default() });
        let config =
            Config { success_rate: None, failure_percentage: None, consecutive, ..Config::default() };
        Self::new(endpoints, Config { max_ejection_percent: 50, ..config })
    }

    /// A50 alone.
    fn statistics(endpoints: u32) -> Self {
        Self::new(endpoints, Config { consecutive: None, ..Config::default() })
    }

    fn request(&mut self, id: u32, outcome: Outcome, now: Duration) -> Option<Change<u32>> {
        let ticket = self.detector.admit(id, now);
        self.detector.record(id, ticket, outcome, now, &mut self.rng)
    }

    fn requests(&mut self, id: u32, outcome: Outcome, times: u32, now: Duration) -> Vec<Change<u32>> {
        (0..times).filter_map(|_| self.request(id, outcome, now)).collect()
    }

    fn sweep(&mut self, now: Duration) -> Vec<Change<u32>> {
        self.detector.sweep(now, &mut self.rng)
    }
}

fn ejected_until(changes: &[Change<u32>]) -> Duration {
    match changes {
        [Change { event: Event::Ejected { until, .. }, .. }] => *until,
        other => panic!("not one ejection: {other:?}"),
    }
}

// === Failures in a row ===

#[test]
fn five_failures_in_a_row_put_an_endpoint_out_at_once_and_four_do_not() {
    let mut rig = Rig::breaker(4);
    assert!(rig.requests(0, Outcome::Failure, 4, S(1)).is_empty());
    assert!(rig.request(0, Outcome::Success, S(1)).is_none());
    assert!(rig.requests(0, Outcome::Failure, 4, S(1)).is_empty());
    let event = rig.request(0, Outcome::Failure, S(1)).unwrap().event;
    assert_eq!(event, Event::Ejected { cause: Cause::Consecutive { failures: 5 }, until: S(2) });
    assert!(!rig.detector.available(0, S(1)) && rig.detector.available(1, S(1)));
}

#[test]
fn after_the_back_off_one_request_is_let_through_and_its_success_brings_the_endpoint_back() {
    let mut rig = Rig::breaker(4);
    rig.requests(0, Outcome::Failure, 5, S(0));
    assert!(!rig.detector.available(0, MS(999)));
    assert_eq!(rig.detector.state(0, S(1)), State::HalfOpen { probing: false });
    let ticket = rig.detector.admit(0, S(1));
    assert!(ticket.is_probe() && !rig.detector.available(0, S(1)));
    assert!(!rig.detector.admit(0, S(1)).is_probe());
    let change = rig.detector.record(0, ticket, Outcome::Success, S(2), &mut rig.rng).unwrap();
    assert_eq!(change.event, Event::Restored(Restored::ProbeSucceeded));
    assert_eq!((rig.detector.state(0, S(2)), rig.detector.out()), (State::Healthy, 0));
    assert!(rig.requests(0, Outcome::Failure, 4, S(2)).is_empty(), "it starts from nothing");
}

#[test]
fn each_failed_probe_doubles_the_back_off_up_to_its_bound() {
    let mut rig = Rig::breaker(4);
    let (mut now, mut waits) = (ejected_until(&rig.requests(0, Outcome::Failure, 5, S(0))), vec![]);
    for _ in 0..40 {
        let until = ejected_until(&rig.requests(0, Outcome::Failure, 1, now));
        waits.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(waits[..7], [2, 4, 8, 16, 32, 60, 60]);
    assert!(waits[7..].iter().all(|w| *w == 60));
}

#[test]
fn an_endpoint_that_stays_well_is_forgiven_one_doubling_per_interval() {
    let mut rig = Rig::breaker(4);
    rig.requests(0, Outcome::Failure, 5, S(0));
    rig.request(0, Outcome::Failure, S(1));
    rig.request(0, Outcome::Success, S(10));
    assert_eq!(ejected_until(&rig.requests(0, Outcome::Failure, 5, S(11))), S(15));
    rig.request(0, Outcome::Success, S(15));
    (0..3).for_each(|i| assert!(rig.sweep(S(20 + i)).is_empty()));
    assert_eq!(ejected_until(&rig.requests(0, Outcome::Failure, 5, S(30))), S(31));
}

#[test]
fn a_probe_without_an_outcome_is_given_up_and_its_late_answer_counts_for_nothing() {
    let mut rig = Rig::breaker(4);
    rig.requests(0, Outcome::Failure, 5, S(0));
    let lost = rig.detector.admit(0, S(1));
    assert!(!rig.detector.available(0, MS(10_999)) && rig.detector.available(0, S(11)));
    let second = rig.detector.admit(0, S(11));
    assert!(lost.is_probe() && second.is_probe());
    assert!(rig.detector.record(0, lost, Outcome::Success, S(12), &mut rig.rng).is_none());
    assert_eq!(rig.detector.state(0, S(12)), State::HalfOpen { probing: true });
}

#[test]
fn a_cancelled_probe_frees_its_place_at_once() {
    let mut rig = Rig::breaker(4);
    rig.requests(0, Outcome::Failure, 5, S(0));
    assert!(rig.request(0, Outcome::Unknown, S(1)).is_none());
    assert!(rig.detector.available(0, S(1)));
}

#[test]
fn late_failures_of_before_an_ejection_do_not_eject_again() {
    let mut rig = Rig::breaker(4);
    let old: Vec<Ticket> = (0..20).map(|_| rig.detector.admit(0, S(0))).collect();
    rig.requests(0, Outcome::Failure, 5, S(0));
    rig.request(0, Outcome::Success, S(1));
    for ticket in old {
        assert!(rig.detector.record(0, ticket, Outcome::Failure, S(2), &mut rig.rng).is_none());
    }
    assert_eq!(rig.detector.state(0, S(2)), State::Healthy);
}

#[test]
fn what_panic_sends_to_an_endpoint_that_is_out_changes_nothing() {
    let mut rig = Rig::breaker(4);
    rig.requests(0, Outcome::Failure, 5, MS(0));
    assert!(rig.requests(0, Outcome::Failure, 50, MS(500)).is_empty());
    assert!(rig.requests(0, Outcome::Success, 50, MS(500)).is_empty());
    assert!(!rig.detector.available(0, MS(999)) && rig.detector.available(0, S(1)));
}

#[test]
fn jitter_lengthens_a_back_off_by_at_most_its_part_and_not_always_alike() {
    let config = Config { max_ejection_percent: 100, ..Config::default() };
    let mut rig = Rig::new(50, config);
    let mut waits: Vec<Duration> =
        (0..50).map(|id| ejected_until(&rig.requests(id, Outcome::Failure, 5, S(0)))).collect();
    assert!(waits.iter().all(|w| (S(1)..=MS(1_500)).contains(w)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 40);
}

// === A50 ===

/// One interval in which endpoint 0 fails `percent` of 100 requests and all others none.
fn interval(rig: &mut Rig, percent: u32, now: Duration) -> Vec<Change<u32>> {
    for id in 0..rig.detector.len() as u32 {
        let failures = if id == 0 { percent } else { 0 };
        rig.requests(id, Outcome::Failure, failures, now);
        rig.requests(id, Outcome::Success, 100 - failures, now);
    }
    rig.sweep(now)
}

#[test]
fn a_sweep_puts_out_for_base_times_how_often_and_a_later_sweep_lets_back_in() {
    let mut rig = Rig::statistics(10);
    assert_eq!(ejected_until(&interval(&mut rig, 100, S(10))), S(40));
    assert!(rig.sweep(S(40)).is_empty(), "only after the time");
    let back = rig.sweep(S(50));
    assert_eq!(back, [Change { id: 0, event: Event::Restored(Restored::TimeServed) }]);
    // Again at once: 2 × 30 s. After three clean intervals: 1 × 30 s.
    assert_eq!(ejected_until(&interval(&mut rig, 100, S(60))), S(120));
    rig.sweep(S(130));
    (14..17).for_each(|i| assert!(interval(&mut rig, 0, S(i * 10)).is_empty()));
    assert_eq!(ejected_until(&interval(&mut rig, 100, S(170))), S(200));
}

#[test]
fn late_failures_of_before_a_sweeps_ejection_count_for_nothing_afterwards() {
    let mut rig = Rig::new(10, Config::default());
    let old: Vec<Ticket> = (0..20).map(|_| rig.detector.admit(0, S(0))).collect();
    let mixed = [Outcome::Failure, Outcome::Failure, Outcome::Success];
    (0..300).for_each(|i| assert!(rig.request(0, mixed[i % 3], S(1)).is_none()));
    (1..10).for_each(|id| assert!(rig.requests(id, Outcome::Success, 100, S(1)).is_empty()));
    assert_eq!(ejected_until(&rig.sweep(S(10))), S(40));
    assert_eq!(rig.sweep(S(50)).len(), 1);
    for ticket in old {
        assert!(rig.detector.record(0, ticket, Outcome::Failure, S(51), &mut rig.rng).is_none());
    }
    assert_eq!(rig.detector.state(0, S(51)), State::Healthy);
}

#[test]
fn an_ejection_is_never_longer_than_the_longest() {
    let mut rig = Rig::statistics(10);
    let mut now = S(10);
    for _ in 0..20 {
        let until = ejected_until(&interval(&mut rig, 100, now));
        assert!(until - now <= S(300));
        now = until + S(1);
        rig.sweep(now);
    }
    let endless = Config { max_ejection_time: S(1), base_ejection_time: S(60), ..Config::default() };
    let mut rig = Rig::new(10, Config { consecutive: None, ..endless });
    assert_eq!(ejected_until(&interval(&mut rig, 100, S(0))), S(60), "the base, if that is larger");
}

#[test]
fn causes_carry_the_figures() {
    let mut rig = Rig::statistics(10);
    let changes = interval(&mut rig, 60, S(10));
    let [Change { id: 0, event: Event::Ejected { cause: Cause::SuccessRate { rate, threshold }, .. } }] =
        changes[..]
    else {
        panic!("{changes:?}")
    };
    // By hand: mean 0.94, deviation 0.18, threshold 0.94 - 1.9 × 0.18 = 0.598.
    assert!(rate == 0.4 && (threshold - 0.598).abs() < 1e-9);
}

#[test]
fn enforcement_is_a_chance_and_zero_of_it_only_tells() {
    let never = SuccessRate { enforcement_percentage: 0, ..SuccessRate::default() };
    let config = Config {
        success_rate: Some(never),
        failure_percentage: None,
        consecutive: None,
        ..Config::default()
    };
    let mut rig = Rig::new(10, config.clone());
    let changes = interval(&mut rig, 100, S(10));
    assert!(matches!(
        changes[..],
        [Change { event: Event::Spared { because: Spared::NotEnforced, .. }, .. }]
    ));
    assert_eq!(rig.detector.out(), 0);

    let half = Some(SuccessRate { enforcement_percentage: 50, ..SuccessRate::default() });
    let mut rig = Rig::new(10, Config { success_rate: half, ..config });
    let mut ejections = 0;
    for i in 0..400 {
        ejections += rig.detector.out();
        rig.detector.set_endpoints(1..10);
        rig.detector.set_endpoints(0..10);
        interval(&mut rig, 100, S(i * 10));
    }
    assert!((150..250).contains(&ejections), "{ejections}");
}

#[test]
fn where_the_cap_does_not_allow_all_the_worst_go() {
    let mut rig = Rig::statistics(20);
    for id in 0..20 {
        let failures = [0, 0, 0, 90, 99, 95].get(id as usize).copied().unwrap_or(0);
        rig.requests(id, Outcome::Failure, failures, S(1));
        rig.requests(id, Outcome::Success, 100 - failures, S(1));
    }
    let changes = rig.sweep(S(10));
    let out: Vec<u32> =
        changes.iter().filter(|c| matches!(c.event, Event::Ejected { .. })).map(|c| c.id).collect();
    assert_eq!(out, [4, 5]);
    assert!(
        changes.iter().any(|c| c.id == 3 && matches!(c.event, Event::Spared { because: Spared::Cap, .. }))
    );
}

// === Lists ===

#[test]
fn the_state_belongs_to_the_endpoint_and_not_to_its_place_in_the_list() {
    let mut rig = Rig::breaker(6);
    rig.requests(3, Outcome::Failure, 5, S(0));
    assert!(rig.detector.set_endpoints([9, 3, 8, 7, 3]).is_empty());
    assert_eq!((rig.detector.len(), rig.detector.out()), (4, 1));
    assert!(!rig.detector.available(3, MS(1)) && rig.detector.available(9, MS(1)));
}

#[test]
fn who_leaves_the_list_is_forgotten_and_its_tickets_are_void() {
    let mut rig = Rig::breaker(4);
    let old: Vec<Ticket> = (0..5).map(|_| rig.detector.admit(0, S(0))).collect();
    rig.detector.set_endpoints(1..4);
    rig.detector.set_endpoints(0..4);
    for ticket in old {
        assert!(rig.detector.record(0, ticket, Outcome::Failure, S(0), &mut rig.rng).is_none());
    }
    assert_eq!(rig.detector.state(0, S(0)), State::Healthy);
}

#[test]
fn a_list_that_shrinks_lets_back_in_what_it_cannot_do_without() {
    let mut rig = Rig::breaker(8);
    (0..4).for_each(|id| drop(rig.requests(id, Outcome::Failure, 5, S(u64::from(id)))));
    assert_eq!(rig.detector.out(), 4);
    let changes = rig.detector.set_endpoints([0, 1, 2, 7]);
    assert_eq!(changes, [Change { id: 0, event: Event::Restored(Restored::ListShrank) }]);
    assert_eq!(rig.detector.out(), 2);
}

#[test]
fn an_endpoint_alone_is_never_out_and_of_two_one_may_be() {
    let mut rig = Rig::breaker(1);
    let changes = rig.requests(0, Outcome::Failure, 50, S(0));
    assert!(
        matches!(changes[..], [Change { event: Event::Spared { because: Spared::Cap, .. }, .. }]),
        "told once"
    );
    let mut rig = Rig::new(2, Config { max_ejection_percent: 0, ..Config::default() });
    rig.requests(0, Outcome::Failure, 5, S(0));
    rig.requests(1, Outcome::Failure, 5, S(0));
    assert_eq!((rig.detector.out(), rig.detector.cap()), (1, 1));
}

#[test]
fn no_endpoint_and_unknown_endpoints_change_nothing() {
    let mut rig = Rig::new(0, Config::default());
    assert!(rig.requests(7, Outcome::Failure, 50, S(0)).is_empty());
    assert!(rig.sweep(S(10)).is_empty() && rig.detector.is_empty());
    assert_eq!((rig.detector.state(7, S(0)), rig.detector.cap()), (State::Healthy, 0));
}

#[test]
fn when_all_endpoints_fail_the_cap_keeps_most_of_them_in() {
    let mut rig = Rig::new(30, Config::default());
    (0..30).for_each(|id| drop(rig.requests(id, Outcome::Failure, 100, S(1))));
    rig.sweep(S(10));
    assert_eq!(rig.detector.out(), 3);
}

#[test]
fn time_at_the_end_of_its_range_does_not_overflow() {
    let mut rig = Rig::breaker(4);
    let until = ejected_until(&rig.requests(0, Outcome::Failure, 5, Duration::MAX));
    assert_eq!(until, Duration::MAX);
}

#[test]
fn bad_fields_are_named() {
    let field = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        Detector::<u32>::new(config).unwrap_err().field
    };
    assert_eq!(field(&|c| c.interval = Duration::ZERO), "interval");
    assert_eq!(field(&|c| c.base_ejection_time = Duration::ZERO), "base_ejection_time");
    assert_eq!(field(&|c| c.max_ejection_percent = 101), "max_ejection_percent");
    let rate = SuccessRate::default();
    let wrong = SuccessRate { enforcement_percentage: 101, ..rate };
    assert_eq!(field(&|c| c.success_rate = Some(wrong)), "success_rate.enforcement_percentage");
    let wrong = SuccessRate { request_volume: 0, ..rate };
    assert_eq!(field(&|c| c.success_rate = Some(wrong)), "success_rate.request_volume");
    let wrong = FailurePercentage { threshold: 101, ..FailurePercentage::default() };
    assert_eq!(field(&|c| c.failure_percentage = Some(wrong)), "failure_percentage.threshold");
    let row = Consecutive::default();
    for (wrong, name) in [
        (Consecutive { failures: 0, ..row }, "consecutive.failures"),
        (Consecutive { base_backoff: Duration::ZERO, ..row }, "consecutive.base_backoff"),
        (Consecutive { max_backoff: MS(1), ..row }, "consecutive.max_backoff"),
        (Consecutive { jitter_percent: 101, ..row }, "consecutive.jitter_percent"),
        (Consecutive { probe_timeout: Duration::ZERO, ..row }, "consecutive.probe_timeout"),
    ] {
        assert_eq!(field(&|c| c.consecutive = Some(wrong)), name);
    }
}

// === Laws ===

#[derive(Clone, Debug)]
enum Step {
    Requests { id: u32, outcome: Outcome, times: u32 },
    Sweep,
    List { from: u32, count: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let outcome =
        prop_oneof![3 => Just(Outcome::Failure), 2 => Just(Outcome::Success), 1 => Just(Outcome::Unknown)];
    prop_oneof![
        8 => (0u32..30, outcome, 1u32..120).prop_map(|(id, outcome, times)| Step::Requests { id, outcome, times }),
        2 => Just(Step::Sweep),
        1 => (0u32..10, 0u32..25).prop_map(|(from, count)| Step::List { from, count }),
    ]
}

/// All changes of a run, checking after each step that the cap holds and that the count is true.
fn run(percent: u32, seed: u64, steps: &[(Step, u64)]) -> Result<Vec<Change<u32>>, TestCaseError> {
    let config = Config { max_ejection_percent: percent, ..Config::default() };
    let mut rig = Rig::new(20, config);
    rig.rng = SplitMix64::new(seed);
    let (mut now, mut changes) = (Duration::ZERO, vec![]);
    for (step, wait) in steps {
        now += MS(*wait);
        changes.extend(match step {
            Step::Requests { id, outcome, times } => rig.requests(*id, *outcome, *times, now),
            Step::Sweep => rig.sweep(now),
            Step::List { from, count } => rig.detector.set_endpoints(*from..from + count),
        });
        let detector = &rig.detector;
        let n = detector.len();
        let out = (0..40).filter(|id| detector.state(*id, now) != State::Healthy).count();
        prop_assert_eq!(out, detector.out());
        prop_assert!(out <= (n * percent as usize / 100).max(1));
        prop_assert!(n != 1 || out == 0);
    }
    Ok(changes)
}

proptest! {
    #[test]
    fn never_are_more_out_than_the_cap_allows(
        percent in 0u32..=100, seed in any::<u64>(), steps in prop::collection::vec((step(), 0u64..5_000), 1..80)
    ) {
        run(percent, seed, &steps)?;
    }

    #[test]
    fn the_same_calls_give_the_same_changes(
        seed in any::<u64>(), steps in prop::collection::vec((step(), 0u64..5_000), 1..40)
    ) {
        prop_assert_eq!(run(30, seed, &steps)?, run(30, seed, &steps)?);
    }

    #[test]
    fn at_most_one_probe_is_in_flight(waits in prop::collection::vec(0u64..3_000, 1..60)) {
        let mut rig = Rig::breaker(4);
        rig.requests(0, Outcome::Failure, 5, S(0));
        let (mut now, mut given_at) = (S(0), None);
        for wait in waits {
            now += MS(wait);
            if rig.detector.admit(0, now).is_probe() {
                // The one before was given up.
                prop_assert!(given_at.is_none_or(|at| now - at >= S(10)));
                given_at = Some(now);
            }
        }
    }
}
