// SPDX-License-Identifier: Apache-2.0
//! ADS over gRPC: one task per stream around `evenkeel_xds::DeltaSession`.
//!
//! What must always be true: a stream is answered only once the first sync is complete, so nobody sees an empty world; a
//! slow client makes its own task wait, never the publisher or another client; on shutdown every stream ends with
//! UNAVAILABLE, which clients treat as "connect again".
//!
//! Deliberately not here: the protocol's rules, and TLS.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::metrics::Metrics;
use crate::snapshot::Snapshot;

mod listener;
mod stream;

pub use self::listener::{Listener, serve};

/// Streams that may be open. A node has one; the target is 5 000 nodes.
const MAX_STREAMS: usize = 10_000;
/// Streams on one connection. A client needs one and opens the next before it closes the last.
const MAX_STREAMS_PER_CONNECTION: u32 = 16;
/// The largest request. A first request names everything that a client holds.
const MAX_REQUEST_BYTES: usize = 32 << 20;
/// How often a silent connection is asked whether its client is alive, and how long it has to answer. Half of what
/// middleboxes commonly allow an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);

/// Where streams learn of new snapshots. `None`: the first sync is not complete.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Ads {
    snapshots: Snapshots,
    metrics: Metrics,
    shutdown: CancellationToken,
    places: Arc<Semaphore>,
}

// === impl Ads ===

impl Ads {
    /// A service that serves these snapshots until `shutdown`.
    pub fn new(snapshots: Snapshots, metrics: Metrics, shutdown: CancellationToken) -> Self {
        Self { snapshots, metrics, shutdown, places: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }

    fn into_server(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self)
            .max_decoding_message_size(MAX_REQUEST_BYTES)
            .max_encoding_message_size(usize::MAX)
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        let full =
            |_| Status::resource_exhausted(format!("{MAX_STREAMS} streams are open, which is the limit"));
        self.places.clone().try_acquire_owned().map_err(full)
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented(
            "state-of-the-world xDS is not served yet; use the incremental variant \
             (DeltaAggregatedResources; in Envoy: api_type DELTA_GRPC)",
        ))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let place = self.place()?;
        let responses = stream::start(request.into_inner(), self, place);
        Ok(Response::new(Box::pin(responses)))
    }
}
