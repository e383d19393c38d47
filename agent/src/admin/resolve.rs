// SPDX-License-Identifier: Apache-2.0
//! A Service by the name a person typed: NAMESPACE/NAME, or NAME where that is unambiguous.

use std::sync::Arc;

use crate::store::{Service, ServiceName, Snapshot};

/// Typing errors up to this many edits are offered as "did you mean".
const CLOSE: usize = 2;
/// As many names are listed; more do not help.
const LISTED: usize = 5;

/// Why no Service is meant. Each message says what exists.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("no Service {asked} has opted in; did you mean {}?", close.join(" or "))]
    Close { asked: String, close: Vec<String> },
    #[error("no Service {asked} has opted in; those that have: {}{}", some.join(", "), more(*left))]
    Unknown { asked: String, some: Vec<String>, left: usize },
    #[error("no Service {asked} has opted in, nor has any other; label one with evenkeel.io/balance")]
    NoneAtAll { asked: String },
    #[error("{asked} is ambiguous: {}; give NAMESPACE/NAME", all.join(", "))]
    Ambiguous { asked: String, all: Vec<String> },
}

fn more(left: usize) -> String {
    if left == 0 { String::new() } else { format!(" and {left} more (see `evenkeel services`)") }
}

/// Finds the Service that `asked` names.
pub(super) fn resolve<'s>(snapshot: &'s Snapshot, asked: &str) -> Result<&'s Arc<Service>, ResolveError> {
    let means = |name: &ServiceName| match asked.split_once('/') {
        Some((namespace, own)) => *name.namespace == *namespace && *name.name == *own,
        None => *name.name == *asked,
    };
    let found: Vec<_> = snapshot.services.iter().filter(|(name, _)| means(name)).collect();
    match found.as_slice() {
        [(_, service)] => Ok(service),
        [] => Err(nothing(snapshot, asked)),
        several => Err(ResolveError::Ambiguous {
            asked: asked.to_owned(),
            all: several.iter().map(|(name, _)| name.to_string()).collect(),
        }),
    }
}

fn nothing(snapshot: &Snapshot, asked: &str) -> ResolveError {
    let asked = asked.to_owned();
    let own = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    let close: Vec<String> = snapshot
        .services
        .keys()
        .filter(|name| edits(&own(&asked), &name.name) <= CLOSE)
        .map(ToString::to_string)
        .take(LISTED)
        .collect();
    if !close.is_empty() {
        return ResolveError::Close { asked, close };
    }
    let some: Vec<String> = snapshot.services.keys().map(ToString::to_string).take(LISTED).collect();
    if some.is_empty() {
        return ResolveError::NoneAtAll { asked };
    }
    let left = snapshot.services.len() - some.len();
    ResolveError::Unknown { asked, some, left }
}

/// Edit distance (Levenshtein), by two rows. Names are at most 63 characters; what a person typed is cut there.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (a, b, distance) in
            [("", "", 0), ("echo", "echo", 0), ("ecko", "echo", 1), ("eho", "echo", 1), ("", "abc", 3)]
        {
            assert_eq!(edits(a, b), distance, "{a} {b}");
            assert_eq!(edits(b, a), distance, "{b} {a}");
        }
    }
}
