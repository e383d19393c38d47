// SPDX-License-Identifier: Apache-2.0
//! The beginning of a request, as it comes: field by field.
//!
//! Sources: RFC 9113, 8.3.1 (pseudo-header fields) and 6.5.2 (how a list of fields is measured). nghttp2 has checked what
//! the RFC asks of fields. Deliberately not here: scheme and authority, which no method of gRPC depends on.

use http::{HeaderName, HeaderValue, Method, Request, Uri};

use crate::StreamId;

/// What each field counts beside its bytes.
const FIELD: usize = 32;

/// See the module.
pub(crate) struct Head {
    pub(crate) stream: StreamId,
    request: Request<()>,
    size: usize,
    fault: Option<Fault>,
}

/// Why a request is not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its fields are larger than what was announced.
    TooLarge,
    /// It is no request.
    Malformed,
}

// === impl Head ===

impl Head {
    pub(crate) fn new(stream: StreamId) -> Self {
        Self { stream, request: Request::new(()), size: 0, fault: None }
    }

    /// One more field; what is beyond `most` bytes is forgotten.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8], most: usize) {
        self.size += name.len() + value.len() + FIELD;
        if self.size > most {
            self.fault = Some(Fault::TooLarge);
            self.request.headers_mut().clear();
        }
        if self.fault.is_none() && self.take(name, value).is_none() {
            self.fault = Some(Fault::Malformed);
        }
    }

    pub(crate) fn finish(self) -> Result<Request<()>, Fault> {
        self.fault.map_or(Ok(self.request), Err)
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        match name {
            b":method" => *self.request.method_mut() = Method::from_bytes(value).ok()?,
            b":path" => *self.request.uri_mut() = Uri::try_from(value).ok()?,
            [b':', ..] => {}
            _ => {
                let name = HeaderName::from_bytes(name).ok()?;
                self.request.headers_mut().try_append(name, HeaderValue::from_bytes(value).ok()?).ok()?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)], most: usize) -> Result<Request<()>, Fault> {
        let mut head = Head::new(1);
        fields.iter().for_each(|(name, value)| head.add(name.as_bytes(), value.as_bytes(), most));
        head.finish()
    }

    #[test]
    fn fields_become_a_request() {
        let fields =
            [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C?d"), ("te", "x"), ("te", "y")];
        let request = head(&fields, 1_000).unwrap();
        assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/a.B/C"));
        assert_eq!(request.headers().get_all("te").iter().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(request.headers().len(), 2);
    }

    #[test]
    fn what_is_too_large_or_no_request_is_told_apart() {
        let size = ":path".len() + "/".len() + FIELD;
        assert!(head(&[(":path", "/")], size).is_ok());
        assert_eq!(head(&[(":path", "/")], size - 1).unwrap_err(), Fault::TooLarge);
        assert_eq!(head(&[(":path", "\u{1}")], 1_000).unwrap_err(), Fault::Malformed);
        assert_eq!(head(&[("a b", "c")], 1_000).unwrap_err(), Fault::Malformed);
    }
}
