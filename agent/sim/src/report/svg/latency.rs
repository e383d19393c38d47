// SPDX-License-Identifier: Apache-2.0
//! The latency distribution: latency over percentile, one line per policy. The percentile's axis is logarithmic towards 100 %,
//! as HdrHistogram's plots: the tail is what is compared, and a linear axis would give it one pixel. Lines end where fewer
//! than ten requests lie beyond.

use super::{
    axis::{Plot, Scale},
    page::{Page, style},
};
use crate::{
    outcome::Histogram,
    report::{Comparison, unit},
};

/// Steps of a line for each factor of ten of what lies beyond.
const STEPS: u32 = 40;
/// How many factors of ten are drawn: to 99.99 %.
const DECADES: u32 = 4;

pub(super) fn draw(comparison: &Comparison) -> String {
    let mut page = Page::new(
        &format!("{}: latency of requests", comparison.scenario.name),
        "from the client's sending to its having the answer; requests that failed are not in it",
    );
    page.legend(comparison.outcomes.iter().enumerate().map(|(i, o)| (style(i), o.policy.as_str())));
    let lines: Vec<_> = comparison.outcomes.iter().map(|o| line(&o.series.latency)).collect();
    // The fastest tenth of requests is lucky, and would take half of the axis.
    let values = || lines.iter().flatten().filter(|(at, ns)| *at > 0.05 && *ns > 0.0).map(|(_, ns)| *ns);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let low = if low.is_finite() { low } else { 1e6 };
    let percentiles = [
        (0.0, "0 %"),
        (std::f64::consts::LOG10_2, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
    ];
    let x = Scale::fixed(f64::from(DECADES), percentiles.map(|(at, text)| (at, text.to_owned())).to_vec());
    let y = Scale::logarithmic(low, high, tick);
    let plot = Plot::new(&mut page, 340.0, (x, "percentile of requests"), (y, "latency"));
    for (i, line) in lines.iter().enumerate() {
        let points: Vec<_> = line.iter().map(|(at, ns)| plot.at(*at, *ns)).collect();
        page.path(&points, style(i));
    }
    page.finish()
}

/// (place on the axis, nanoseconds).
fn line(latency: &Histogram) -> Vec<(f64, f64)> {
    (0..=STEPS * DECADES)
        .map(|step| f64::from(step) / f64::from(STEPS))
        .map(|at| (at, libm::pow(10.0, -at)))
        .filter(|(_, beyond)| latency.count() as f64 * beyond >= 10.0)
        .map(|(at, beyond)| (at, latency.quantile(1.0 - beyond) as f64))
        .collect()
}

/// Ticks are round: no decimals.
fn tick(ns: f64) -> String {
    unit::time(ns).replace(".00 ", " ").replace(".0 ", " ")
}
