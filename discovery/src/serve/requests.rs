// SPDX-License-Identifier: Apache-2.0
//! The requests of an ADS stream, out of the bytes of its HTTP request.
//!
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message"
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). Compression is not offered, and a request that is
//! compressed all the same is an error.
//!
//! What must always be true: an idle stream holds no buffer. A first request names everything that a client holds, what
//! follows are acknowledgements of a hundred bytes, and there are thousands of streams. What has not been looked at yet is
//! not credited to the client, so that it can send no more of it than its window allows. Deliberately not here: what a
//! request says.

use tonic::Status;

use super::MAX_REQUEST_BYTES;

/// Bytes before a message: compressed or not, and its length.
pub(super) const PREFIX: usize = 5;

/// Cuts what comes into requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    bytes: Vec<u8>,
    /// How much of it has been read.
    read: usize,
    ended: bool,
    /// Bytes that came since the last time that all was looked at.
    fresh: usize,
    credit: usize,
}

/// What there is.
#[derive(Debug, PartialEq)]
pub(super) enum Next<'a> {
    Request(&'a [u8]),
    /// No whole request yet.
    Nothing,
    /// There will be no more: the client has closed its side.
    End,
}

// === impl Requests ===

impl Requests {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes.reserve_exact(bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        self.fresh += bytes.len();
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The next request, once.
    ///
    /// # Errors
    /// What the client is to be told: its bytes are no request, or a too large one. Nothing can be read after that.
    pub(super) fn next(&mut self) -> Result<Next<'_>, Status> {
        let Some(length) = whole(&self.bytes[self.read..])? else {
            self.rest();
            return Ok(if self.ended { Next::End } else { Next::Nothing });
        };
        let start = self.read + PREFIX;
        self.read = start + length;
        Ok(Next::Request(&self.bytes[start..self.read]))
    }

    /// Bytes that the client may send in place of those which were looked at.
    pub(super) fn take_credit(&mut self) -> usize {
        std::mem::take(&mut self.credit)
    }

    /// Keeps what is not whole yet, and nothing else.
    fn rest(&mut self) {
        self.credit += std::mem::take(&mut self.fresh);
        if self.read == self.bytes.len() {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..self.read);
        }
        self.read = 0;
    }
}

/// The length of the first message, if it ends here.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(Status::unimplemented("requests are taken uncompressed only"));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_REQUEST_BYTES {
        return Err(Status::resource_exhausted(format!(
            "a request of {length} bytes; the limit is {MAX_REQUEST_BYTES}"
        )));
    }
    Ok((rest.len() >= length).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    #[test]
    fn requests_are_cut_wherever_the_transport_cuts_and_nothing_is_kept() {
        let messages = [vec![], vec![1; 30], vec![2; 20_000], vec![], vec![3]];
        let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        for piece in [1, 2, 3, 4, 5, 6, 7, 100, 4_096, bytes.len()] {
            let (mut requests, mut read, mut credit) = (Requests::default(), Vec::new(), 0);
            for piece in bytes.chunks(piece) {
                requests.push(piece);
                while let Next::Request(message) = requests.next().unwrap() {
                    read.push(message.to_vec());
                }
                credit += requests.take_credit();
            }
            assert_eq!(read, messages, "in pieces of {piece}");
            assert_eq!((requests.bytes.capacity(), credit), (0, bytes.len()));
            requests.end();
            assert_eq!(requests.next().unwrap(), Next::End);
        }
    }

    #[test]
    fn what_is_not_looked_at_is_not_credited() {
        let mut requests = Requests::default();
        requests.push(&framed(b"a"));
        requests.push(&framed(b"b"));
        assert_eq!(requests.next().unwrap(), Next::Request(b"a"));
        assert_eq!(requests.take_credit(), 0);
        assert_eq!(requests.next().unwrap(), Next::Request(b"b"));
        assert_eq!(requests.next().unwrap(), Next::Nothing);
        assert_eq!(requests.take_credit(), 2 * (PREFIX + 1));
    }

    #[test]
    fn what_is_no_request_is_told_in_words() {
        let large = (MAX_REQUEST_BYTES as u32 + 1).to_be_bytes();
        for (bytes, words) in
            [(vec![1, 0, 0, 0, 0], "uncompressed"), ([&[0][..], &large].concat(), "the limit is")]
        {
            let mut requests = Requests::default();
            requests.push(&bytes);
            let status = requests.next().unwrap_err();
            assert!(status.message().contains(words), "{status:?}");
        }
    }

    #[test]
    fn a_client_that_breaks_off_within_a_request_has_gone() {
        let mut requests = Requests::default();
        requests.push(&framed(b"abc")[..7]);
        requests.end();
        assert_eq!(requests.next().unwrap(), Next::End);
    }
}
