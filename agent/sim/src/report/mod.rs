// SPDX-License-Identifier: Apache-2.0
//! What people and programs read of a run. Pure: outcomes in, text out.
//!
//! | file | what it is |
//! |---|---|
//! | `table` | policies side by side, for a terminal |
//! | `json` | the same and more, for programs |
//! | `svg` | four drawings, and the page and plot that they are made with, for benchmarks that draw |
//! | `unit` | times, shares and counts as people write them |
//!
//! Always true: equal outcomes give equal bytes; nothing here reads a clock or a terminal. JSON only grows; tables and
//! drawings may change between versions. Deliberately not here: verdicts. A report shows figures, the reader judges.

mod json;
mod svg;
mod table;
mod unit;

pub use json::json;
pub use svg::{Drawing, Page, Plot, Scale, Style, drawings, style};
pub use table::table;

use crate::{model::Scenario, outcome::Outcome};

/// Policies that were run in one world with one seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The world.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
    /// One per policy, in the order of the file.
    pub outcomes: Vec<Outcome>,
}
