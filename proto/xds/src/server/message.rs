// SPDX-License-Identifier: Apache-2.0
//! A response's wire form, as the pieces of which a transport gathers it.
//!
//! Resources are most of a response, and all clients share them. So a message does not copy them: it is a [`Buf`] over
//! what is there, and what waits for a slow client is a list of references. Only what differs between clients is written
//! anew, some hundred bytes.
//!
//! What must always be true: the bytes are those that an encoder of the published messages would write.
//! Source: `envoy/service/discovery/v3/discovery.proto`, `DeltaDiscoveryResponse` and `DiscoveryResponse`.

use std::io::IoSlice;

use bytes::Buf;

use super::Response;
use crate::{resource::EncodedResource, version::Version, wire};

/// An encoded `DeltaDiscoveryResponse` or `DiscoveryResponse`. Reading it moves on, as with any [`Buf`].
#[derive(Debug)]
pub struct Message {
    /// What is before the resources.
    head: Vec<u8>,
    resources: Vec<EncodedResource>,
    field: fn(&EncodedResource) -> &[u8],
    /// What is behind them.
    tail: Vec<u8>,
    /// The piece that is read next: the head, each resource, the tail; and how much of it has been read.
    piece: usize,
    read: usize,
    remaining: usize,
}

// === impl Message ===

impl Message {
    /// The response in the incremental variant.
    pub(super) fn delta(response: Response) -> Self {
        let mut tail = ending(&response);
        for name in &response.removed {
            wire::put(&mut tail, 6, name.as_bytes());
        }
        Self::of(Vec::new(), response.resources, EncodedResource::delta_field, tail)
    }

    /// The response in the state-of-the-world variant.
    pub(super) fn sotw(response: Response) -> Self {
        let mut head = Vec::with_capacity(wire::len(1, Version::TEXT_LEN));
        wire::put(&mut head, 1, response.version().to_string().as_bytes());
        let tail = ending(&response);
        Self::of(head, response.resources, EncodedResource::sotw_field, tail)
    }

    fn of(
        head: Vec<u8>,
        resources: Vec<EncodedResource>,
        field: fn(&EncodedResource) -> &[u8],
        tail: Vec<u8>,
    ) -> Self {
        let fields = resources.iter().map(|resource| field(resource).len()).sum::<usize>();
        let remaining = head.len() + fields + tail.len();
        let mut message = Self { head, resources, field, tail, piece: 0, read: 0, remaining };
        message.skip_what_is_read();
        message
    }

    /// A piece by its place; empty where there is none.
    fn piece(&self, place: usize) -> &[u8] {
        match place.checked_sub(1) {
            None => &self.head,
            Some(place) => match self.resources.get(place) {
                Some(resource) => (self.field)(resource),
                None if place == self.resources.len() => &self.tail,
                None => &[],
            },
        }
    }

    fn pieces(&self) -> usize {
        self.resources.len() + 2
    }

    /// So that [`Buf::chunk`] is empty at the end only.
    fn skip_what_is_read(&mut self) {
        while self.piece < self.pieces() && self.read == self.piece(self.piece).len() {
            self.piece += 1;
            self.read = 0;
        }
    }
}

/// The fields that both variants have behind the resources, with the same numbers.
fn ending(response: &Response) -> Vec<u8> {
    let removed = response.removed.iter().map(|name| wire::len(6, name.len()));
    let len = wire::scalar_len(4, response.type_url.len())
        + wire::scalar_len(5, response.nonce.as_bytes().len())
        + removed.sum::<usize>();
    let mut out = Vec::with_capacity(len);
    wire::put_scalar(&mut out, 4, response.type_url.as_bytes());
    wire::put_scalar(&mut out, 5, response.nonce.as_bytes());
    out
}

impl Buf for Message {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        &self.piece(self.piece)[self.read..]
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let rest = (self.piece + 1..self.pieces()).map(|place| self.piece(place));
        let chunks = std::iter::once(self.chunk()).chain(rest).filter(|chunk| !chunk.is_empty());
        for (slot, chunk) in out.iter_mut().zip(chunks) {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "cannot advance by {count} of {} bytes", self.remaining);
        self.remaining -= count;
        let mut left = count;
        while left > 0 {
            let step = left.min(self.chunk().len());
            self.read += step;
            left -= step;
            self.skip_what_is_read();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::{type_url::CLUSTER, version::Nonce};

    fn response() -> impl Strategy<Value = Response> {
        let resource = ("\\PC{0,9}", prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(name, body)| EncodedResource::new(CLUSTER, name, body));
        let resources = prop::collection::vec(resource, 0..5);
        let removed = prop::collection::vec("\\PC{0,9}".prop_map(Arc::from), 0..5);
        (0..1000_u64, resources, removed).prop_map(|(nonce, resources, removed)| Response {
            type_url: CLUSTER.into(),
            nonce: Nonce::new(nonce),
            resources,
            removed,
        })
    }

    /// Reads as a transport does: some slices at a time, and not all of what it was shown.
    fn read(mut message: Message, steps: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        for step in steps.iter().cycle() {
            if !message.has_remaining() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); 3];
            let filled = message.chunks_vectored(&mut slices);
            let shown: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(!slices[0].is_empty() && shown.len() <= message.remaining());
            assert_eq!(*slices[0], *message.chunk());
            let taken = shown.len().min(*step);
            out.extend_from_slice(&shown[..taken]);
            message.advance(taken);
        }
        assert!(message.chunk().is_empty() && message.remaining() == 0);
        out
    }

    proptest! {
        #[test]
        fn both_forms_are_what_any_encoder_writes_however_they_are_read(
            response in response(), steps in prop::collection::vec(1_usize..400, 1..9),
        ) {
            let (delta, sotw) = (response.to_delta().encode_to_vec(), response.to_sotw().encode_to_vec());
            let message = Message::delta(response.clone());
            prop_assert_eq!(message.remaining(), delta.len());
            prop_assert_eq!(read(message, &steps), delta);
            let message = Message::sotw(response);
            prop_assert_eq!(message.remaining(), sotw.len());
            prop_assert_eq!(read(message, &steps), sotw);
        }
    }

    #[test]
    #[should_panic(expected = "cannot advance")]
    fn nothing_is_read_beyond_the_end() {
        let mut message = Message::delta(Response::default());
        message.advance(1);
    }
}
