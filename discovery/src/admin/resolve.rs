// SPDX-License-Identifier: Apache-2.0
//! A client by the name that a person typed: its id, else the number of its stream. Pure.

use evenkeel_console::resolve::{Noun, ResolveError};

static CLIENT: Noun =
    Noun { no: "no client is called", is: "", others: "there are:", none: "and there is no other" };

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
            return Err(ResolveError::ambiguous(asked, several, "give the number of the stream"));
        }
    }
    match asked.parse::<u64>().ok().filter(|asked| clients.clone().any(|(stream, _)| stream == *asked)) {
        Some(stream) => Ok(stream),
        None => Err(ResolveError::nothing(&CLIENT, clients.map(|(_, id)| id), asked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
