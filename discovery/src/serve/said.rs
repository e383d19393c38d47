// SPDX-License-Identifier: Apache-2.0
//! What a method says, whoever serves it: the beginning of an answer, its pieces, its end. Deliberately not here: who says it,
//! and when.

use evenkeel_http2::Room;
use http::HeaderMap;
use http::response::Parts;
use hyper::body::Bytes;
use prost::bytes::Buf;

use super::body::Prefixed;

/// One thing that a method says.
pub(super) enum Said {
    /// How the answer begins, and whether that is all.
    Head(Box<Parts>, bool),
    Piece(Data),
    /// The answer ends here, with these trailers.
    End(HeaderMap),
    /// It broke off.
    Broken,
}

/// A piece of an answer.
pub(super) enum Data {
    Message(Prefixed),
    Bytes(Bytes),
}

// === impl Data ===

impl Data {
    /// Puts as much there as there is room for; whether that was all.
    pub(super) fn fill(&mut self, room: &mut Room<'_>) -> bool {
        match self {
            Self::Message(message) => fill(message, room),
            Self::Bytes(bytes) => fill(bytes, room),
        }
    }
}

fn fill(from: &mut impl Buf, room: &mut Room<'_>) -> bool {
    while from.has_remaining() && room.left() > 0 {
        let count = room.put(from.chunk());
        from.advance(count);
    }
    !from.has_remaining()
}
