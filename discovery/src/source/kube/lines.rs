// SPDX-License-Identifier: Apache-2.0
//! Cuts a watch's body into lines: one JSON document each.
//!
//! What must always be true: memory is bounded by the longest line allowed, and what follows the last line break when
//! the body ends is never taken for a line: half an event is no event. Pure.

use std::ops::Range;

/// The longest line. etcd refuses values over 1.5 MiB by default; JSON of one is a few times that at worst.
pub(super) const MAX_LINE: usize = 16 << 20;

/// Bytes that have arrived and the lines found in them.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where there is no line break after `start`.
    searched: usize,
}

/// A line is longer than [`MAX_LINE`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {MAX_LINE} bytes")]
pub(super) struct TooLong;

impl Lines {
    /// More bytes.
    ///
    /// # Errors
    /// [`TooLong`]: the body cannot be followed any further.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.len() + bytes.len() > MAX_LINE {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next complete line that is not empty.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                return None;
            };
            let end = self.searched + at;
            let line: Range<usize> = self.start..end;
            self.start = end + 1;
            self.searched = self.start;
            if !self.buffer[line.clone()].trim_ascii().is_empty() {
                return Some(&self.buffer[line]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            found.push(String::from_utf8(line.to_vec()).unwrap());
        }
        found
    }

    #[test]
    fn lines_are_the_same_however_the_body_is_cut() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\r\n{\"half";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk).unwrap();
                found.extend(all(&mut lines));
            }
            assert_eq!(found, ["{\"a\":1}", "{\"b\":2}\r"], "chunks of {size}");
        }
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; 1 << 20];
        let pushed = (0..64).take_while(|_| lines.push(&chunk).is_ok() && lines.next().is_none()).count();
        assert_eq!(pushed, MAX_LINE >> 20);
    }
}
