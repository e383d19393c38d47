// SPDX-License-Identifier: Apache-2.0
//! Which key is at a place of the file, and which place has a key: so that every error names file, line and key.
//!
//! A second, untyped reading of the text (`toml`'s spanned tree). Cost: one pass over the file, only when something is wrong.
//! Always true: there is an answer for any place; where a key is not written in the file (a default is out of range, a key is
//! missing) it is the table that it would be in.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Every key of a file with its places: of the key itself and of its value.
pub(super) struct Keys<'a> {
    text: &'a str,
    entries: Vec<Entry>,
}

struct Entry {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

impl<'a> Keys<'a> {
    /// The keys of `text`; none when it is not TOML at all.
    pub(super) fn of(text: &'a str) -> Self {
        let mut entries = Vec::new();
        if let Ok(table) = DeTable::parse(text) {
            walk(table.get_ref(), "", &mut entries);
        }
        Self { text, entries }
    }

    /// The key whose place, or whose value's place, is the narrowest around `span`; empty for the file as a whole.
    pub(super) fn at(&self, span: &Range<usize>) -> &str {
        // The file's own table has no extent.
        if span.is_empty() {
            return "";
        }
        let around = |range: &Range<usize>| range.start <= span.start && span.end <= range.end;
        self.entries
            .iter()
            .flat_map(|entry| [(&entry.key, entry), (&entry.value, entry)])
            .filter(|(range, _)| around(range))
            // Of equal ranges the deepest, which was walked to last.
            .min_by_key(|(range, entry)| (range.len(), std::cmp::Reverse(entry.path.len())))
            .map_or("", |(_, entry)| &entry.path)
    }

    /// The place of the value at a path of the *model* (`services[0].groups[1].service_time.mean`), or of the innermost table
    /// on the way that the file has. A segment that is not where the model has it is looked for one table deeper: actions and
    /// arrival processes are a table of their own in the file.
    /// What of the path is not in the file is returned too.
    pub(super) fn find(&self, path: &str) -> (Range<usize>, String) {
        let (mut best, mut prefix) = (0..0, String::new());
        let mut segments = segments(&path.replace('_', "-")).into_iter();
        while let Some(segment) = segments.next() {
            let direct = join(&prefix, &segment);
            let Some(entry) = self.entry(&direct).or_else(|| self.one_deeper(&prefix, &segment)) else {
                return (best, segments.fold(segment, |rest, next| join(&rest, &next)));
            };
            (best, prefix) = (entry.value.clone(), entry.path.clone());
        }
        (best, String::new())
    }

    /// Line of a place, from 1.
    pub(super) fn line(&self, place: usize) -> usize {
        self.text.as_bytes()[..place.min(self.text.len())].iter().filter(|b| **b == b'\n').count() + 1
    }

    fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    fn one_deeper(&self, prefix: &str, segment: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| {
            let inside = entry.path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
            inside.and_then(|rest| rest.split_once('.')).is_some_and(|(_, last)| last == segment)
        })
    }
}

/// `a[0].b` as `a`, `[0]`, `b`.
fn segments(path: &str) -> Vec<String> {
    path.split('.')
        .flat_map(|part| {
            let (name, indices) = part.split_once('[').unwrap_or((part, ""));
            let indices = indices.trim_end_matches(']').split("][").filter(|i| !i.is_empty());
            std::iter::once(name.to_owned()).chain(indices.map(|i| format!("[{i}]"))).collect::<Vec<_>>()
        })
        .collect()
}

fn join(prefix: &str, segment: &str) -> String {
    let dot = if prefix.is_empty() || segment.starts_with('[') { "" } else { "." };
    format!("{prefix}{dot}{segment}")
}

fn walk(table: &DeTable<'_>, prefix: &str, entries: &mut Vec<Entry>) {
    for (key, value) in table.iter() {
        let path = join(prefix, key.get_ref());
        entries.push(Entry { path: path.clone(), key: key.span(), value: value.span() });
        walk_value(value, &path, entries);
    }
}

fn walk_value(value: &Spanned<DeValue<'_>>, path: &str, entries: &mut Vec<Entry>) {
    match value.get_ref() {
        DeValue::Table(table) => walk(table, path, entries),
        DeValue::Array(array) => {
            for (i, element) in array.iter().enumerate() {
                let path = format!("{path}[{i}]");
                entries.push(Entry { path: path.clone(), key: element.span(), value: element.span() });
                walk_value(element, &path, entries);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "seed = 7\n[[zones]]\nname = \"a\"\n[[zones]]\nname = \"b\"\nnodes = 3\n\
                        [[events]]\nspeed = { factor = 2.0 }\n";

    #[test]
    fn the_narrowest_key_around_a_place_is_named() {
        let keys = Keys::of(TEXT);
        let at = |needle: &str| {
            let start = TEXT.find(needle).unwrap();
            keys.at(&(start..start + needle.len())).to_owned()
        };
        assert_eq!(at("7"), "seed");
        assert_eq!(at("\"b\""), "zones[1].name");
        assert_eq!(at("nodes"), "zones[1].nodes");
        assert_eq!(at("2.0"), "events[0].speed.factor");
    }

    #[test]
    fn a_path_of_the_model_leads_to_the_value_or_to_the_table_around_it() {
        let keys = Keys::of(TEXT);
        let text = |path: &str| {
            let (place, rest) = keys.find(path);
            (&TEXT[place], rest)
        };
        assert_eq!(text("zones[1].nodes"), ("3", String::new()));
        assert_eq!(text("events[0].factor"), ("2.0", String::new()), "one table deeper than in the model");
        assert_eq!(text("zones[0].nodes"), ("[[zones]]", "nodes".to_owned()), "not written: the table");
        assert_eq!(text("network.jitter"), ("", "network.jitter".to_owned()));
        assert_eq!(keys.line(keys.find("zones[1].nodes").0.start), 6);
    }

    #[test]
    fn places_of_a_file_that_is_not_toml_have_no_key() {
        let keys = Keys::of("= 3");
        assert_eq!((keys.at(&(0..1)), keys.line(99)), ("", 1));
    }
}
