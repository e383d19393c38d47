// SPDX-License-Identifier: Apache-2.0
//! The server's side of an HTTP/2 connection, without the connection: bytes in, bytes out, by nghttp2.
//!
//! A control plane has thousands of connections, each of which says little and not often. What that costs is hardly what
//! is computed, it is how much memory of each connection must be looked at again each time. nghttp2 keeps little, and
//! leaves tasks, buffers and sockets to its user. Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK),
//! <https://nghttp2.org/documentation/>.
//!
//! | file | what it is |
//! |---|---|
//! | `session` | one connection: what its user can do |
//! | `callbacks` | what nghttp2 tells and asks meanwhile |
//! | `raw` | nghttp2's objects, freed when dropped |
//! | `head` | the beginning of a request, as it comes |
//! | `fields`, `room` | the fields of an answer, its body |
//!
//! What must always be true: nghttp2 calls back only while [`Session::receive`] or [`Session::transmit`] runs, and only
//! into the [`Streams`] that were handed to that call; nothing of nghttp2's memory outlives a call. A panic in [`Streams`]
//! goes on where that call was made.
//!
//! A crate of its own because it calls C, and its user forbids `unsafe`. Deliberately not here: sockets, time, and what a
//! request means.

mod callbacks;
mod fields;
mod head;
mod raw;
mod room;
mod session;

pub use self::room::Room;
pub use self::session::{Error, Session, Settings};

/// The number of a stream within its connection, always positive (RFC 9113, 5.1.1).
pub type StreamId = i32;

/// The streams of a session, as its user keeps them.
///
/// The session refuses some streams by itself. What comes on those, which its user does not know, is dealt with at once.
pub trait Streams {
    /// A client has opened a stream. The URI is the path with its query; scheme and authority are left out.
    fn opened(&mut self, stream: StreamId, request: http::Request<()>);
    /// A piece of a request's body. Returns how much of it is dealt with already; the rest counts against the stream's
    /// window until [`Session::consumed`].
    fn received(&mut self, stream: StreamId, bytes: &[u8]) -> usize;
    /// The client sends no more on this stream.
    fn finished(&mut self, stream: StreamId);
    /// The stream has ended, in whatever way. Nothing can be sent on it any more.
    fn closed(&mut self, stream: StreamId);
    /// There is room for more of the body of an answer.
    fn read(&mut self, stream: StreamId, room: &mut Room<'_>) -> Read;
}

/// What comes after what was put into the [`Room`].
#[derive(Debug)]
pub enum Read {
    /// More. If nothing was put there, [`Session::resume`] says when.
    Open,
    /// Nothing: the answer ends here.
    End,
    /// These fields, and then nothing.
    Trailers(http::HeaderMap),
}

#[cfg(test)]
mod tests;
