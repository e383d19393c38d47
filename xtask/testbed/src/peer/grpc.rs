// SPDX-License-Identifier: Apache-2.0
//! As much of gRPC over HTTP/2 as one unary method needs: framing, and one message encoded by hand.
//!
//! The wire format is gRPC's ("PROTOCOL-HTTP2.md": five-byte prefix, trailers with `grpc-status`) and protobuf's (three
//! string fields), so that any proxy and any gRPC client take part. What must always be true: decoding never panics.
//! Deliberately not here: compression, streaming, generated code.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};

/// The one method of the demo's service.
pub(crate) const CALL: &str = "/evenkeel.demo.Echo/Call";
/// `content-type` of every request and response.
pub(crate) const CONTENT_TYPE: &str = "application/grpc";
/// The method's request: a message without fields.
pub(crate) const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; PREFIX]);
/// Compression flag and message length.
const PREFIX: usize = 5;

/// What a server answers: `message Reply { string pod = 1; string zone = 2; string peer = 3; }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The answering pod.
    pub(crate) pod: String,
    /// Its zone.
    pub(crate) zone: String,
    /// The address that the server saw its client at.
    pub(crate) peer: IpAddr,
}

impl Reply {
    /// A whole length-prefixed gRPC message.
    pub(crate) fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        for (number, text) in [(1, self.pod.as_str()), (2, &self.zone), (3, &self.peer.to_string())] {
            body.put_u8(number << 3 | 2); // wire type 2: length-delimited
            put_varint(&mut body, text.len());
            body.put_slice(text.as_bytes());
        }
        let mut frame = BytesMut::with_capacity(PREFIX + body.len());
        frame.put_u8(0); // not compressed
        frame.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        frame.put(body);
        frame.freeze()
    }

    /// Reads one whole message; `None` for anything that is not one.
    pub(crate) fn decode(frame: &[u8]) -> Option<Self> {
        let (prefix, mut body) = frame.split_at_checked(PREFIX)?;
        let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
        if prefix[0] != 0 || usize::try_from(length).ok()? != body.len() {
            return None;
        }
        let (mut pod, mut zone, mut peer) = (None, None, None);
        while let Some((&tag, rest)) = body.split_first() {
            let (length, rest) = take_varint(rest)?;
            let (text, rest) = rest.split_at_checked(length)?;
            let text = std::str::from_utf8(text).ok()?;
            match tag {
                0x0a => pod = Some(text.to_owned()),
                0x12 => zone = Some(text.to_owned()),
                0x1a => peer = Some(text.parse().ok()?),
                _ => return None,
            }
            body = rest;
        }
        Some(Self { pod: pod?, zone: zone?, peer: peer? })
    }
}

fn put_varint(buffer: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        buffer.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

fn take_varint(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    // Five groups of seven bits hold every length that gRPC's 32-bit prefix allows.
    for shift in (0..5).map(|group| group * 7) {
        let (&byte, rest) = bytes.split_first()?;
        value |= usize::from(byte & 0x7f) << shift;
        bytes = rest;
        if byte & 0x80 == 0 {
            return Some((value, bytes));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> Reply {
        Reply {
            pod: "echo-a1-1".into(),
            zone: "zone-a".into(),
            peer: "10.244.1.2".parse().expect("an address"),
        }
    }

    #[test]
    fn a_reply_survives_the_wire() {
        let long = Reply { pod: "p".repeat(300), ..reply() };
        assert_eq!(Reply::decode(&reply().encode()), Some(reply()));
        assert_eq!(Reply::decode(&long.encode()), Some(long));
    }

    #[test]
    fn nothing_but_a_whole_reply_is_accepted() {
        let frame = reply().encode();
        for cut in 0..frame.len() {
            assert_eq!(Reply::decode(&frame[..cut]), None, "cut at {cut}");
        }
        for at in 0..frame.len() {
            let mut broken = frame.to_vec();
            broken[at] ^= 0xff;
            assert_ne!(Reply::decode(&broken), Some(reply()), "broken at {at}");
        }
        assert_eq!(Reply::decode(&EMPTY_MESSAGE), None);
    }
}
