// SPDX-License-Identifier: Apache-2.0
//! What nghttp2 tells and asks while it reads and writes.
//!
//! Each function finds its [`Calls`] where [`Calls::during`] has put them. What must always be true: no panic passes
//! through C; it is kept, and goes on once nghttp2 has returned.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;

use libnghttp2_sys as sys;

use crate::fields::Fields;
use crate::head::{Fault, Head};
use crate::raw::{Callbacks, Connection};
use crate::room::{HEADER, Room};
use crate::session::{Error, PING};
use crate::{Read, StreamId, Streams};

const OK: c_int = 0;
// As a frame's header has them: in a byte (RFC 9113, 4.1).
const END_STREAM: u8 = sys::NGHTTP2_FLAG_END_STREAM as u8;
const ACK: u8 = sys::NGHTTP2_FLAG_ACK as u8;
const DATA: u8 = sys::NGHTTP2_DATA as u8;
const HEADERS: u8 = sys::NGHTTP2_HEADERS as u8;
const PING_FRAME: u8 = sys::NGHTTP2_PING as u8;
/// No frame is begun once there are so many bytes: what the largest of them holds.
pub(crate) const ENOUGH: usize = 16 << 10;

/// What the functions work on during one call into nghttp2.
pub(crate) struct Calls<'a> {
    streams: &'a mut dyn Streams,
    /// A request whose fields have come in part.
    head: &'a mut Option<Head>,
    max_header_bytes: usize,
    /// Where frames go; `None` while the session receives.
    out: Option<&'a mut Vec<u8>>,
    /// Where the frame begins that is being made.
    frame: Option<usize>,
    panic: Option<Box<dyn Any + Send>>,
}

// === impl Calls ===

impl<'a> Calls<'a> {
    pub(crate) fn new(
        streams: &'a mut dyn Streams,
        head: &'a mut Option<Head>,
        max_header_bytes: usize,
        out: Option<&'a mut Vec<u8>>,
    ) -> Self {
        Self { streams, head, max_header_bytes, out, frame: None, panic: None }
    }

    /// Calls nghttp2, which calls back.
    pub(crate) fn during<R>(
        mut self,
        connection: &mut Connection,
        call: impl FnOnce(*mut sys::nghttp2_session) -> R,
    ) -> R {
        let raw = connection.as_ptr();
        // SAFETY: `self` lives until the pointer to it is taken away again below, and is used through that pointer only.
        unsafe { sys::nghttp2_session_set_user_data(raw, (&raw mut self).cast()) };
        let result = call(raw);
        // SAFETY: null is what the session had before.
        unsafe { sys::nghttp2_session_set_user_data(raw, null_mut()) };
        self.drop_frame();
        match self.panic {
            Some(panic) => resume_unwind(panic),
            None => result,
        }
    }

    fn opened(&mut self, session: *mut sys::nghttp2_session) -> c_int {
        let Some(head) = self.head.take() else { return OK };
        let stream = head.stream;
        match head.finish() {
            Ok(request) => {
                self.streams.opened(stream, request);
                OK
            }
            Err(Fault::TooLarge) => too_large(session, stream),
            Err(Fault::Malformed) => reset(session, stream, sys::NGHTTP2_PROTOCOL_ERROR),
        }
    }

    /// Bytes that were read, or an error, and flags.
    fn read(&mut self, session: *mut sys::nghttp2_session, stream: StreamId, size: usize) -> (isize, u32) {
        self.drop_frame();
        let Some(out) = self.out.as_deref_mut() else {
            return (sys::NGHTTP2_ERR_CALLBACK_FAILURE as isize, 0);
        };
        if out.len() >= ENOUGH {
            return (sys::NGHTTP2_ERR_PAUSE as isize, 0);
        }
        let mut room = Room::new(out, size);
        let read = self.streams.read(stream, &mut room);
        let (count, mut flags) = match room.filled() {
            0 => {
                room.give_up();
                (0, 0)
            }
            count => {
                self.frame = Some(room.keep());
                (count.cast_signed(), sys::NGHTTP2_DATA_FLAG_NO_COPY)
            }
        };
        match read {
            Read::Open if count == 0 => return (sys::NGHTTP2_ERR_DEFERRED as isize, 0),
            Read::Open => {}
            Read::End => flags |= sys::NGHTTP2_DATA_FLAG_EOF,
            Read::Trailers(trailers) => {
                let fields = Fields::of(&trailers);
                // SAFETY: nghttp2 passed the session, and allows this call in this callback; it copies the fields.
                let queued =
                    unsafe { sys::nghttp2_submit_trailer(session, stream, fields.as_ptr(), fields.len()) };
                if queued < 0 {
                    return (queued as isize, 0);
                }
                flags |= sys::NGHTTP2_DATA_FLAG_EOF | sys::NGHTTP2_DATA_FLAG_NO_END_STREAM;
            }
        }
        (count, flags)
    }

    /// The header of the frame that was made last, or of one without a body.
    fn head_frame(&mut self, header: &[u8]) -> c_int {
        let Some(out) = self.out.as_deref_mut() else { return sys::NGHTTP2_ERR_CALLBACK_FAILURE };
        match self.frame.take() {
            Some(start) => out[start..start + HEADER].copy_from_slice(header),
            None => out.extend_from_slice(header),
        }
        OK
    }

    /// A frame that was made, and then was not to be sent.
    fn drop_frame(&mut self) {
        if let (Some(start), Some(out)) = (self.frame.take(), self.out.as_deref_mut()) {
            out.truncate(start);
        }
    }
}

/// The functions of this module, as nghttp2 wants them.
pub(crate) fn callbacks() -> Result<Callbacks, Error> {
    let callbacks = Callbacks::new()?;
    let raw = callbacks.as_ptr();
    // SAFETY: `raw` is a living object; these only write pointers to functions to it, each of the type that is asked for.
    unsafe {
        sys::nghttp2_session_callbacks_set_on_begin_headers_callback(raw, Some(on_begin_headers));
        sys::nghttp2_session_callbacks_set_on_header_callback(raw, Some(on_header));
        sys::nghttp2_session_callbacks_set_on_frame_recv_callback(raw, Some(on_frame_recv));
        sys::nghttp2_session_callbacks_set_on_data_chunk_recv_callback(raw, Some(on_data));
        sys::nghttp2_session_callbacks_set_on_frame_send_callback(raw, Some(on_frame_send));
        sys::nghttp2_session_callbacks_set_send_data_callback(raw, Some(on_send_data));
        sys::nghttp2_session_callbacks_set_on_stream_close_callback(raw, Some(on_stream_close));
    }
    Ok(callbacks)
}

/// What an answer with a body is given: [`Streams::read`].
pub(crate) fn body() -> sys::nghttp2_data_provider2 {
    let source = sys::nghttp2_data_source { ptr: null_mut() };
    sys::nghttp2_data_provider2 { source, read_callback: Some(on_read) }
}

/// Runs a callback; a panic is kept for later and fails the session.
///
/// # Safety
/// `user_data` is what nghttp2 passes to a callback of a session.
unsafe fn with<R>(user_data: *mut c_void, failed: R, run: impl FnOnce(&mut Calls<'_>) -> R) -> R {
    // SAFETY: nghttp2 calls back only while `Calls::during` runs, which has put a pointer to living `Calls` there that
    // nobody else uses meanwhile. Callbacks do not nest: none of those below calls a function that calls back.
    let Some(calls) = (unsafe { user_data.cast::<Calls<'_>>().as_mut() }) else { return failed };
    match catch_unwind(AssertUnwindSafe(|| run(calls))) {
        Ok(result) => result,
        Err(panic) => {
            calls.panic = Some(panic);
            failed
        }
    }
}

unsafe extern "C" fn on_begin_headers(
    _: *mut sys::nghttp2_session,
    frame: *const sys::nghttp2_frame,
    user_data: *mut c_void,
) -> c_int {
    let begin = |calls: &mut Calls<'_>| {
        // SAFETY: nghttp2 passes a frame that lives until this returns, and it is a HEADERS frame.
        let headers = unsafe { &(*frame).headers };
        if headers.cat == sys::NGHTTP2_HCAT_REQUEST {
            *calls.head = Some(Head::new(headers.hd.stream_id));
        }
        OK
    };
    // SAFETY: this is a callback.
    unsafe { with(user_data, sys::NGHTTP2_ERR_CALLBACK_FAILURE, begin) }
}

unsafe extern "C" fn on_header(
    _: *mut sys::nghttp2_session,
    frame: *const sys::nghttp2_frame,
    name: *const u8,
    name_length: usize,
    value: *const u8,
    value_length: usize,
    _: u8,
    user_data: *mut c_void,
) -> c_int {
    let add = |calls: &mut Calls<'_>| {
        // SAFETY: nghttp2 passes a frame that lives until this returns; every frame has a header.
        let stream = unsafe { (*frame).hd.stream_id };
        // SAFETY: so do the bytes, of these lengths; empty ones end with a zero and so are not null.
        let name = unsafe { std::slice::from_raw_parts(name, name_length) };
        // SAFETY: as above.
        let value = unsafe { std::slice::from_raw_parts(value, value_length) };
        // Trailers of a request say nothing that matters here.
        if let Some(head) = calls.head.as_mut().filter(|head| head.stream == stream) {
            head.add(name, value, calls.max_header_bytes);
        }
        OK
    };
    // SAFETY: this is a callback.
    unsafe { with(user_data, sys::NGHTTP2_ERR_CALLBACK_FAILURE, add) }
}

unsafe extern "C" fn on_frame_recv(
    session: *mut sys::nghttp2_session,
    frame: *const sys::nghttp2_frame,
    user_data: *mut c_void,
) -> c_int {
    let take = |calls: &mut Calls<'_>| {
        // SAFETY: nghttp2 passes a frame that lives until this returns; every frame has a header.
        let header = unsafe { (*frame).hd };
        let status = match header.type_ {
            // SAFETY: its type says which member of the union it is.
            HEADERS if unsafe { (*frame).headers.cat } == sys::NGHTTP2_HCAT_REQUEST => calls.opened(session),
            // SAFETY: as above.
            PING_FRAME if header.flags & ACK != 0 && unsafe { (*frame).ping.opaque_data } == PING => {
                go_away(session)
            }
            _ => OK,
        };
        if matches!(header.type_, DATA | HEADERS) && header.flags & END_STREAM != 0 {
            calls.streams.finished(header.stream_id);
        }
        status
    };
    // SAFETY: this is a callback.
    unsafe { with(user_data, sys::NGHTTP2_ERR_CALLBACK_FAILURE, take) }
}

unsafe extern "C" fn on_data(
    session: *mut sys::nghttp2_session,
    _: u8,
    stream: StreamId,
    data: *const u8,
    length: usize,
    user_data: *mut c_void,
) -> c_int {
    let take = |calls: &mut Calls<'_>| {
        // SAFETY: nghttp2 passes at least one byte, and they live until this returns.
        let bytes = unsafe { std::slice::from_raw_parts(data, length) };
        match calls.streams.received(stream, bytes) {
            0 => OK,
            // SAFETY: nghttp2 passed the session, and allows this call in this callback.
            count => unsafe { sys::nghttp2_session_consume(session, stream, count.min(length)) },
        }
    };
    // SAFETY: this is a callback.
    unsafe { with(user_data, sys::NGHTTP2_ERR_CALLBACK_FAILURE, take) }
}

/// A server that has said all does not want to hear the rest (RFC 9113, 8.1).
unsafe extern "C" fn on_frame_send(
    session: *mut sys::nghttp2_session,
    frame: *const sys::nghttp2_frame,
    _: *mut c_void,
) -> c_int {
    // SAFETY: nghttp2 passes a frame that lives until this returns; every frame has a header.
    let header = unsafe { (*frame).hd };
    if !matches!(header.type_, DATA | HEADERS) || header.flags & END_STREAM == 0 {
        return OK;
    }
    // SAFETY: nghttp2 passed the session.
    match unsafe { sys::nghttp2_session_get_stream_remote_close(session, header.stream_id) } {
        0 => reset(session, header.stream_id, sys::NGHTTP2_NO_ERROR),
        _ => OK,
    }
}

unsafe extern "C" fn on_stream_close(
    _: *mut sys::nghttp2_session,
    stream: StreamId,
    _: u32,
    user_data: *mut c_void,
) -> c_int {
    let close = |calls: &mut Calls<'_>| {
        calls.streams.closed(stream);
        OK
    };
    // SAFETY: this is a callback.
    unsafe { with(user_data, sys::NGHTTP2_ERR_CALLBACK_FAILURE, close) }
}

unsafe extern "C" fn on_read(
    session: *mut sys::nghttp2_session,
    stream: StreamId,
    _: *mut u8,
    length: usize,
    flags: *mut u32,
    _: *mut sys::nghttp2_data_source,
    user_data: *mut c_void,
) -> isize {
    let read = |calls: &mut Calls<'_>| {
        let (count, flag) = calls.read(session, stream, length);
        // SAFETY: nghttp2 passes a pointer to flags that lives until this returns.
        unsafe { *flags |= flag };
        count
    };
    // SAFETY: this is a callback.
    unsafe { with(user_data, sys::NGHTTP2_ERR_CALLBACK_FAILURE as isize, read) }
}

/// The body of this frame is where it belongs already ([`on_read`]).
unsafe extern "C" fn on_send_data(
    _: *mut sys::nghttp2_session,
    _: *mut sys::nghttp2_frame,
    header: *const u8,
    _: usize,
    _: *mut sys::nghttp2_data_source,
    user_data: *mut c_void,
) -> c_int {
    let head = |calls: &mut Calls<'_>| {
        // SAFETY: nghttp2 passes the 9 bytes of a frame's header, which live until this returns.
        calls.head_frame(unsafe { std::slice::from_raw_parts(header, HEADER) })
    };
    // SAFETY: this is a callback.
    unsafe { with(user_data, sys::NGHTTP2_ERR_CALLBACK_FAILURE, head) }
}

/// 431: Request Header Fields Too Large (RFC 6585, 5).
fn too_large(session: *mut sys::nghttp2_session, stream: StreamId) -> c_int {
    let none = http::HeaderMap::new();
    let fields = Fields::answer("431", &none);
    // SAFETY: nghttp2 passed the session to the callback that this runs in; it copies the fields.
    unsafe { sys::nghttp2_submit_response2(session, stream, fields.as_ptr(), fields.len(), std::ptr::null()) }
}

fn reset(session: *mut sys::nghttp2_session, stream: StreamId, reason: sys::nghttp2_error_code) -> c_int {
    // SAFETY: nghttp2 passed the session to the callback that this runs in.
    unsafe { sys::nghttp2_submit_rst_stream(session, 0, stream, reason) }
}

/// The client knows by now that it is to open no more streams, so those that it has opened are all.
fn go_away(session: *mut sys::nghttp2_session) -> c_int {
    // SAFETY: nghttp2 passed the session to the callback that this runs in; there are no further bytes.
    unsafe {
        let last = sys::nghttp2_session_get_last_proc_stream_id(session);
        sys::nghttp2_submit_goaway(session, 0, last, sys::NGHTTP2_NO_ERROR, std::ptr::null(), 0)
    }
}
