// SPDX-License-Identifier: Apache-2.0
//! One ADS stream: requests and snapshots in, responses out.
//!
//! The channel to the transport is small and the task waits for it, so a client that does not read holds one response
//! in memory; snapshots that pass meanwhile are skipped, and the client is told the difference to the newest.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use evenkeel_xds::{DeltaSession, Limits, type_url};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{Ads, Snapshots};
use crate::metrics::{Metrics, TypeLabel};
use crate::snapshot::{Snapshot, ZoneView};

/// Responses between the task and the transport.
const WAITING_RESPONSES: usize = 1;
/// How much of a client's words goes into the log.
const MAX_LOGGED_CHARS: usize = 512;

type Outgoing = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

/// Why a stream's task ends without a word to the client.
struct Gone;

struct DeltaStream {
    session: DeltaSession,
    snapshots: Snapshots,
    metrics: Metrics,
    zone: Arc<str>,
    client: String,
    revision: u64,
    _open: Open,
    _place: OwnedSemaphorePermit,
}

/// Counts an open stream until it is dropped, however it ends.
struct Open(Gauge);

/// Starts the stream's task and returns what it sends.
pub(super) fn start(
    requests: Streaming<DeltaDiscoveryRequest>,
    ads: &Ads,
    place: OwnedSemaphorePermit,
) -> ReceiverStream<Result<DeltaDiscoveryResponse, Status>> {
    let (sender, receiver) = mpsc::channel(WAITING_RESPONSES);
    let stream = DeltaStream {
        session: DeltaSession::new(Limits::default()),
        snapshots: ads.snapshots.clone(),
        metrics: ads.metrics.clone(),
        zone: "".into(),
        client: String::new(),
        revision: 0,
        _open: Open::new(ads.metrics.streams.clone()),
        _place: place,
    };
    tokio::spawn(supervise(stream, requests, sender, ads.shutdown.clone()));
    ReceiverStream::new(receiver)
}

/// Ends the stream's work at shutdown, also when it waits for its client to read.
async fn supervise(
    mut stream: DeltaStream,
    requests: Streaming<DeltaDiscoveryRequest>,
    sender: Outgoing,
    shutdown: CancellationToken,
) {
    let ended = shutdown.run_until_cancelled(stream.run(requests, &sender)).await;
    let status = match ended {
        // At shutdown the publisher goes too, and which of the two is noticed first is chance.
        _ if shutdown.is_cancelled() => Status::unavailable("discovery is shutting down"),
        Some(Err(Some(status))) => status,
        None | Some(Ok(()) | Err(None)) => return,
    };
    // A client that does not read is not waited for: its connection is closed anyway.
    sender.try_send(Err(status)).ok();
}

// === impl DeltaStream ===

impl DeltaStream {
    async fn run(
        &mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        sender: &Outgoing,
    ) -> Result<(), Option<Status>> {
        let stopped = || Some(Status::unavailable("discovery has stopped publishing"));
        let first = self.snapshots.wait_for(Option::is_some).await.map_err(|_| stopped())?.clone();
        let mut snapshot = first.unwrap_or_default();
        self.revision = snapshot.revision();
        loop {
            let responses = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.on_request(request, &snapshot)?,
                    // The client has closed its side, or the connection broke.
                    Ok(None) | Err(_) => return Ok(()),
                },
                changed = self.snapshots.changed() => {
                    changed.map_err(|_| stopped())?;
                    snapshot = self.snapshots.borrow_and_update().clone().unwrap_or_default();
                    self.on_snapshot(&snapshot)
                }
            };
            self.send(responses, sender).await.map_err(|Gone| None)?;
        }
    }

    fn on_request(
        &mut self,
        request: DeltaDiscoveryRequest,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Vec<DeltaDiscoveryResponse>, Status> {
        self.metrics.requests.get_or_create(&TypeLabel::of(&request.type_url)).inc();
        if self.session.node().is_none()
            && let Some(node) = &request.node
        {
            self.meet(node);
        }
        if let Some(detail) = &request.error_detail {
            self.metrics.rejections.get_or_create(&TypeLabel::of(&request.type_url)).inc();
            let client: &str = &self.client;
            let reason: String = detail.message.chars().take(MAX_LOGGED_CHARS).collect();
            tracing::warn!(client, resource = TypeLabel::of(&request.type_url).resource, reason, "rejected");
        }
        let view = ZoneView::new(snapshot.clone(), self.zone.clone());
        self.session.on_request(request, &view).map_err(|error| {
            tracing::warn!(client = &*self.client, %error, "stream refused");
            match error.is_exhaustion() {
                true => Status::resource_exhausted(error.to_string()),
                false => Status::invalid_argument(error.to_string()),
            }
        })
    }

    fn meet(&mut self, node: &Node) {
        self.client = node.id.chars().take(MAX_LOGGED_CHARS).collect();
        self.zone = node.locality.as_ref().map_or("", |locality| locality.zone.as_str()).into();
        tracing::info!(client = &*self.client, zone = &*self.zone, "stream");
    }

    fn on_snapshot(&mut self, snapshot: &Arc<Snapshot>) -> Vec<DeltaDiscoveryResponse> {
        let view = ZoneView::new(snapshot.clone(), self.zone.clone());
        let names = snapshot.changed_since(self.revision);
        self.revision = snapshot.revision();
        let Some(names) = names else { return self.session.on_update(&view) };
        let mut responses = Vec::new();
        for url in type_url::SERVING_ORDER {
            let names = match url {
                type_url::SERVICE => &names.services,
                _ => &names.clusters,
            };
            if !names.is_empty() {
                responses.extend(self.session.on_changes(url, names, &view));
            }
        }
        responses
    }

    async fn send(&self, responses: Vec<DeltaDiscoveryResponse>, sender: &Outgoing) -> Result<(), Gone> {
        for response in responses {
            let label = TypeLabel::of(&response.type_url);
            self.metrics.responses.get_or_create(&label).inc();
            self.metrics.resources.get_or_create(&label).inc_by(response.resources.len() as u64);
            self.metrics.removals.get_or_create(&label).inc_by(response.removed_resources.len() as u64);
            sender.send(Ok(response)).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

impl Drop for DeltaStream {
    fn drop(&mut self) {
        tracing::debug!(client = &*self.client, "stream ended");
    }
}

// === impl Open ===

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
