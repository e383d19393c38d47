// SPDX-License-Identifier: Apache-2.0
//! Protobuf written field by field, for messages that are large, many, or have maps.
//!
//! What must always be true: bytes follow from the calls alone. Whoever calls decides the order of a map's entries.
//! Source: the encoding of Protocol Buffers (<https://protobuf.dev/programming-guides/encoding/>).

use std::net::IpAddr;

use prost::encoding::{WireType, encode_varint, encoded_len_varint};

/// Numbers below this are one byte as a varint.
const SHORT: usize = 0x80;

/// A message as field `tag`.
pub(super) fn message(out: &mut Vec<u8>, tag: u32, body: impl FnOnce(&mut Vec<u8>)) {
    place(out, tag, body);
}

/// The same; returns where its body begins, which is not where it began while it was written.
pub(super) fn place(out: &mut Vec<u8>, tag: u32, body: impl FnOnce(&mut Vec<u8>)) -> usize {
    key(out, tag, WireType::LengthDelimited);
    // The length comes before what it measures. Most messages are short: one byte waits for it.
    let at = out.len();
    out.push(0);
    body(out);
    match u8::try_from(out.len() - at - 1) {
        Ok(length) if usize::from(length) < SHORT => {
            out[at] = length;
            at + 1
        }
        _ => widen(out, at),
    }
}

/// Writes the length of what follows the byte at `at` there, where it takes more than that byte. Returns its end.
fn widen(out: &mut Vec<u8>, at: usize) -> usize {
    let end = out.len();
    let length = (end - at - 1) as u64;
    let room = encoded_len_varint(length);
    out.resize(end + room - 1, 0);
    out.copy_within(at + 1..end, at + room);
    encode_varint(length, &mut &mut out[at..at + room]);
    at + room
}

/// A text as field `tag`; the empty text is the default and is not written.
pub(super) fn text(out: &mut Vec<u8>, tag: u32, value: &str) {
    if !value.is_empty() {
        key(out, tag, WireType::LengthDelimited);
        varint(out, value.len() as u64);
        out.extend_from_slice(value.as_bytes());
    }
}

/// An address as a text.
pub(super) fn address(out: &mut Vec<u8>, tag: u32, address: IpAddr) {
    match address {
        IpAddr::V4(address) => message(out, tag, |out| {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                decimal(out, octet);
            }
        }),
        IpAddr::V6(address) => text(out, tag, &address.to_string()),
    }
}

/// What `Display` writes, at a tenth of its cost: there is one for each byte of each endpoint's address.
fn decimal(out: &mut Vec<u8>, number: u8) {
    if number >= 100 {
        out.push(b'0' + number / 100);
    }
    if number >= 10 {
        out.push(b'0' + number / 10 % 10);
    }
    out.push(b'0' + number % 10);
}

/// A number or enumeration as field `tag`; 0 is the default and is not written.
pub(super) fn number(out: &mut Vec<u8>, tag: u32, value: u32) {
    if value != 0 {
        key(out, tag, WireType::Varint);
        varint(out, value.into());
    }
}

/// A `google.protobuf.UInt32Value` as field `tag`: it is there even if it is 0.
pub(super) fn wrapped(out: &mut Vec<u8>, tag: u32, value: u32) {
    message(out, tag, |out| number(out, 1, value));
}

/// An entry of a map as field `tag`.
pub(super) fn entry(out: &mut Vec<u8>, tag: u32, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    message(out, tag, |out| {
        text(out, 1, key);
        message(out, 2, value);
    });
}

fn key(out: &mut Vec<u8>, tag: u32, kind: WireType) {
    varint(out, u64::from(tag << 3 | kind as u32));
}

fn varint(out: &mut Vec<u8>, value: u64) {
    match u8::try_from(value) {
        Ok(short) if usize::from(short) < SHORT => out.push(short),
        _ => encode_varint(value, out),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn written(body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        body(&mut out);
        out
    }

    #[test]
    fn a_message_is_its_length_and_its_body_however_long_it_is() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 70_000] {
            let body = vec![7; length];
            let mut expected = Vec::new();
            prost::encoding::bytes::encode(300, &body, &mut expected);
            assert_eq!(written(|out| message(out, 300, |out| out.extend_from_slice(&body))), expected);
        }
    }

    #[test]
    fn an_address_is_written_as_it_is_displayed() {
        let every = (0..=u8::MAX).map(|octet| IpAddr::from(Ipv4Addr::new(octet, 0, 255, octet)));
        let sixth = ["::", "::ffff:10.0.0.1", "2001:db8::ff00:42:8329"].map(|text| text.parse().unwrap());
        for one in every.chain(sixth) {
            assert_eq!(
                written(|out| address(out, 2, one)),
                written(|out| text(out, 2, &one.to_string())),
                "{one}"
            );
        }
    }
}
