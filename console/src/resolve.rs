// SPDX-License-Identifier: Apache-2.0
//! What a person means by a name: the whole name, or the part behind the slash where that is unambiguous. Pure.

use tonic::Status;

/// Typing errors up to this many edits are offered as "did you mean".
const CLOSE: usize = 2;
/// As many names are listed; more do not help.
const LISTED: usize = 5;
/// Longer texts are compared, and told, by their beginning.
const COMPARED: usize = 128;

/// What is looked for, in the words of messages.
#[derive(Debug, PartialEq, Eq)]
pub struct Noun {
    /// What stands before the name, for example "no client is called".
    pub no: &'static str,
    /// What stands after it, if anything.
    pub is: &'static str,
    /// What introduces those that there are.
    pub others: &'static str,
    /// What is said when there are none.
    pub none: &'static str,
}

/// A Service, by NAMESPACE/NAME.
pub const SERVICE: Noun = Noun {
    no: "no Service",
    is: " has opted in",
    others: "those that have:",
    none: "nor has any other; label one with evenkeel.io/balance",
};

/// Why nothing is meant. Each message says what exists.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Something like it is there.
    #[error("{} {asked:?}{}; did you mean {}?", noun.no, noun.is, close.join(" or "))]
    Close {
        /// What was looked for.
        noun: &'static Noun,
        /// As typed.
        asked: String,
        /// What may have been meant.
        close: Vec<String>,
    },
    /// Nothing like it is there.
    #[error("{} {asked:?}{}; {} {}{}", noun.no, noun.is, noun.others, some.join(", "), more(*left))]
    Unknown {
        /// What was looked for.
        noun: &'static Noun,
        /// As typed.
        asked: String,
        /// Some that there are.
        some: Vec<String>,
        /// How many more there are.
        left: usize,
    },
    /// There is nothing at all.
    #[error("{} {asked:?}{}, {}", noun.no, noun.is, noun.none)]
    NoneAtAll {
        /// What was looked for.
        noun: &'static Noun,
        /// As typed.
        asked: String,
    },
    /// Several are called so.
    #[error("{asked:?} is ambiguous: {}{}; {hint}", some.join(", "), more(*left))]
    Ambiguous {
        /// As typed.
        asked: String,
        /// Some of them.
        some: Vec<String>,
        /// How many more there are.
        left: usize,
        /// What tells them apart.
        hint: &'static str,
    },
}

fn more(left: usize) -> String {
    if left == 0 { String::new() } else { format!(" and {left} more") }
}

/// Which of these Services, each with its NAMESPACE/NAME, is meant.
///
/// # Errors
/// None of them, or several.
pub fn service<'n, S: Copy>(
    services: impl Iterator<Item = (&'n str, S)> + Clone,
    asked: &str,
) -> Result<S, ResolveError> {
    let means = |(name, _): &(&str, S)| match asked.contains('/') {
        true => *name == asked,
        false => own(name) == asked,
    };
    let found: Vec<(&str, S)> = services.clone().filter(means).collect();
    match found.as_slice() {
        [(_, service)] => Ok(*service),
        [] => Err(ResolveError::nothing(&SERVICE, services.map(|(name, _)| name), asked)),
        several => {
            let several = several.iter().map(|(name, _)| (*name).to_owned());
            Err(ResolveError::ambiguous(asked, several, "give NAMESPACE/NAME"))
        }
    }
}

impl ResolveError {
    /// Several are called `asked`; `hint` says how to name one of them.
    pub fn ambiguous(asked: &str, names: impl Iterator<Item = String>, hint: &'static str) -> Self {
        let mut some: Vec<String> = names.collect();
        let left = some.len().saturating_sub(LISTED);
        some.truncate(LISTED);
        Self::Ambiguous { asked: asked.to_owned(), some, left, hint }
    }

    /// None of `names` is called `asked`.
    pub fn nothing<'n>(
        noun: &'static Noun,
        names: impl Iterator<Item = &'n str> + Clone,
        asked: &str,
    ) -> Self {
        let is_close = |name: &&str| edits(own(asked), own(name)) <= CLOSE;
        let owned = str::to_owned;
        let close: Vec<String> = names.clone().filter(is_close).map(owned).take(LISTED).collect();
        let asked: String = asked.chars().take(COMPARED).collect();
        if !close.is_empty() {
            return Self::Close { noun, asked, close };
        }
        let some: Vec<String> = names.clone().map(owned).take(LISTED).collect();
        if some.is_empty() {
            return Self::NoneAtAll { noun, asked };
        }
        Self::Unknown { noun, asked, left: names.count() - some.len(), some }
    }
}

impl From<ResolveError> for Status {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Ambiguous { .. } => Self::invalid_argument(error.to_string()),
            _ => Self::not_found(error.to_string()),
        }
    }
}

fn own(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

/// Edit distance (Levenshtein), by two rows.
fn edits(a: &str, b: &str) -> usize {
    let compared = |text: &str| -> Vec<char> { text.chars().take(COMPARED).collect() };
    let (a, b) = (compared(a), compared(b));
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

    const NAMES: [&str; 3] = ["demo/web", "prod/web", "demo/api"];

    fn named<'n>(names: &[&'n str], asked: &str) -> Result<&'n str, ResolveError> {
        service(names.iter().map(|name| (*name, *name)), asked)
    }

    fn find(asked: &str) -> Result<&'static str, String> {
        named(&NAMES, asked).map_err(|error| error.to_string())
    }

    #[test]
    fn a_service_is_meant_by_its_name_where_that_is_unambiguous() {
        assert_eq!(find("demo/web"), Ok("demo/web"));
        assert_eq!(find("api"), Ok("demo/api"));
        assert_eq!(
            find("web"),
            Err("\"web\" is ambiguous: demo/web, prod/web; give NAMESPACE/NAME".to_owned())
        );
        assert_eq!(
            find("demo/wep"),
            Err("no Service \"demo/wep\" has opted in; did you mean demo/web or prod/web?".to_owned())
        );
        assert!(find("something").unwrap_err().ends_with("those that have: demo/web, prod/web, demo/api"));
        assert!(named(&[], "web").unwrap_err().to_string().contains("nor has any other"));
    }

    #[test]
    fn no_more_names_are_listed_than_help() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let error = named(&names, "something").unwrap_err().to_string();
        assert!(error.ends_with("a, b, c, d, e and 2 more"), "{error}");
    }

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
