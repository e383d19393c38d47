// SPDX-License-Identifier: Apache-2.0
//! What tables are made of. Pure. Nothing is wider than [`WIDTH`] columns, except a single word that cannot be broken.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// Half a wide terminal, the whole of a narrow one.
const WIDTH: u16 = 100;

/// Lines of `name   value`.
#[derive(Debug, Default)]
pub struct Lines(pub String);

impl Lines {
    /// Adds a line, wrapped where it must be.
    pub fn field(&mut self, name: &str, value: &str) {
        self.0.push_str(&wrapped(value, &format!("{name:<14}"), &" ".repeat(14)));
    }
}

/// A table without lines. Columns in `right` are aligned to the right, columns in `whole` are never broken: an address in
/// two pieces cannot be copied.
#[must_use]
pub fn table(header: &[&str], right: &[usize], whole: &[usize]) -> Table {
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

/// The table as text.
#[must_use]
pub fn finish(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// What is said where rows are left out.
#[must_use]
pub fn and_more(shown: usize, of: usize, nouns: &str) -> String {
    match of.saturating_sub(shown) {
        0 => String::new(),
        more => format!("… and {more} more {nouns}; --all shows them\n"),
    }
}

/// One bullet per sentence.
#[must_use]
pub fn bullets(title: &str, sentences: &[String], rows: usize) -> String {
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
#[must_use]
pub fn wrapped(text: &str, first: &str, rest: &str) -> String {
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

/// The text, or a dash for none.
#[must_use]
pub fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// A number with its noun.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

/// A time as people say it: the two largest units.
#[must_use]
pub fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A short time, in milliseconds.
#[must_use]
pub fn millis(millis: u64) -> String {
    if millis < 1_000 { format!("{millis}ms") } else { time(millis / 1_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_left_out_are_counted() {
        assert_eq!(and_more(30, 30, "clients"), "");
        assert_eq!(and_more(30, 42, "clients"), "… and 12 more clients; --all shows them\n");
    }
}
