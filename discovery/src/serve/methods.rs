// SPDX-License-Identifier: Apache-2.0
//! What can be called: the two methods of `envoy.service.discovery.v3.AggregatedDiscoveryService`, which are served here,
//! and the others, which tonic serves.
//!
//! tonic would do for ADS as well, but for what it costs per stream: a task, a queue, and buffers that are kept. Deliberately
//! not here: what the methods do.

use std::pin::Pin;
use std::task::{Context, Poll};

use evenkeel_xds::server::{Delta, StateOfTheWorld, Variant};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use hyper::body::{Body, Bytes, Frame, Incoming};
use prost::bytes::Buf;
use tonic::Status;
use tonic::service::Routes;
use tower::Service as _;

use super::body::{Prefixed, ResponseBody};
use super::{Ads, Peer};

/// The service's name.
pub(super) const NAME: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const SOTW: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// All that is served to clients. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Methods {
    ads: Ads,
    others: Routes,
}

/// The body of an answer.
pub(super) enum Answer {
    Delta(Box<ResponseBody<Delta, Incoming>>),
    Sotw(Box<ResponseBody<StateOfTheWorld, Incoming>>),
    Other(tonic::body::Body),
}

/// A piece of a body.
pub(super) enum Data {
    /// A message of ADS; boxed, because the transport keeps room for the largest piece.
    Message(Box<Prefixed>),
    Bytes(Bytes),
}

// === impl Methods ===

impl Methods {
    pub(super) fn new(ads: Ads, others: Routes) -> Self {
        Self { ads, others: others.prepare() }
    }

    /// Gives memory back from time to time, for ever.
    pub(super) async fn tidy_up(&self) {
        self.ads.tidy.clone().run(evenkeel_heap::give_back).await;
    }

    pub(super) async fn call(&self, request: Request<Incoming>, peer: Peer) -> Response<Answer> {
        match request.uri().path() {
            SOTW => self.stream::<StateOfTheWorld>(request, &peer, Answer::Sotw),
            DELTA => self.stream::<Delta>(request, &peer, Answer::Delta),
            _ => self.other(request, peer).await,
        }
    }

    fn stream<V: Variant>(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        answer: impl FnOnce(Box<ResponseBody<V, Incoming>>) -> Answer,
    ) -> Response<Answer> {
        let place = match self.ads.place() {
            Ok(place) => place,
            Err(status) => return refused(status),
        };
        let body = ResponseBody::new(request.into_body(), peer, &self.ads, place);
        let mut response = Response::new(answer(Box::new(body)));
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }

    async fn other(&self, request: Request<Incoming>, peer: Peer) -> Response<Answer> {
        let mut request = request.map(tonic::body::Body::new);
        peer.introduce(request.extensions_mut());
        // Routes are always ready.
        let Ok(response) = self.others.clone().call(request).await;
        response.map(Answer::Other)
    }
}

/// Before a stream begins.
pub(super) fn refused(status: Status) -> Response<Answer> {
    status.into_http().map(Answer::Other)
}

// === impl Answer ===

impl Body for Answer {
    type Data = Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, Status>>> {
        fn message<E>(polled: Option<Result<Frame<Prefixed>, E>>) -> Option<Result<Frame<Data>, Status>> {
            // They do not fail: a stream that ends badly says so in trailers.
            let frame = polled?.ok()?;
            Some(Ok(frame.map_data(|message| Data::Message(Box::new(message)))))
        }
        match self.get_mut() {
            Self::Delta(body) => Pin::new(body).poll_frame(context).map(message),
            Self::Sotw(body) => Pin::new(body).poll_frame(context).map(message),
            Self::Other(body) => {
                let polled = Pin::new(body).poll_frame(context);
                polled.map(|frame| Some(frame?.map(|frame| frame.map_data(Data::Bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Delta(_) | Self::Sotw(_) => false,
            Self::Other(body) => body.is_end_stream(),
        }
    }
}

// === impl Data ===

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Self::Message(message) => message.remaining(),
            Self::Bytes(bytes) => bytes.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Message(message) => message.chunk(),
            Self::Bytes(bytes) => bytes.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [std::io::IoSlice<'a>]) -> usize {
        match self {
            Self::Message(message) => message.chunks_vectored(out),
            Self::Bytes(bytes) => bytes.chunks_vectored(out),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Message(message) => message.advance(count),
            Self::Bytes(bytes) => bytes.advance(count),
        }
    }
}
