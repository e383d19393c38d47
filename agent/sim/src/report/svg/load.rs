// SPDX-License-Identifier: Apache-2.0
//! Load over time: requests in single endpoints (thin), the mean and the busiest of all (bold), one plot per policy.
//!
//! All plots have the same scale, so that they compare; where one policy is so much worse that the others would be flat lines,
//! each has its own, and says so.

use super::{
    axis::{Plot, Scale},
    page::{Page, Style},
};
use crate::{
    outcome::{Outcome, Series},
    report::{Comparison, unit},
};

/// How many endpoints are drawn one by one.
const LINES: usize = 8;
/// How many points a line has at most.
const POINTS: usize = 120;
/// A plot needs this share of a common scale, or all have their own.
const LEAST: f64 = 0.1;

const SINGLE: Style = Style { colour: "#56b4e9", dash: "", width: 1.0, opacity: 0.7 };
const MEAN: Style = Style { colour: "#000000", dash: "", width: 2.0, opacity: 1.0 };
const BUSIEST: Style = Style { colour: "#d55e00", dash: "", width: 1.5, opacity: 1.0 };

pub(super) fn draw(comparison: &Comparison) -> String {
    let mut page = Page::new(
        &format!("{}: load of endpoints over time", comparison.scenario.name),
        "requests in an endpoint, waiting or served, averaged over each step of time",
    );
    let legend = [
        (BUSIEST, "the busiest endpoint of each moment"),
        (MEAN, "mean of all"),
        (SINGLE, "single endpoints"),
    ];
    page.legend(legend.into_iter());
    let highest: Vec<f64> = comparison.outcomes.iter().map(highest).collect();
    let (most, least) =
        (highest.iter().copied().fold(0.0, f64::max), highest.iter().copied().fold(f64::MAX, f64::min));
    let common = least >= most * LEAST;
    for (outcome, own) in comparison.outcomes.iter().zip(&highest) {
        panel(&mut page, outcome, if common { most } else { *own }, common);
    }
    page.finish()
}

fn panel(page: &mut Page, outcome: &Outcome, high: f64, common: bool) {
    let series = &outcome.series;
    let own = if common { "" } else { " (its own scale)" };
    let bold = "font-weight=\"600\"";
    page.text(
        (super::page::LEFT, page.y + 14.0),
        super::page::Anchor::Start,
        bold,
        &format!("{}{own}", outcome.policy),
    );
    page.y += 22.0;
    let seconds = series.step_ns as f64 * series.steps.len() as f64 / 1e9;
    let write = |v: f64| unit::three(v).trim_end_matches('0').trim_end_matches('.').to_owned();
    let plain = |v: f64| {
        if v == 0.0 {
            "0".to_owned()
        } else if v >= 100.0 {
            unit::thousands(v as u64)
        } else {
            write(v)
        }
    };
    let x = Scale::linear_to(seconds, |v| format!("{} s", plain(v)));
    let plot = Plot::new(page, 130.0, (x, ""), (Scale::linear(high, plain), "requests"));
    for line in drawn(series) {
        trace(page, &plot, series.step_ns, &line.load, SINGLE, mean);
    }
    let of_all = |value: fn(&crate::outcome::Step) -> f64| series.steps.iter().map(value).collect::<Vec<_>>();
    trace(page, &plot, series.step_ns, &of_all(|s| s.load_max), BUSIEST, max);
    trace(page, &plot, series.step_ns, &of_all(|s| s.load_mean), MEAN, mean);
}

/// The first few, which events name, and evenly chosen others.
fn drawn(series: &Series) -> impl Iterator<Item = &crate::outcome::Line> {
    const NAMED: usize = 3;
    let (named, others) = series.endpoints.split_at(series.endpoints.len().min(NAMED));
    named.iter().chain(others.iter().step_by(others.len().div_ceil(LINES - NAMED).max(1)))
}

/// One line of at most [`POINTS`] points, each joined from several steps.
fn trace(page: &mut Page, plot: &Plot, step_ns: u64, values: &[f64], style: Style, join: fn(&[f64]) -> f64) {
    let per_point = values.len().div_ceil(POINTS).max(1);
    let points: Vec<_> = values
        .chunks(per_point)
        .enumerate()
        .map(|(i, chunk)| {
            let middle = (i * per_point) as f64 + chunk.len() as f64 / 2.0;
            plot.at(middle * step_ns as f64 / 1e9, join(chunk))
        })
        .collect();
    page.path(&points, style);
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn highest(outcome: &Outcome) -> f64 {
    outcome.series.steps.iter().map(|step| step.load_max).fold(0.0, f64::max)
}
