// SPDX-License-Identifier: Apache-2.0
//! The fields of an answer, as nghttp2 wants them.
//!
//! What must always be true: the list borrows from what it was made of, so that its pointers are good while it lives.

use std::marker::PhantomData;

use http::HeaderMap;
use libnghttp2_sys as sys;

/// Names, values and their lengths.
pub(crate) struct Fields<'a> {
    list: Vec<sys::nghttp2_nv>,
    borrowed: PhantomData<&'a [u8]>,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Trailers, or all fields of an answer but its status.
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut fields = Self { list: Vec::with_capacity(headers.len() + 1), borrowed: PhantomData };
        headers.iter().for_each(|(name, value)| fields.push(name.as_str().as_bytes(), value.as_bytes()));
        fields
    }

    /// The beginning of an answer.
    pub(crate) fn answer(status: &'a str, headers: &'a HeaderMap) -> Self {
        let mut fields = Self { list: Vec::with_capacity(headers.len() + 1), borrowed: PhantomData };
        fields.push(b":status", status.as_bytes());
        fields.list.append(&mut Self::of(headers).list);
        fields
    }

    pub(crate) fn as_ptr(&self) -> *const sys::nghttp2_nv {
        self.list.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    fn push(&mut self, name: &'a [u8], value: &'a [u8]) {
        self.list.push(sys::nghttp2_nv {
            // nghttp2 copies what it is given and writes to none of it; its type does not say so.
            name: name.as_ptr().cast_mut(),
            value: value.as_ptr().cast_mut(),
            namelen: name.len(),
            valuelen: value.len(),
            flags: 0,
        });
    }
}
