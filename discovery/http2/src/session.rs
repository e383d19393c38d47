// SPDX-License-Identifier: Apache-2.0
//! One connection: what its user can do.

use std::ffi::{CStr, c_int};

use http::response::Parts;
use libnghttp2_sys as sys;

use crate::callbacks::{self, Calls};
use crate::fields::Fields;
use crate::head::Head;
use crate::raw::{Connection, Options};
use crate::{StreamId, Streams};

/// What the ping says that a connection is sent away with; clients send their own.
pub(crate) const PING: [u8; 8] = *b"goodbye.";

/// What a server announces, and holds clients to.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Streams that may be open at a time; further ones are refused.
    pub max_streams: u32,
    /// Bytes of requests that may wait to be read, for each stream and for the connection; at most 2^31 - 1.
    pub window: u32,
    /// Size of a request's fields, measured as in RFC 9113, 6.5.2. Larger ones are answered with 431.
    pub max_header_bytes: u32,
}

/// The connection cannot go on. What has been queued before may still be sent.
#[derive(Debug, thiserror::Error)]
#[error("HTTP/2: cannot {operation}: {reason}")]
pub struct Error {
    operation: &'static str,
    reason: String,
}

/// A server's side of a connection.
pub struct Session {
    connection: Connection,
    head: Option<Head>,
    max_header_bytes: usize,
}

// === impl Session ===

impl Session {
    /// A connection whose client has said nothing yet.
    ///
    /// # Errors
    /// There is no memory.
    pub fn server(settings: &Settings) -> Result<Self, Error> {
        let mut connection = Connection::server(&callbacks::callbacks()?, &Options::new()?)?;
        connection.announce(settings)?;
        Ok(Self { connection, head: None, max_header_bytes: settings.max_header_bytes as usize })
    }

    /// Takes what the client has sent.
    ///
    /// # Errors
    /// It is not HTTP/2 at all, or so wrong that nothing is to be said to it. Lesser faults are answered by the session.
    pub fn receive(&mut self, bytes: &[u8], streams: &mut dyn Streams) -> Result<(), Error> {
        let calls = Calls::new(streams, &mut self.head, self.max_header_bytes, None);
        let taken = calls.during(&mut self.connection, |raw| {
            // SAFETY: the session lives, and so do the bytes, of this length, until it returns.
            unsafe { sys::nghttp2_session_mem_recv2(raw, bytes.as_ptr(), bytes.len()) }
        });
        // Bytes are left over only if a callback asks for a pause, which none does.
        length("receive", taken).map(drop)
    }

    /// Appends the next bytes for the client, up to about two of the largest frames; nothing if there are none.
    ///
    /// # Errors
    /// There is no memory.
    pub fn transmit(&mut self, streams: &mut dyn Streams, out: &mut Vec<u8>) -> Result<(), Error> {
        loop {
            let mut bytes = std::ptr::null();
            let calls = Calls::new(&mut *streams, &mut self.head, self.max_header_bytes, Some(&mut *out));
            let count = calls.during(&mut self.connection, |raw| {
                // SAFETY: the session lives, and it writes a pointer to where it is told to.
                unsafe { sys::nghttp2_session_mem_send2(raw, &raw mut bytes) }
            });
            let count = length("transmit", count)?;
            if count > 0 {
                // SAFETY: nghttp2 has written a pointer to so many bytes. They live until its next call.
                out.extend_from_slice(unsafe { std::slice::from_raw_parts(bytes, count) });
            }
            // A body writes for itself, and then there are no bytes to be copied.
            if count == 0 || out.len() >= callbacks::ENOUGH {
                return Ok(());
            }
        }
    }

    /// Answers a request, once. `body`: [`Streams::read`] gives the rest; otherwise this is all.
    ///
    /// # Errors
    /// There is no memory. A stream that has ended meanwhile is no error.
    pub fn respond(&mut self, stream: StreamId, head: &Parts, body: bool) -> Result<(), Error> {
        let fields = Fields::answer(head.status.as_str(), &head.headers);
        let provider = callbacks::body();
        let provider = if body { &raw const provider } else { std::ptr::null() };
        let raw = self.connection.as_ptr();
        // SAFETY: the session lives; nghttp2 copies the fields and the provider.
        let queued =
            unsafe { sys::nghttp2_submit_response2(raw, stream, fields.as_ptr(), fields.len(), provider) };
        checked("answer", queued)
    }

    /// There is something to read of a body that had to wait. Does nothing for others.
    ///
    /// # Errors
    /// There is no memory.
    pub fn resume(&mut self, stream: StreamId) -> Result<(), Error> {
        // SAFETY: the session lives; it looks for the stream itself.
        let resumed = unsafe { sys::nghttp2_session_resume_data(self.connection.as_ptr(), stream) };
        match resumed {
            // It does not wait, or is no more.
            sys::NGHTTP2_ERR_INVALID_ARGUMENT => Ok(()),
            resumed => checked("go on", resumed),
        }
    }

    /// Bytes of a request have been dealt with, so the client may send as many more. The stream may have ended.
    ///
    /// # Errors
    /// There is no memory.
    pub fn consumed(&mut self, stream: StreamId, bytes: usize) -> Result<(), Error> {
        // SAFETY: the session lives; it looks for the stream itself.
        let consumed = unsafe { sys::nghttp2_session_consume(self.connection.as_ptr(), stream, bytes) };
        checked("ask for more", consumed)
    }

    /// Ends a stream without an answer, or without the rest of it.
    ///
    /// # Errors
    /// There is no memory.
    pub fn reset(&mut self, stream: StreamId) -> Result<(), Error> {
        // SAFETY: the session lives; it looks for the stream itself.
        let queued = unsafe {
            sys::nghttp2_submit_rst_stream(self.connection.as_ptr(), 0, stream, sys::NGHTTP2_INTERNAL_ERROR)
        };
        checked("reset", queued)
    }

    /// Tells the client to open no more streams; those that are open go on (RFC 9113, 6.8). A client that does not answer
    /// pings is never told which of its streams was the last.
    ///
    /// # Errors
    /// There is no memory.
    pub fn shut_down(&mut self) -> Result<(), Error> {
        let raw = self.connection.as_ptr();
        // SAFETY: the session lives.
        checked("send away", unsafe { sys::nghttp2_submit_shutdown_notice(raw) })?;
        // SAFETY: the session lives, and the 8 bytes until it returns.
        checked("ping", unsafe { sys::nghttp2_submit_ping(raw, 0, PING.as_ptr()) })
    }

    /// Whether [`Session::transmit`] may have something.
    #[must_use]
    pub fn wants_to_transmit(&self) -> bool {
        // SAFETY: the session lives; this only looks at it.
        unsafe { sys::nghttp2_session_want_write(self.connection.as_ptr()) != 0 }
    }

    /// Whether nothing more is to be said or heard: the connection can be closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        // SAFETY: the session lives; this only looks at it.
        !self.wants_to_transmit() && unsafe { sys::nghttp2_session_want_read(self.connection.as_ptr()) == 0 }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}

// === impl Error ===

impl Error {
    pub(crate) fn memory() -> Self {
        Self { operation: "begin", reason: "out of memory".to_owned() }
    }
}

/// What most functions return.
pub(crate) fn checked(operation: &'static str, code: c_int) -> Result<(), Error> {
    match code {
        0.. => Ok(()),
        code => Err(Error { operation, reason: words(code) }),
    }
}

/// What functions return that count bytes.
fn length(operation: &'static str, count: isize) -> Result<usize, Error> {
    usize::try_from(count).map_err(|_| {
        let code = c_int::try_from(count).unwrap_or(c_int::MIN);
        Error { operation, reason: words(code) }
    })
}

fn words(code: c_int) -> String {
    // SAFETY: it returns a pointer to a constant text for any number.
    let text = unsafe { CStr::from_ptr(sys::nghttp2_strerror(code)) };
    text.to_string_lossy().into_owned()
}
