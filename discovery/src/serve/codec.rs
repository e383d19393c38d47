// SPDX-License-Identifier: Apache-2.0
//! The codec of ADS streams: requests are decoded as ever, responses write themselves.
//!
//! A response is made of pieces that all clients share. They are copied once, straight into the buffer that goes to the
//! transport; no message is built. That buffer is as long as the response and gone once it is sent. tonic's own encoder
//! would hold on to its last one for as long as the stream is open, and there are thousands of idle streams.
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message" and "Trailers"
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use evenkeel_xds::Response;
use evenkeel_xds::server::Variant;
use http::HeaderMap;
use hyper::body::{Body, Bytes, Frame};
use prost::bytes::{BufMut, BytesMut};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codec::BufferSettings;
use tonic_prost::{ProstCodec, ProstDecoder};

/// First size of a stream's buffer for requests, in bytes. It is kept while the stream is open, and an acknowledgement
/// is a hundred bytes.
const READ_BUFFER: usize = 512;
/// Bytes before a message: compressed or not, and its length.
const PREFIX: usize = 5;

/// What a stream's task sends: responses, and in the end perhaps why there are no more.
pub(super) type Responses = mpsc::Receiver<Result<Box<Response>, Status>>;

/// Reads requests of one variant.
pub(super) fn decoder<V: Variant>() -> ProstDecoder<V::Request> {
    // The encoder of this type is not used, so any message and any size will do.
    ProstCodec::<V::Request, V::Request>::raw_decoder(BufferSettings::new(READ_BUFFER, READ_BUFFER))
}

/// Responses of one variant as the body of an HTTP response.
pub(super) struct ResponseBody<V> {
    responses: Responses,
    ended: bool,
    variant: PhantomData<fn() -> V>,
}

// === impl ResponseBody ===

impl<V: Variant> ResponseBody<V> {
    pub(super) fn new(responses: Responses) -> Self {
        Self { responses, ended: false, variant: PhantomData }
    }
}

impl<V: Variant> Body for ResponseBody<V> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let status = match ready!(this.responses.poll_recv(context)) {
            Some(Ok(response)) => return Poll::Ready(Some(Ok(Frame::data(message::<V>(&response))))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        this.ended = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
    }
}

fn message<V: Variant>(response: &Response) -> Bytes {
    let length = V::encoded_len(response);
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    // Responses are cut far below 4 GiB, and a single resource is no larger than its Service's slices.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    V::encode(response, &mut out);
    out.freeze()
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // A text that cannot be a header: the code alone still says the most.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", i32::from(status.code()).into());
    }
    trailers
}

#[cfg(test)]
mod tests {
    use evenkeel_xds::server::Delta;
    use prost::Message as _;

    use super::*;

    async fn next(body: &mut ResponseBody<Delta>) -> Option<Frame<Bytes>> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.map(|frame| frame.unwrap())
    }

    #[tokio::test]
    async fn a_body_is_length_prefixed_messages_and_then_the_reason_of_the_end() {
        let (sender, responses) = mpsc::channel(2);
        let response = Response { type_url: "t".into(), nonce: "7".into(), ..Response::default() };
        sender.send(Ok(Box::new(response.clone()))).await.unwrap();
        sender.send(Err(Status::unavailable("gone\u{20ac}"))).await.unwrap();
        let mut body = ResponseBody::<Delta>::new(responses);
        let data = next(&mut body).await.unwrap().into_data().unwrap();
        let message = response.to_delta().encode_to_vec();
        assert_eq!(data[..PREFIX], [0, 0, 0, 0, message.len() as u8]);
        assert_eq!(data[PREFIX..], message);
        let trailers = next(&mut body).await.unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "14");
        assert!(trailers["grpc-message"].to_str().unwrap().starts_with("gone"));
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn a_task_that_ends_without_a_word_ends_the_stream_well() {
        let (_, responses) = mpsc::channel(1);
        let mut body = ResponseBody::<Delta>::new(responses);
        assert_eq!(next(&mut body).await.unwrap().into_trailers().unwrap()["grpc-status"], "0");
    }
}
