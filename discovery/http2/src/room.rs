// SPDX-License-Identifier: Apache-2.0
//! Where the body of an answer is written to: straight into the bytes for the socket, behind the place for the header of
//! the frame that holds it.
//!
//! What must always be true: a frame is no longer than the transport has room for.

/// What comes before a frame (RFC 9113, 4.1).
pub(crate) const HEADER: usize = 9;

/// Room for a piece of a body: what one frame may hold now.
#[derive(Debug)]
pub struct Room<'a> {
    out: &'a mut Vec<u8>,
    /// Where the frame begins, and how long its piece of the body may be.
    start: usize,
    size: usize,
}

// === impl Room ===

impl<'a> Room<'a> {
    /// Begins a frame; what is before it stays as it is.
    pub(crate) fn new(out: &'a mut Vec<u8>, size: usize) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        Self { out, start, size }
    }

    /// Bytes for which there is room.
    #[must_use]
    pub fn left(&self) -> usize {
        self.size - self.filled()
    }

    /// Takes the first of these bytes, as many as there is room for, and says how many.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.left());
        self.out.extend_from_slice(&bytes[..count]);
        count
    }

    pub(crate) fn filled(&self) -> usize {
        self.out.len() - self.start - HEADER
    }

    /// Where the frame begins.
    pub(crate) fn keep(self) -> usize {
        self.start
    }

    /// As if nothing had been begun.
    pub(crate) fn give_up(self) {
        self.out.truncate(self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_taken_as_there_is_room_for() {
        let mut out = b"before".to_vec();
        let mut room = Room::new(&mut out, 5);
        assert_eq!((room.put(b"abc"), room.left(), room.put(b""), room.put(b"def")), (3, 2, 0, 2));
        assert_eq!((room.put(b"g"), room.left(), room.filled()), (0, 0, 5));
        assert_eq!(room.keep(), 6);
        assert!(out.starts_with(b"before") && out.ends_with(b"abcde") && out.len() == 6 + HEADER + 5);
        let mut room = Room::new(&mut out, 1);
        room.put(b"x");
        room.give_up();
        assert!(out.ends_with(b"abcde"));
    }
}
