// SPDX-License-Identifier: Apache-2.0
//! Utilisation of endpoints, from the least to the most busy: a flat line is an even load.

use super::{
    axis::{Plot, Scale},
    page::{Page, style},
};
use crate::report::Comparison;

pub(super) fn draw(comparison: &Comparison) -> String {
    let mut page = Page::new(
        &format!("{}: utilisation of endpoints", comparison.scenario.name),
        "busy places over all places, over the time measured; a flat line is an even load",
    );
    page.legend(comparison.outcomes.iter().enumerate().map(|(i, o)| (style(i), o.policy.as_str())));
    let percents =
        |by: u32| (0..=100).step_by(by as usize).map(|p| (f64::from(p), format!("{p} %"))).collect();
    let plot = Plot::new(
        &mut page,
        300.0,
        (Scale::fixed(100.0, percents(10)), "share of endpoints, the least busy first"),
        (Scale::fixed(100.0, percents(20)), "utilisation"),
    );
    for (i, outcome) in comparison.outcomes.iter().enumerate() {
        let values = &outcome.series.utilization;
        let step = 100.0 / values.len().saturating_sub(1).max(1) as f64;
        let points: Vec<_> =
            values.iter().enumerate().map(|(at, share)| plot.at(at as f64 * step, share * 100.0)).collect();
        page.path(&points, style(i));
    }
    page.finish()
}
