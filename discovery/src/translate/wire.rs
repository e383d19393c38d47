// SPDX-License-Identifier: Apache-2.0
//! Protobuf written field by field, for messages that are large, many, or have maps.
//!
//! What must always be true: bytes follow from the calls alone. Whoever calls decides the order of a map's entries.
//! Source: the encoding of Protocol Buffers (<https://protobuf.dev/programming-guides/encoding/>).

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// A message as field `tag`.
pub(super) fn message(out: &mut Vec<u8>, tag: u32, body: impl FnOnce(&mut Vec<u8>)) {
    encode_key(tag, WireType::LengthDelimited, out);
    let start = out.len();
    body(out);
    // The length comes before what it measures, and is itself of unknown length: the body makes room for it.
    let length = (out.len() - start) as u64;
    let room = encoded_len_varint(length);
    let end = out.len();
    out.resize(end + room, 0);
    out.copy_within(start..end, start + room);
    encode_varint(length, &mut &mut out[start..start + room]);
}

/// A text as field `tag`; the empty text is the default and is not written.
pub(super) fn text(out: &mut Vec<u8>, tag: u32, value: &str) {
    if !value.is_empty() {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(value.len() as u64, out);
        out.extend_from_slice(value.as_bytes());
    }
}

/// A number or enumeration as field `tag`; 0 is the default and is not written.
pub(super) fn number(out: &mut Vec<u8>, tag: u32, value: u32) {
    if value != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value.into(), out);
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
