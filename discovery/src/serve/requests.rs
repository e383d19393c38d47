// SPDX-License-Identifier: Apache-2.0
//! The requests of an ADS stream, out of the body of its HTTP request.
//!
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message"
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). Compression is not offered, and a request that is
//! compressed all the same is an error.
//!
//! What must always be true: an idle stream holds no buffer, neither one of its own nor a piece of the transport's. A
//! first request names everything that a client holds, what follows are acknowledgements of a hundred bytes, and there
//! are thousands of streams; tonic's reader would keep room for the largest one.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use evenkeel_xds::server::Variant;
use hyper::body::{Body, Bytes};
use prost::Message as _;
use prost::bytes::Buf as _;
use tonic::Status;

use super::MAX_REQUEST_BYTES;

/// Bytes before a message: compressed or not, and its length.
pub(super) const PREFIX: usize = 5;

/// Reads one variant's requests from a body.
pub(super) struct Requests<V, B> {
    body: B,
    /// What has come and is not read yet.
    chunk: Bytes,
    /// The beginning of a message whose end is in none of the chunks until now.
    begun: Vec<u8>,
    variant: PhantomData<fn() -> V>,
}

// === impl Requests ===

impl<V: Variant, B: Body<Data = Bytes> + Unpin> Requests<V, B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, chunk: Bytes::new(), begun: Vec::new(), variant: PhantomData }
    }

    /// The next request; `None` when the client has closed its side or has gone.
    ///
    /// # Errors
    /// What the client is to be told: its bytes are no request, or a too large one. Nothing can be read after that.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<V::Request, Status>>> {
        loop {
            match self.take() {
                Ok(None) => {}
                Ok(Some(request)) => return Poll::Ready(Some(Ok(request))),
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            let Some(Ok(frame)) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
                return Poll::Ready(None);
            };
            // Trailers of a request say nothing that matters here.
            self.chunk = frame.into_data().unwrap_or_default();
        }
    }

    /// A request, if all of it is here.
    fn take(&mut self) -> Result<Option<V::Request>, Status> {
        let before = self.begun.len();
        if before > 0 {
            self.begun.extend_from_slice(&self.chunk);
        }
        let Some(message) = whole(if before > 0 { &self.begun } else { &self.chunk })? else {
            let chunk = std::mem::take(&mut self.chunk);
            if before == 0 {
                self.begun = chunk.to_vec();
            }
            return Ok(None);
        };
        let request = V::Request::decode(message)
            .map_err(|error| Status::invalid_argument(format!("not a request of this method: {error}")))?;
        self.chunk.advance(PREFIX + message.len() - before);
        self.begun = Vec::new();
        if self.chunk.is_empty() {
            // An empty piece of the transport's buffer would hold all of it.
            self.chunk = Bytes::new();
        }
        Ok(Some(request))
    }
}

/// The first message, if it ends here.
fn whole(bytes: &[u8]) -> Result<Option<&[u8]>, Status> {
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
    Ok(rest.get(..length))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
    use evenkeel_xds::server::Delta;
    use hyper::body::Frame;

    use super::*;

    /// A body of which all has come.
    struct Chunks(VecDeque<Bytes>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    fn request(names: usize) -> DeltaDiscoveryRequest {
        let resource_names_subscribe = (0..names).map(|name| format!("name-{name}")).collect();
        DeltaDiscoveryRequest { resource_names_subscribe, ..DeltaDiscoveryRequest::default() }
    }

    fn framed(request: &DeltaDiscoveryRequest) -> Vec<u8> {
        let message = request.encode_to_vec();
        [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat()
    }

    fn reader(bytes: &[u8], chunk: usize) -> Requests<Delta, Chunks> {
        Requests::new(Chunks(bytes.chunks(chunk).map(Bytes::copy_from_slice).collect()))
    }

    fn next(reader: &mut Requests<Delta, Chunks>) -> Option<Result<DeltaDiscoveryRequest, Status>> {
        match reader.poll_next(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(next) => next,
            Poll::Pending => panic!("all has come"),
        }
    }

    #[test]
    fn requests_are_read_wherever_the_transport_cuts_them_and_nothing_is_kept() {
        let requests = [request(0), request(3), request(1_000), request(0), request(1)];
        let bytes: Vec<u8> = requests.iter().flat_map(framed).collect();
        for chunk in [1, 2, 3, 4, 5, 6, 7, 100, 4_096, bytes.len()] {
            let mut reader = reader(&bytes, chunk);
            for request in &requests {
                assert_eq!(next(&mut reader).unwrap().unwrap(), *request, "in chunks of {chunk}");
            }
            assert!(next(&mut reader).is_none());
            assert_eq!((reader.begun.capacity(), reader.chunk.len()), (0, 0));
        }
    }

    #[test]
    fn what_is_no_request_is_told_in_words() {
        let large = (MAX_REQUEST_BYTES as u32 + 1).to_be_bytes();
        for (bytes, words) in [
            (vec![1, 0, 0, 0, 0], "uncompressed"),
            ([&[0][..], &large].concat(), "the limit is"),
            (vec![0, 0, 0, 0, 1, 0xff], "not a request"),
        ] {
            let status = next(&mut reader(&bytes, 9)).unwrap().unwrap_err();
            assert!(status.message().contains(words), "{status:?}");
        }
    }

    #[test]
    fn a_client_that_breaks_off_within_a_request_has_gone() {
        let bytes = framed(&request(9));
        assert!(next(&mut reader(&bytes[..bytes.len() - 1], 10)).is_none());
    }
}
