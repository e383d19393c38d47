// SPDX-License-Identifier: Apache-2.0
//! Policies side by side in a terminal: one row per policy, so that a column compares them. Nothing is wider than [`WIDTH`]
//! columns, except a single word that cannot be broken. Three small tables instead of one wide one: latency, balance, and
//! what it took.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

use super::{
    Comparison,
    unit::{percent, thousands, three, time},
};
use crate::{outcome::Figures, scenario::time::show};

/// As the agent's own tables.
const WIDTH: u16 = 100;

type Column = (&'static str, fn(&Figures) -> String);

/// How long requests took.
const LATENCY: [Column; 8] = [
    ("REQUESTS", |f| thousands(f.requests)),
    ("FAILED", |f| percent(share(f.errors, f.requests))),
    ("MEAN", |f| time(f.mean_ns)),
    ("P50", |f| time(f.p50_ns as f64)),
    ("P90", |f| time(f.p90_ns as f64)),
    ("P99", |f| time(f.p99_ns as f64)),
    ("P99.9", |f| time(f.p999_ns as f64)),
    ("MAX", |f| time(f.max_ns as f64)),
];

/// How even the load was, and where it went. Load skew: requests in flight, maximum over mean; busy skew: utilisation, 99th
/// percentile over mean.
const BALANCE: [Column; 7] = [
    ("LOAD SKEW", |f| three(f.skew_in_flight)),
    ("BUSY SKEW", |f| three(f.skew_utilization)),
    ("BUSY", |f| percent(f.utilization)),
    ("MOST IN ONE", |f| thousands(f.max_in_endpoint)),
    ("CROSS-ZONE", |f| percent(f.cross_zone)),
    ("COST", |f| cost(f.cost)),
    ("REMAPPED", |f| thousands(f.remapped)),
];

/// What went wrong, and what was done about it.
const FAULTS: [Column; 6] = [
    ("ERRORS", |f| thousands(f.errors)),
    ("TIMED OUT", |f| thousands(f.timeouts)),
    ("NO ENDPOINT", |f| thousands(f.no_endpoint)),
    ("MOVED", |f| thousands(f.moved)),
    ("REOPENED", |f| thousands(f.reopened)),
    ("EJECTIONS", |f| thousands(f.ejections)),
];

/// The comparison for a person.
#[must_use]
pub fn table(comparison: &Comparison) -> String {
    let scenario = &comparison.scenario;
    let measured = scenario.duration.saturating_sub(scenario.warm_up);
    let mut text = format!("{}: ", scenario.name);
    let _ = writeln!(
        text,
        "{} simulated, the last {} measured, seed {}",
        show(scenario.duration),
        show(measured),
        comparison.seed
    );
    for (label, words) in [("Question", &scenario.question), ("Answer", &scenario.answer)] {
        if !words.is_empty() {
            text.push_str(&wrapped(words, label));
        }
    }
    for columns in [&LATENCY[..], &BALANCE[..], &FAULTS[..]] {
        text.push('\n');
        text.push_str(&part(comparison, columns));
    }
    text
}

fn part(comparison: &Comparison, columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(std::iter::once("POLICY").chain(columns.iter().map(|(name, _)| *name)));
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if i == 0 {
            // A policy is looked for by its name.
            column.set_constraint(ColumnConstraint::ContentWidth);
        } else {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for outcome in &comparison.outcomes {
        let cells = columns.iter().map(|(_, show)| show(&outcome.figures));
        table.add_row(std::iter::once(outcome.policy.clone()).chain(cells));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A price is a sum of very many tiny ones: significant digits, not cents.
fn cost(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value < 1.0 {
        format!("{value:.4}")
    } else {
        three(value)
    }
}

pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `label` and words in lines of at most [`WIDTH`] columns, indented below the first.
fn wrapped(words: &str, label: &str) -> String {
    const INDENT: usize = 10;
    let (mut out, mut line) = (String::new(), format!("{label:<INDENT$}"));
    for word in words.split_whitespace() {
        let used = line.chars().count();
        if used > INDENT && used + 1 + word.chars().count() > usize::from(WIDTH) {
            out.push_str(&line);
            out.push('\n');
            line = " ".repeat(INDENT);
        } else if used > INDENT {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
    out
}
