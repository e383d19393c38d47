// SPDX-License-Identifier: Apache-2.0
//! `peak-ewma` and `prequal`: what is measured decides, and the counter-examples that are known of them.

use std::time::Duration;

use super::{Loads, Probe, View, chi_square::follows, hits};
use crate::{
    latency,
    picker::{PeakEwma, Picker, Prequal},
    rng::{Rng as _, SplitMix64},
};

const MS: f64 = 1e6;

/// What the request does after it was sent to an endpoint.
type Serve = fn(endpoint: usize, request: u64) -> (Duration, bool);

/// Endpoints that are measured as an agent would measure them.
struct World {
    now: Duration,
    estimates: Vec<latency::PeakEwma>,
    in_flight: Vec<u64>,
    config: latency::Config,
}

impl View for World {
    fn in_flight(&self, endpoint: usize) -> u64 {
        self.in_flight[endpoint]
    }

    fn available(&self, _: usize) -> bool {
        true
    }

    fn latency(&self, endpoint: usize) -> Option<f64> {
        self.estimates[endpoint].estimate(self.now, &self.config)
    }
}

impl World {
    fn cold(count: usize) -> Self {
        Self {
            now: Duration::ZERO,
            estimates: vec![latency::PeakEwma::new(); count],
            in_flight: vec![0; count],
            config: latency::Config::default(),
        }
    }

    /// Sends a request every `gap` on the average, and tells how many each endpoint got and the most it had in flight.
    fn run(
        &mut self,
        picker: &dyn Picker,
        requests: u64,
        gap: Duration,
        serve: Serve,
    ) -> (Vec<u64>, Vec<u64>) {
        let (mut rng, mut hits, mut most) =
            (SplitMix64::new(11), vec![0; self.in_flight.len()], vec![0; self.in_flight.len()]);
        let mut pending: Vec<(Duration, Duration, usize, bool)> = Vec::new();
        for request in 0..requests {
            self.now += gap * (rng.below(2_001) as u32) / 1_000;
            pending.sort_unstable();
            let done = pending.partition_point(|(end, ..)| *end <= self.now);
            for (end, took, endpoint, ok) in pending.drain(..done) {
                self.in_flight[endpoint] -= 1;
                let record = if ok { latency::PeakEwma::observe } else { latency::PeakEwma::penalise };
                record(&mut self.estimates[endpoint], took, end, &self.config);
            }
            let picked = picker.pick(self, &mut rng).unwrap();
            let (took, ok) = serve(picked, request);
            pending.push((self.now + took, took, picked, ok));
            self.in_flight[picked] += 1;
            hits[picked] += 1;
            most[picked] = most[picked].max(self.in_flight[picked]);
        }
        (hits, most)
    }
}

const GAP: Duration = Duration::from_millis(1);

fn ten_ms(_: usize, _: u64) -> (Duration, bool) {
    (Duration::from_millis(10), true)
}

#[test]
fn a_slow_endpoint_gets_less_than_its_share_and_loads_weigh_in() {
    let serve: Serve = |endpoint, _| (Duration::from_millis(if endpoint == 3 { 50 } else { 10 }), true);
    let (hits, _) = World::cold(10).run(&PeakEwma::new(&[1; 10]), 20_000, GAP, serve);
    assert!(hits[3] < 200, "{hits:?}");
    assert!(hits.iter().enumerate().all(|(i, h)| i == 3 || (1_500..3_000).contains(h)), "{hits:?}");
}

/// The documented flaw of EWMA balancers that count an error's time as an answer's: the endpoint that fails in no time looks
/// like the fastest of all and gets everything.
#[test]
fn an_endpoint_that_fails_fast_attracts_no_traffic() {
    let serve: Serve = |endpoint, request| match endpoint {
        3 if request > 5_000 => (Duration::from_micros(20), false),
        _ => (Duration::from_millis(10), true),
    };
    let (hits, _) = World::cold(10).run(&PeakEwma::new(&[1; 10]), 55_000, GAP, serve);
    // Its share was 500 of the first 5 000; of the 50 000 after that it got next to nothing.
    assert!(hits[3] < 650, "{hits:?}");
}

#[test]
fn an_endpoint_that_fails_fast_from_the_start_attracts_no_traffic() {
    let serve: Serve = |endpoint, _| match endpoint {
        3 => (Duration::from_micros(20), false),
        _ => (Duration::from_millis(10), true),
    };
    let (hits, _) = World::cold(10).run(&PeakEwma::new(&[1; 10]), 50_000, GAP, serve);
    assert!(hits[3] < 100, "{hits:?}");
}

#[test]
fn an_endpoint_that_hangs_gets_no_more_than_a_few_requests_in_flight() {
    let serve: Serve = |endpoint, request| match endpoint {
        3 if request > 5_000 => (Duration::from_secs(3_600), true),
        _ => (Duration::from_millis(10), true),
    };
    let (hits, most) = World::cold(10).run(&PeakEwma::new(&[1; 10]), 25_000, GAP, serve);
    // Others have one or two in flight; in the worst case it holds a few times that.
    assert!(most[3] <= 10 && hits[3] < 600, "{hits:?} {most:?}");
}

#[test]
fn a_cold_endpoint_among_warm_ones_is_neither_flooded_nor_starved() {
    let mut world = World::cold(10);
    world.run(&PeakEwma::new(&[1; 10]), 5_000, GAP, ten_ms);
    world.estimates[3] = latency::PeakEwma::new();
    let (hits, most) = world.run(&PeakEwma::new(&[1; 10]), 100, GAP, ten_ms);
    assert!((3..=20).contains(&hits[3]), "{hits:?}");
    assert!(most[3] <= 4, "{most:?}");
}

#[test]
fn a_cold_endpoint_that_turns_out_slow_was_not_flooded_meanwhile() {
    let mut world = World::cold(10);
    world.run(&PeakEwma::new(&[1; 10]), 5_000, GAP, ten_ms);
    world.estimates[3] = latency::PeakEwma::new();
    let serve: Serve = |endpoint, _| (Duration::from_millis(if endpoint == 3 { 1_000 } else { 10 }), true);
    let (hits, most) = world.run(&PeakEwma::new(&[1; 10]), 2_000, GAP, serve);
    assert!(most[3] <= 10 && hits[3] <= 10, "{hits:?} {most:?}");
}

#[test]
fn an_endpoint_that_recovered_is_found_out_within_a_few_half_lives() {
    let mut world = World::cold(10);
    let peak: Serve = |e, r| (Duration::from_millis(if e == 3 && r > 4_990 { 500 } else { 10 }), true);
    world.run(&PeakEwma::new(&[1; 10]), 6_000, GAP, peak);
    let (hits, _) = world.run(&PeakEwma::new(&[1; 10]), 60_000, GAP, ten_ms);
    // Shunned for five or six half-lives of the sixty seconds, and one of many afterwards.
    assert!(hits[3] > 1_500, "{hits:?}");
}

#[test]
fn all_cold_endpoints_are_balanced_by_load() {
    let (picker, mut view, mut rng) = (PeakEwma::new(&[1; 10]), Loads::idle(10), SplitMix64::new(4));
    for _ in 0..10_000 {
        let picked = picker.pick(&view, &mut rng).unwrap();
        view.in_flight[picked] += 1;
    }
    assert!(view.in_flight.iter().all(|l| l.abs_diff(1_000) <= 6), "{:?}", view.in_flight);
}

#[test]
fn load_is_compared_per_weight() {
    let mut view = Loads::idle(2);
    view.latency = vec![Some(MS); 2];
    view.in_flight = vec![25, 10];
    // 25 of weight 3 are less than 10 of weight 1.
    let hits = hits(&PeakEwma::new(&[3, 1]), &view, 1_000);
    assert!(hits[0] > 990, "{hits:?}");
}

fn probed(loads: &[(u64, u64)], age: Duration) -> Loads {
    let mut view = Loads::idle(loads.len());
    let probe =
        |(in_flight, ms): &(u64, u64)| Probe { in_flight: *in_flight, latency_ns: ms * 1_000_000, age };
    view.probe = loads.iter().map(|l| Some(probe(l))).collect();
    view
}

#[test]
fn of_the_cold_the_fastest_is_taken() {
    // The last is the fastest, but has the most in flight of any candidates.
    let view = probed(&[(3, 9), (3, 8), (4, 5), (4, 7), (5, 6), (5, 8), (90, 1)], Duration::ZERO);
    let hits = hits(&Prequal::new(&[1; 7]), &view, 10_000);
    assert!(hits[6] < 50 && hits[2] > 3_000, "{hits:?}");
    assert!([0, 1, 3, 4, 5].iter().all(|i| hits[*i] < 2_200), "{hits:?}");
}

#[test]
fn loads_that_are_alike_make_nobody_hot() {
    let view = probed(&[(90, 9), (90, 8), (90, 5), (0, 7)], Duration::ZERO);
    let hits = hits(&Prequal::new(&[1; 4]), &view, 10_000);
    // Whenever it is drawn with another that has as much in flight, it is the fastest.
    assert!(hits[2] > 4_500, "{hits:?}");
}

#[test]
fn of_two_candidates_the_less_loaded_is_taken_and_a_tie_goes_to_the_faster() {
    let hits_of = |loads: &[(u64, u64)]| hits(&Prequal::new(&[1; 2]), &probed(loads, Duration::ZERO), 1_000);
    assert!(hits_of(&[(3, 9), (4, 1)])[0] > 900);
    assert!(hits_of(&[(4, 9), (4, 1)])[1] > 900);
}

#[test]
fn this_clients_own_requests_count_where_the_probe_missed_them() {
    let mut view = probed(&[(0, 1), (2, 9)], Duration::ZERO);
    view.in_flight[0] = 5;
    assert!(hits(&Prequal::new(&[1; 2]), &view, 1_000)[1] > 900);
}

#[test]
fn stale_probes_count_for_nothing_and_load_decides() {
    let mut view = probed(&[(90, 90), (0, 1), (0, 1)], Prequal::FRESH + Duration::from_nanos(1));
    view.in_flight = vec![0, 7, 7];
    assert!(hits(&Prequal::new(&[1; 3]), &view, 1_000)[0] > 500);
    let idle = probed(&[(90, 90), (0, 1), (0, 1)], Duration::MAX);
    assert!(follows(&hits(&Prequal::new(&[1, 2, 5]), &idle, 8_000), &[1, 2, 5]));
}
