// SPDX-License-Identifier: Apache-2.0
//! Drawings of a comparison: latency distribution, load over time per endpoint, zone flows, utilisation.
//!
//! | file | what it is |
//! |---|---|
//! | `page` | a page of SVG: text, lines, legend, escaping |
//! | `axis` | scales, ticks, the frame around a plot |
//! | `latency`, `load`, `zones`, `utilization` | one drawing each |
//!
//! Always true: equal comparisons give equal bytes (coordinates are rounded, logarithms are `libm`'s); every name is escaped;
//! every axis says what it shows and in which unit; colours are told apart with a colour vision deficiency too, and by dashes.
//! Cost: some 10 to 30 KB a drawing and policy, whatever was simulated. Deliberately not here: scripts, fonts, a theme.

mod axis;
mod latency;
mod load;
mod page;
mod utilization;
mod zones;

pub use axis::{Plot, Scale};
pub use page::{Page, Style, style};

use super::Comparison;

/// One drawing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// Name of its file.
    pub file: &'static str,
    /// The drawing.
    pub svg: String,
}

/// All drawings of a comparison.
#[must_use]
pub fn drawings(comparison: &Comparison) -> Vec<Drawing> {
    vec![
        Drawing { file: "latency.svg", svg: latency::draw(comparison) },
        Drawing { file: "load.svg", svg: load::draw(comparison) },
        Drawing { file: "zones.svg", svg: zones::draw(comparison) },
        Drawing { file: "utilization.svg", svg: utilization::draw(comparison) },
    ]
}

#[cfg(test)]
mod tests;
