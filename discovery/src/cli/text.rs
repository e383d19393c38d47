// SPDX-License-Identifier: Apache-2.0
//! What tables are made of. Pure. Nothing is wider than [`WIDTH`] columns, except a single word that cannot be broken.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// Half a wide terminal, the whole of a narrow one; as the agent's tables.
const WIDTH: u16 = 100;
/// Heights of a sparkline.
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Lines of `name   value`.
#[derive(Default)]
pub(super) struct Lines(pub(super) String);

impl Lines {
    pub(super) fn field(&mut self, name: &str, value: &str) {
        self.0.push_str(&wrapped(value, &format!("{name:<14}"), &" ".repeat(14)));
    }
}

/// A table without lines. Columns in `right` are aligned to the right, columns in `whole` are never broken: an address in
/// two pieces cannot be copied.
pub(super) fn table(header: &[&str], right: &[usize], whole: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(header.to_vec());
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if right.contains(&i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if whole.contains(&i) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

pub(super) fn finish(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What is said where rows are left out.
pub(super) fn and_more(shown: usize, of: usize, nouns: &str) -> String {
    match of.saturating_sub(shown) {
        0 => String::new(),
        more => format!("… and {more} more {nouns}; --all shows them\n"),
    }
}

/// One bullet per sentence.
pub(super) fn bullets(title: &str, sentences: &[String], rows: usize) -> String {
    if sentences.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{title}\n");
    for sentence in sentences.iter().take(rows) {
        out.push_str(&wrapped(sentence, "  - ", "    "));
    }
    out.push_str(&and_more(rows, sentences.len(), "of these"));
    out
}

/// Wraps at words to [`WIDTH`] columns.
pub(super) fn wrapped(text: &str, first: &str, rest: &str) -> String {
    let (mut out, mut line) = (String::new(), first.to_owned());
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > usize::from(WIDTH) {
            let _ = writeln!(out, "{}", line.trim_end());
            rest.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
    out
}

pub(super) fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

pub(super) fn count(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

/// A time as people say it: the two largest units.
pub(super) fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A short time.
pub(super) fn millis(millis: u64) -> String {
    if millis < 1_000 { format!("{millis}ms") } else { time(millis / 1_000) }
}

/// A course of values, the highest at full height; zero is the lowest mark.
pub(super) fn spark(values: &[u64]) -> String {
    let highest = values.iter().copied().max().unwrap_or_default().max(1);
    let mark = |value: &u64| {
        let step = (u128::from(*value) * (SPARKS.len() as u128 - 1)).div_ceil(u128::from(highest));
        SPARKS[step as usize]
    };
    values.iter().map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_is_in_proportion_and_little_is_not_nothing() {
        assert_eq!(spark(&[0, 1, 50, 100]), "▁▂▅█");
        assert_eq!(spark(&[0, 0]), "▁▁");
        assert_eq!(spark(&[1, u64::MAX]), "▂█");
        assert_eq!(spark(&[]), "");
    }

    #[test]
    fn rows_that_are_left_out_are_counted() {
        assert_eq!(and_more(30, 30, "clients"), "");
        assert_eq!(and_more(30, 42, "clients"), "… and 12 more clients; --all shows them\n");
    }
}
