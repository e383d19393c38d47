// SPDX-License-Identifier: Apache-2.0
//! A Service or a client by the name that a person typed: the whole name, or the part behind the slash where that is
//! unambiguous. Pure.

/// Typing errors up to this many edits are offered as "did you mean".
const CLOSE: usize = 2;
/// As many names are listed; more do not help.
const LISTED: usize = 5;
/// Longer texts are compared by their beginning.
const COMPARED: usize = 128;

/// Why nothing is meant. Each message says what exists.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("no {noun} is called {asked:?}; did you mean {}?", close.join(" or "))]
    Close { noun: &'static str, asked: String, close: Vec<String> },
    #[error("no {noun} is called {asked:?}; there are: {}{}", some.join(", "), more(*left))]
    Unknown { noun: &'static str, asked: String, some: Vec<String>, left: usize },
    #[error("no {noun} is called {asked:?}, and there is no other")]
    NoneAtAll { noun: &'static str, asked: String },
    #[error("{asked:?} is ambiguous: {}{}; {hint}", some.join(", "), more(*left))]
    Ambiguous { asked: String, some: Vec<String>, left: usize, hint: &'static str },
}

fn more(left: usize) -> String {
    if left == 0 { String::new() } else { format!(" and {left} more") }
}

/// Which of these Services (NAMESPACE/NAME) is meant.
pub(super) fn service<'n>(
    names: impl Iterator<Item = &'n str> + Clone,
    asked: &str,
) -> Result<&'n str, ResolveError> {
    let means = |name: &&str| match asked.contains('/') {
        true => *name == asked,
        false => own(name) == asked,
    };
    let found: Vec<&str> = names.clone().filter(means).collect();
    match found.as_slice() {
        [name] => Ok(name),
        [] => Err(nothing("Service that opted in", names, asked)),
        several => {
            Err(ambiguous(asked, several.iter().map(|name| (*name).to_owned()), "give NAMESPACE/NAME"))
        }
    }
}

/// Which of these clients (stream, id) is meant: by its id, else by the number of its stream.
pub(super) fn client<'n>(
    clients: impl Iterator<Item = (u64, &'n str)> + Clone,
    asked: &str,
) -> Result<u64, ResolveError> {
    let streams: Vec<u64> =
        clients.clone().filter(|(_, id)| *id == asked).map(|(stream, _)| stream).collect();
    match streams.as_slice() {
        [stream] => return Ok(*stream),
        [] => {}
        several => {
            let several = several.iter().map(|stream| format!("stream {stream}"));
            return Err(ambiguous(asked, several, "give the number of the stream"));
        }
    }
    match asked.parse::<u64>().ok().filter(|asked| clients.clone().any(|(stream, _)| stream == *asked)) {
        Some(stream) => Ok(stream),
        None => Err(nothing("client", clients.map(|(_, id)| id), asked)),
    }
}

fn ambiguous(asked: &str, names: impl Iterator<Item = String>, hint: &'static str) -> ResolveError {
    let mut some: Vec<String> = names.collect();
    let left = some.len().saturating_sub(LISTED);
    some.truncate(LISTED);
    ResolveError::Ambiguous { asked: asked.to_owned(), some, left, hint }
}

fn nothing<'n>(
    noun: &'static str,
    names: impl Iterator<Item = &'n str> + Clone,
    asked: &str,
) -> ResolveError {
    let is_close = |name: &&str| edits(own(asked), own(name)) <= CLOSE;
    let owned = str::to_owned;
    let close: Vec<String> = names.clone().filter(is_close).map(owned).take(LISTED).collect();
    let asked: String = asked.chars().take(COMPARED).collect();
    if !close.is_empty() {
        return ResolveError::Close { noun, asked, close };
    }
    let some: Vec<String> = names.clone().map(owned).take(LISTED).collect();
    if some.is_empty() {
        return ResolveError::NoneAtAll { noun, asked };
    }
    ResolveError::Unknown { noun, asked, left: names.count() - some.len(), some }
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

    fn find(asked: &str) -> Result<&'static str, String> {
        service(NAMES.into_iter(), asked).map_err(|error| error.to_string())
    }

    #[test]
    fn a_service_is_meant_by_its_name_where_that_is_unambiguous() {
        assert_eq!(find("demo/web"), Ok("demo/web"));
        assert_eq!(find("api"), Ok("demo/api"));
        assert_eq!(
            find("web"),
            Err("\"web\" is ambiguous: demo/web, prod/web; give NAMESPACE/NAME".to_owned())
        );
        assert!(find("demo/wep").unwrap_err().ends_with("did you mean demo/web or prod/web?"));
        assert!(find("something").unwrap_err().ends_with("there are: demo/web, prod/web, demo/api"));
        assert!(service([].into_iter(), "web").unwrap_err().to_string().ends_with("there is no other"));
    }

    #[test]
    fn a_client_is_meant_by_its_id_or_by_its_stream() {
        let clients = || [(1, "node-a"), (2, "7"), (7, "node-b"), (8, "node-c"), (9, "node-c")].into_iter();
        assert_eq!(client(clients(), "node-a"), Ok(1));
        assert_eq!(client(clients(), "7"), Ok(2), "an id goes before a number");
        assert_eq!(client(clients(), "8"), Ok(8));
        let error = client(clients(), "node-c").unwrap_err().to_string();
        assert_eq!(error, "\"node-c\" is ambiguous: stream 8, stream 9; give the number of the stream");
        assert!(client(clients(), "99").is_err());
    }
}
