// SPDX-License-Identifier: Apache-2.0
//! Protobuf fields of text and bytes, written and measured without building a message.
//!
//! Source: the protobuf encoding document, "length-delimited records". What must always be true: what is measured is
//! what is written.

use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// Writes the head of a length-delimited field; `len` bytes have to follow.
pub(crate) fn put_head(out: &mut impl BufMut, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// Writes a length-delimited field.
pub(crate) fn put(out: &mut impl BufMut, tag: u32, body: &[u8]) {
    put_head(out, tag, body.len());
    out.put_slice(body);
}

/// Writes a singular text or bytes field, which is left out when empty.
pub(crate) fn put_scalar(out: &mut impl BufMut, tag: u32, body: &[u8]) {
    if !body.is_empty() {
        put(out, tag, body);
    }
}

/// Bytes that [`put`] writes for a body of this length.
pub(crate) fn len(tag: u32, body: usize) -> usize {
    key_len(tag) + encoded_len_varint(body as u64) + body
}

/// Bytes that [`put_scalar`] writes for a body of this length.
pub(crate) fn scalar_len(tag: u32, body: usize) -> usize {
    if body == 0 { 0 } else { len(tag, body) }
}
