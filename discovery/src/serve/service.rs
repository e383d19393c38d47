// SPDX-License-Identifier: Apache-2.0
//! `envoy.service.discovery.v3.AggregatedDiscoveryService` as a gRPC service.
//!
//! The generated service would do, but for its codec: it wants responses as messages, built per client. This is what it
//! does, with [`AdsCodec`].

use std::convert::Infallible;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use evenkeel_xds::Response;
use evenkeel_xds::server::{Delta, StateOfTheWorld, Variant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{Body, BoxFuture, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Status, Streaming};

use super::codec::AdsCodec;
use super::{Ads, MAX_REQUEST_BYTES, Peer, stream};

const SOTW: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// One of the service's two methods.
struct Method<V>(Ads, PhantomData<fn() -> V>);

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
    let mut grpc = Grpc::new(AdsCodec::<V>::default())
        .apply_max_message_size_config(Some(MAX_REQUEST_BYTES), Some(usize::MAX));
    Ok(grpc.streaming(Method::<V>(ads, PhantomData), request).await)
}

impl<V: Variant> StreamingService<V::Request> for Method<V> {
    type Response = Box<Response>;
    type ResponseStream = ReceiverStream<Result<Box<Response>, Status>>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<V::Request>>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
        let leave = Peer::leave(request.extensions());
        let started = self.0.place().map(|place| {
            let responses = stream::start::<V>(request.into_inner(), peer, &self.0, place, leave);
            tonic::Response::new(responses)
        });
        Box::pin(async move { started })
    }
}
