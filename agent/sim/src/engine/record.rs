// SPDX-License-Identifier: Apache-2.0
//! Counts while the world runs, and what they come to.
//!
//! A request is recorded once, when it ends; the loads of servers are sampled at fixed times, so that their cost does not depend
//! on the number of requests. Memory: two histograms, one [`Step`] per step, lines for a few endpoints.

use super::{
    Kind, World,
    client::End,
    server::{Server, State},
};
use crate::{
    model::{Action, Scenario},
    outcome::{Figures, Histogram, LINES, Line, STEPS, Series, Step},
};

/// Samples of load per step.
const SAMPLES: u64 = 4;

/// Lines given to servers of the start; the others are for those that come later.
const FIRST_LINES: usize = LINES * 2 / 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) figures: Figures,
    latency: Histogram,
    step_latency: Histogram,
    steps: Vec<Step>,
    step: Step,
    step_ns: u64,
    samples: u64,
    end: u64,
    lines: Vec<(u32, Line)>,
    line_sums: Vec<u64>,
    /// For each service, the sums over samples of its busiest endpoint's load and of the mean load.
    skews: Vec<(f64, f64)>,
    zones: usize,
    /// From zone to zone, row by row.
    flows: Vec<u64>,
    bytes: Vec<u128>,
    /// Of each service's servers at the end of arrivals: busy and present place-nanoseconds.
    used: Vec<Vec<(u128, u128)>>,
}

impl Recorder {
    pub(super) fn new(scenario: &Scenario, end: u64) -> Self {
        let zones = scenario.zones.len();
        Self {
            figures: Figures::default(),
            latency: Histogram::default(),
            step_latency: Histogram::default(),
            steps: Vec::with_capacity(STEPS),
            step: Step::default(),
            step_ns: end.div_ceil(STEPS as u64),
            samples: 0,
            end,
            lines: Vec::new(),
            line_sums: Vec::new(),
            skews: vec![(0.0, 0.0); scenario.services.len()],
            zones,
            flows: vec![0; zones * zones],
            bytes: vec![0; zones * zones],
            used: vec![Vec::new(); scenario.services.len()],
        }
    }

    /// A request goes from a client's zone to a server's.
    #[inline]
    pub(super) fn sent(&mut self, from: u32, to: u32, bytes: u64) {
        let place = from as usize * self.zones + to as usize;
        self.flows[place] += 1;
        self.bytes[place] += u128::from(bytes);
    }

    /// An answer goes from a server's zone to a client's.
    #[inline]
    pub(super) fn answered(&mut self, from: u32, to: u32, bytes: u64) {
        self.bytes[from as usize * self.zones + to as usize] += u128::from(bytes);
    }

    /// A request ended for its client.
    #[inline]
    pub(super) fn ended(&mut self, now: u64, latency: u64, end: End, crossed: bool, measured: bool) {
        if now <= self.end {
            self.step.cross_zone += u64::from(crossed);
            if end == End::Completed {
                self.step.completed += 1;
                self.step_latency.record(latency);
            } else {
                self.step.failed += 1;
            }
        }
        if !measured {
            return;
        }
        self.figures.requests += 1;
        if end == End::Completed {
            self.latency.record(latency);
            return;
        }
        self.figures.errors += 1;
        self.figures.no_endpoint += u64::from(end == End::NoEndpoint);
        self.figures.timeouts += u64::from(end == End::TimedOut);
    }

    /// Gives a server a line of its own, if there is one left.
    pub(super) fn draw_line(&mut self, index: u32, server: &Server, scenario: &Scenario) {
        if self.lines.len() >= LINES || self.lines.iter().any(|(i, _)| *i == index) {
            return;
        }
        let service = &scenario.services[server.service as usize];
        let group = &service.groups[server.group as usize];
        let name = format!("{}/{}/{}", service.name, group.name, server.ordinal);
        let load = vec![0.0; self.steps.len()];
        self.lines.push((index, Line { name, zone: server.zone as usize, load }));
        self.line_sums.push(0);
    }

    /// Chooses servers to draw: those that events name, then evenly among all.
    pub(super) fn draw_lines(&mut self, scenario: &Scenario, servers: &[Server]) {
        for event in &scenario.events {
            let (Action::Speed { pods, .. }
            | Action::Fail { pods, .. }
            | Action::Crash { pods, .. }
            | Action::Weight { pods, .. }) = &event.action
            else {
                continue;
            };
            for (index, server) in servers.iter().enumerate().filter(|(_, s)| super::churn::named(pods, s)) {
                if self.lines.len() < FIRST_LINES / 2 {
                    self.draw_line(index as u32, server, scenario);
                }
            }
        }
        let room = FIRST_LINES - self.lines.len();
        for k in 0..room.min(servers.len()) {
            let index = k * servers.len() / room.min(servers.len());
            self.draw_line(index as u32, &servers[index], scenario);
        }
    }

    /// Takes a sample of all loads; closes the step when it is full.
    fn sample(&mut self, servers: &[Server], measured: bool) {
        let mut per_service = vec![(0u64, 0u32, 0u32); self.skews.len()];
        let (mut busiest, mut sum, mut count) = (0, 0u64, 0u32);
        for server in servers.iter().filter(|s| s.state == State::Serving) {
            let load = server.load();
            let of = &mut per_service[server.service as usize];
            *of = (of.0 + u64::from(load), of.1.max(load), of.2 + 1);
            (busiest, sum, count) = (busiest.max(load), sum + u64::from(load), count + 1);
        }
        self.figures.max_in_endpoint = self.figures.max_in_endpoint.max(u64::from(busiest));
        if measured {
            for ((most, mean), (sum, max, count)) in self.skews.iter_mut().zip(per_service) {
                *most += f64::from(max);
                *mean += sum as f64 / f64::from(count.max(1));
            }
        }
        self.step.load_max += f64::from(busiest) / SAMPLES as f64;
        self.step.load_mean += sum as f64 / f64::from(count.max(1)) / SAMPLES as f64;
        self.step.endpoints = count;
        for ((index, _), total) in self.lines.iter().zip(&mut self.line_sums) {
            *total += u64::from(servers[*index as usize].load());
        }
        self.samples += 1;
        if self.samples.is_multiple_of(SAMPLES) {
            self.close_step();
        }
    }

    fn close_step(&mut self) {
        self.step.p50_ns = self.step_latency.quantile(0.5);
        self.step.p99_ns = self.step_latency.quantile(0.99);
        self.step_latency.clear();
        self.steps.push(std::mem::take(&mut self.step));
        for ((_, line), sum) in self.lines.iter_mut().zip(&mut self.line_sums) {
            line.load.push(std::mem::take(sum) as f64 / SAMPLES as f64);
        }
    }

    /// When the next sample is taken; `None` after the last.
    fn next_sample(&self) -> Option<u64> {
        let all = STEPS as u64 * SAMPLES;
        (self.samples < all).then(|| ((self.samples + 1) * self.step_ns / SAMPLES).min(self.end))
    }

    /// What it all comes to.
    pub(super) fn finish(self, scenario: &Scenario) -> (Figures, Series) {
        let zones = self.zones;
        let flow = |a: usize, b: usize| self.flows[a * zones + b];
        let all: u64 = self.flows.iter().sum();
        let local: u64 = (0..zones).map(|z| flow(z, z)).sum();
        let cost = |(place, bytes): (usize, &u128)| {
            scenario.network.price_per_gib[place / zones][place % zones]
                * (*bytes as f64 / f64::from(1 << 30))
        };
        let quantiles = Utilization::of(&self.used);
        let figures = Figures {
            mean_ns: self.latency.mean(),
            p50_ns: self.latency.quantile(0.5),
            p90_ns: self.latency.quantile(0.9),
            p99_ns: self.latency.quantile(0.99),
            p999_ns: self.latency.quantile(0.999),
            max_ns: self.latency.max(),
            skew_in_flight: self.skews.iter().map(|(max, mean)| ratio(*max, *mean)).fold(0.0, f64::max),
            skew_utilization: quantiles.skew,
            utilization: quantiles.mean,
            cross_zone: ratio((all - local) as f64, all as f64),
            cost: self.bytes.iter().enumerate().map(cost).sum(),
            ..self.figures
        };
        let series = Series {
            step_ns: self.step_ns,
            steps: self.steps,
            endpoints: self.lines.into_iter().map(|(_, line)| line).collect(),
            zones: scenario.zones.iter().map(|z| z.name.clone()).collect(),
            flows: (0..zones).map(|a| (0..zones).map(|b| flow(a, b)).collect()).collect(),
            latency: self.latency,
            utilization: quantiles.all,
        };
        (figures, series)
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Utilisation of endpoints.
struct Utilization {
    skew: f64,
    mean: f64,
    /// At 101 quantiles, nearest rank.
    all: Vec<f64>,
}

impl Utilization {
    fn of(used: &[Vec<(u128, u128)>]) -> Self {
        let share = |(busy, there): &(u128, u128)| *busy as f64 / *there as f64;
        let sorted = |of: &[(u128, u128)]| {
            let mut shares: Vec<f64> = of.iter().filter(|(_, there)| *there > 0).map(share).collect();
            shares.sort_unstable_by(f64::total_cmp);
            shares
        };
        let skew = |of: &Vec<(u128, u128)>| {
            let shares = sorted(of);
            let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
            ratio(quantile(&shares, 0.99), mean)
        };
        let all = sorted(&used.concat());
        let (busy, there) = used.iter().flatten().fold((0, 0), |(b, t), (busy, there)| (b + busy, t + there));
        let quantiles = (0..=100).map(|k| quantile(&all, f64::from(k) / 100.0)).collect();
        Self {
            skew: used.iter().map(skew).fold(0.0, f64::max),
            mean: ratio(busy as f64, there as f64),
            all: if all.is_empty() { Vec::new() } else { quantiles },
        }
    }
}

/// Nearest rank; zero of nothing.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

impl World<'_> {
    pub(super) fn first_sample(&mut self) {
        let at = self.record.next_sample().unwrap_or(self.end);
        self.queue.push(at, Kind::Sample.with(0, 0));
    }

    /// The warm-up is over.
    pub(super) fn measure(&mut self) {
        let now = self.now;
        self.servers.iter_mut().for_each(|server| server.start_measuring(now));
    }

    pub(super) fn sample(&mut self, progress: &mut dyn FnMut(f64)) {
        debug_assert_eq!(
            self.balance.arrived,
            self.balance.completed + self.balance.failed + self.balance.in_flight,
            "requests are conserved"
        );
        self.record.sample(&self.servers, self.now >= self.measured_from);
        if self.record.samples.is_multiple_of(SAMPLES) {
            progress(self.now as f64 / self.end as f64);
        }
        if let Some(at) = self.record.next_sample() {
            self.queue.push(at, Kind::Sample.with(0, 0));
        } else {
            for server in &mut self.servers {
                self.record.used[server.service as usize].push(server.measured(self.now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utilisation_weighs_places_and_skew_compares_endpoints() {
        let used = [vec![(50, 100), (100, 100)], vec![(10, 100), (0, 0)]];
        let utilization = Utilization::of(&used);
        assert!((utilization.mean - 160.0 / 300.0).abs() < 1e-12);
        assert!((utilization.skew - 1.0 / 0.75).abs() < 1e-12);
        assert_eq!((utilization.all.len(), utilization.all[0], utilization.all[100]), (101, 0.1, 1.0));
    }

    #[test]
    fn without_endpoints_there_is_no_utilisation() {
        let utilization = Utilization::of(&[Vec::new()]);
        assert_eq!((utilization.mean, utilization.skew, utilization.all.len()), (0.0, 0.0, 0));
    }
}
