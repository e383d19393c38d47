// SPDX-License-Identifier: Apache-2.0
//! The answers that the proxy gives itself, when no endpoint took a request.
//!
//! A gRPC client gets a response of headers only, status 14 (UNAVAILABLE), with the reason as message: what its own library
//! would report for a failed connection. Everybody else gets 503 with the reason as text.

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// Whether the headers announce gRPC (`application/grpc`, with any suffix or parameter; not gRPC-Web).
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return false };
    kind.as_bytes()
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Answers that nobody could take the request. Fails when the client is gone, which is no matter.
pub(super) fn unavailable(respond: &mut SendResponse<Bytes>, grpc: bool, reason: &str) {
    if grpc {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(reason)) {
            headers.insert("grpc-message", message);
        }
        _ = respond.send_response(response, true);
        return;
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let body = format!("{reason}\n");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Ok(mut stream) = respond.send_response(response, false) {
        // Short enough for any window but zero; the engine holds it until there is one.
        _ = stream.send_data(body.into(), true);
    }
}

/// `grpc-message` as the gRPC protocol wants it: printable ASCII, the rest and `%` as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_grpc(&headers), expected, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_message_is_printable_ascii() {
        assert_eq!(percent_encoded("50 % für\n"), "50 %25 f%C3%BCr%0A");
    }
}
