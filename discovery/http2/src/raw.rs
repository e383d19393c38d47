// SPDX-License-Identifier: Apache-2.0
//! nghttp2's objects, freed when dropped.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

use libnghttp2_sys as sys;

use crate::session::{Error, Settings, checked};

/// Pointers and the function that frees what they point to.
macro_rules! owned {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $free:path) => {
        $(#[$doc])*
        pub(crate) struct $name(NonNull<$raw>);

        impl $name {
            pub(crate) fn as_ptr(&self) -> *mut $raw {
                self.0.as_ptr()
            }

            /// What a function that makes one has written.
            fn made(raw: *mut $raw) -> Result<Self, Error> {
                NonNull::new(raw).map(Self).ok_or(Error::memory())
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: it was made by nghttp2, is owned by this value alone, and is not used after this.
                unsafe { $free(self.as_ptr()) };
            }
        }
    };
}

owned!(
    /// What nghttp2 calls.
    Callbacks,
    sys::nghttp2_session_callbacks,
    sys::nghttp2_session_callbacks_del
);
owned!(
    /// How a session behaves.
    Options,
    sys::nghttp2_option,
    sys::nghttp2_option_del
);
owned!(
    /// A connection.
    Connection,
    sys::nghttp2_session,
    sys::nghttp2_session_del
);

// SAFETY: a session has no thread of its own and nothing that belongs to one; nothing else points to it. Its functions
// are called by one thread at a time, because those that change it take `&mut Session`.
unsafe impl Send for Connection {}

// === impl Callbacks ===

impl Callbacks {
    pub(crate) fn new() -> Result<Self, Error> {
        let mut raw = null_mut();
        // SAFETY: it writes a pointer to where it is told to, which lives until it returns.
        checked("make callbacks", unsafe { sys::nghttp2_session_callbacks_new(&raw mut raw) })?;
        Self::made(raw)
    }
}

// === impl Options ===

impl Options {
    pub(crate) fn new() -> Result<Self, Error> {
        let mut raw = null_mut();
        // SAFETY: it writes a pointer to where it is told to, which lives until it returns.
        checked("make options", unsafe { sys::nghttp2_option_new(&raw mut raw) })?;
        let options = Self::made(raw)?;
        let raw = options.as_ptr();
        // SAFETY: `raw` is a living object; these only write numbers to it.
        unsafe {
            // Whoever reads a request says when there is room for more of it.
            sys::nghttp2_option_set_no_auto_window_update(raw, 1);
            // Priorities between streams that have ended: nobody has any.
            sys::nghttp2_option_set_no_closed_streams(raw, 1);
            // Answers have two fields, which are not worth a table per connection.
            sys::nghttp2_option_set_max_deflate_dynamic_table_size(raw, 0);
        }
        Ok(options)
    }
}

// === impl Connection ===

impl Connection {
    /// A server's, whose user data is null.
    pub(crate) fn server(callbacks: &Callbacks, options: &Options) -> Result<Self, Error> {
        let mut raw = null_mut();
        let none: *mut c_void = null_mut();
        // SAFETY: both objects live; nghttp2 copies what it wants of them. It writes a pointer to where it is told to.
        let made = unsafe {
            sys::nghttp2_session_server_new2(&raw mut raw, callbacks.as_ptr(), none, options.as_ptr())
        };
        checked("make a session", made)?;
        Self::made(raw)
    }

    /// Queues what a server says first.
    pub(crate) fn announce(&mut self, settings: &Settings) -> Result<(), Error> {
        let entry = |settings_id, value| sys::nghttp2_settings_entry { settings_id, value };
        let entries = [
            entry(sys::NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.cast_signed(), settings.max_streams),
            entry(sys::NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.cast_signed(), settings.window),
            entry(sys::NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.cast_signed(), settings.max_header_bytes),
        ];
        // SAFETY: the entries live until it returns; it copies them.
        let queued =
            unsafe { sys::nghttp2_submit_settings(self.as_ptr(), 0, entries.as_ptr(), entries.len()) };
        checked("announce settings", queued)?;
        let window = i32::try_from(settings.window).unwrap_or(i32::MAX);
        // SAFETY: no pointer but the session's is passed; stream 0 is the connection.
        checked("announce a window", unsafe {
            sys::nghttp2_session_set_local_window_size(self.as_ptr(), 0, 0, window)
        })
    }
}
