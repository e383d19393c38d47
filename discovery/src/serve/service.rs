// SPDX-License-Identifier: Apache-2.0
//! `envoy.service.discovery.v3.AggregatedDiscoveryService` as a gRPC service.
//!
//! The generated service would do, but for its codec: it wants responses as messages, built per client. This is what it
//! does, with [`codec`]. Compression is not offered, and a request that is compressed all the same is an error.

use std::convert::Infallible;
use std::task::{Context, Poll};

use evenkeel_xds::server::{Delta, StateOfTheWorld, Variant};
use http::header::CONTENT_TYPE;
use tonic::codegen::{Body, BoxFuture, Service, StdError};
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::server::NamedService;
use tonic::{Status, Streaming};

use super::codec::{self, ResponseBody};
use super::{Ads, MAX_REQUEST_BYTES, Peer, stream};

const SOTW: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

impl NamedService for Ads {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> Service<http::Request<B>> for Ads
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let ads = self.clone();
        match request.uri().path() {
            SOTW => Box::pin(open::<StateOfTheWorld, B>(ads, request)),
            DELTA => Box::pin(open::<Delta, B>(ads, request)),
            path => {
                let status = Status::unimplemented(format!("there is no method {path}"));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

async fn open<V, B>(
    ads: Ads,
    request: http::Request<B>,
) -> Result<http::Response<tonic::body::Body>, Infallible>
where
    V: Variant,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
    let leave = Peer::leave(request.extensions());
    let place = match ads.place() {
        Ok(place) => place,
        Err(status) => return Ok(status.into_http()),
    };
    let body = request.into_body();
    let requests = Streaming::new_request(codec::decoder::<V>(), body, None, Some(MAX_REQUEST_BYTES));
    let responses = stream::start::<V>(requests, peer, &ads, place, leave);
    let mut response = http::Response::new(tonic::body::Body::new(ResponseBody::<V>::new(responses)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    Ok(response)
}
