// SPDX-License-Identifier: Apache-2.0
//! The few bytes of gRPC and protobuf that a measuring client has to understand.
//!
//! Responses are scanned, not decoded: a client that built every message would take from the server the cores that both
//! share here, and then be measured itself. Sources: gRPC over HTTP/2 (length-prefixed messages), the protobuf encoding
//! guide, and the field numbers of `envoy/service/discovery/v3/discovery.proto`. Deliberately not here: compression, which
//! no client asks for.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

use crate::discovery::plan::Mode;

/// Bytes before a message: compressed or not, and its length.
const PREFIX: usize = 5;

/// A request as it goes onto the stream.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(length as u32);
    out.put_slice(&message.encode_to_vec());
    out.freeze()
}

/// The next whole message, if all of it is there.
pub(super) fn unframe(buffer: &mut BytesMut) -> Result<Option<Bytes>> {
    let Some((prefix, rest)) = buffer.split_at_checked(PREFIX) else { return Ok(None) };
    ensure!(prefix[0] == 0, "the server compresses, which was not asked for");
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if rest.len() < length {
        buffer.reserve(PREFIX + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// What a client looks at in a response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Response<'a> {
    pub(super) type_url: &'a str,
    pub(super) nonce: &'a str,
    /// The version of the whole response; state of the world only.
    pub(super) version: &'a str,
    /// Name and body.
    pub(super) resources: Vec<(&'a [u8], &'a [u8])>,
}

/// Scans a `DeltaDiscoveryResponse` or a `DiscoveryResponse`.
pub(super) fn scan(mode: Mode, message: &[u8]) -> Result<Response<'_>> {
    let mut response = Response::default();
    for field in Fields(message) {
        match (field?, mode) {
            ((1, bytes), _) => response.version = text(bytes)?,
            ((2, bytes), Mode::Delta) => response.resources.push(resource(bytes)?),
            ((2, bytes), Mode::Sotw) => response.resources.push(any(bytes)?),
            ((4, bytes), _) => response.type_url = text(bytes)?,
            ((5, bytes), _) => response.nonce = text(bytes)?,
            _ => {}
        }
    }
    Ok(response)
}

/// A delta `Resource`: the name is field 3, the `Any` field 2.
fn resource(message: &[u8]) -> Result<(&[u8], &[u8])> {
    let (mut name, mut body): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields(message) {
        match field? {
            (3, bytes) => name = bytes,
            (2, bytes) => body = find(bytes, 2)?,
            _ => {}
        }
    }
    Ok((name, body))
}

/// An `Any` of a state-of-the-world response. A cluster's name is its field 1, a Service's its field 2.
fn any(message: &[u8]) -> Result<(&[u8], &[u8])> {
    let body = find(message, 2)?;
    let of_service = find(message, 1)?.ends_with(b".Service");
    Ok((find(body, if of_service { 2 } else { 1 })?, body))
}

fn find(message: &[u8], number: u32) -> Result<&[u8]> {
    for field in Fields(message) {
        let (found, bytes) = field?;
        if found == number {
            return Ok(bytes);
        }
    }
    Ok(&[])
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).context("a text field is not UTF-8")
}

/// The length-delimited fields of a message; others are stepped over.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.step() {
                Ok(None) => {}
                Ok(Some(field)) => return Some(Ok(field)),
                Err(error) => {
                    self.0 = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl<'a> Fields<'a> {
    fn step(&mut self) -> Result<Option<(u32, &'a [u8])>> {
        let key = self.varint()?;
        let skipped = match key & 7 {
            0 => return self.varint().map(|_| None),
            1 => 8,
            2 => {
                let length = usize::try_from(self.varint()?)?;
                return Ok(Some((u32::try_from(key >> 3)?, self.take(length)?)));
            }
            5 => 4,
            other => bail!("wire type {other}"),
        };
        self.take(skipped).map(|_| None)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a varint of more than ten bytes")
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).context("the message is cut short")?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::{
        envoy::{
            config::endpoint::v3::ClusterLoadAssignment,
            service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource},
        },
        google::protobuf::Any,
    };

    use super::*;

    fn body() -> Any {
        let cluster = ClusterLoadAssignment { cluster_name: "svc-1".into(), ..Default::default() };
        Any { type_url: "t".into(), value: cluster.encode_to_vec() }
    }

    #[test]
    fn a_scanned_delta_response_says_what_a_decoded_one_says() {
        let resource = Resource {
            name: "svc-1".into(),
            version: "v".into(),
            resource: Some(body()),
            ..Default::default()
        };
        let message = DeltaDiscoveryResponse {
            type_url: "t".into(),
            nonce: "7".into(),
            resources: vec![resource],
            removed_resources: vec!["gone".into()],
            ..Default::default()
        };
        let bytes = message.encode_to_vec();
        let response = scan(Mode::Delta, &bytes).unwrap();
        assert_eq!((response.type_url, response.nonce), ("t", "7"));
        assert_eq!(response.resources, [(&b"svc-1"[..], &body().value[..])]);
    }

    #[test]
    fn a_scanned_sotw_response_names_its_resources_too() {
        let message = DiscoveryResponse {
            type_url: "t".into(),
            nonce: "7".into(),
            version_info: "v".into(),
            resources: vec![body()],
            ..Default::default()
        };
        let bytes = message.encode_to_vec();
        let response = scan(Mode::Sotw, &bytes).unwrap();
        assert_eq!((response.version, response.resources[0].0), ("v", &b"svc-1"[..]));
    }

    #[test]
    fn what_is_cut_short_is_an_error_and_not_a_smaller_message() {
        let bytes = DiscoveryResponse { nonce: "123456".into(), ..Default::default() }.encode_to_vec();
        for end in 1..bytes.len() {
            assert!(scan(Mode::Sotw, &bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn messages_come_out_of_the_stream_as_they_went_in_however_it_was_cut() {
        let message = DiscoveryResponse { nonce: "n".into(), ..Default::default() };
        let bytes = [&frame(&message)[..], &frame(&message)[..]].concat();
        let (mut buffer, mut found) = (BytesMut::new(), 0);
        for byte in bytes {
            buffer.put_u8(byte);
            while let Some(whole) = unframe(&mut buffer).unwrap() {
                assert_eq!(whole, message.encode_to_vec());
                found += 1;
            }
        }
        assert_eq!((found, buffer.len()), (2, 0));
    }
}
