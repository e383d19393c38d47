// SPDX-License-Identifier: Apache-2.0
//! One ADS stream of either variant: requests and snapshots in, responses out.
//!
//! The channel to the transport is small and the task waits for it, so a client that does not read holds a few responses
//! in memory; snapshots that pass meanwhile are skipped, and the client is told the difference to the newest. One that
//! does not read for [`PATIENCE`] is given up: what it was told last would pin an old snapshot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use evenkeel_xds::server::{Session, Variant};
use evenkeel_xds::{Limits, Response};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::client::{self, Client};
use super::codec::Responses;
use super::{Ads, Snapshots};
use crate::metrics::{Metrics, TypeLabel};
use crate::registry::{Ask, Registration};
use crate::snapshot::{ClientView, Snapshot};

/// Responses between the task and the transport.
const WAITING_RESPONSES: usize = 1;
/// Size near which a response is cut. A response that a client is slow to read is memory, and there are thousands; and
/// what an agent asks for next is named after one response's content, so this bounds requests as well.
const RESPONSE_BYTES: usize = 64 << 10;
/// How long a client may not read before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

type Outgoing = mpsc::Sender<Result<Box<Response>, Status>>;

/// Why a stream's task ends.
enum End {
    /// The client has closed its side, or the connection broke.
    Gone,
    /// This is told to the client, if it still reads.
    Told(Status),
}

struct AdsStream<V> {
    session: Session<ClientView, V>,
    snapshots: Snapshots,
    asks: mpsc::Receiver<Ask>,
    entry: Registration,
    metrics: Metrics,
    client: Client,
    met: bool,
    revision: u64,
    sender: Outgoing,
    _open: Open,
    _place: OwnedSemaphorePermit,
}

/// Counts an open stream until it is dropped, however it ends.
struct Open(Gauge);

/// Starts the stream's task and returns what it sends.
pub(super) fn start<V: Variant>(
    requests: Streaming<V::Request>,
    peer: Option<SocketAddr>,
    ads: &Ads,
    place: OwnedSemaphorePermit,
    leave: CancellationToken,
) -> Responses {
    let (sender, receiver) = mpsc::channel(WAITING_RESPONSES);
    tokio::spawn(supervise::<V>(requests, peer, ads.clone(), sender, place, leave));
    receiver
}

/// Ends the stream's work when its connection is sent away, also when it waits for its client to read.
async fn supervise<V: Variant>(
    requests: Streaming<V::Request>,
    peer: Option<SocketAddr>,
    ads: Ads,
    sender: Outgoing,
    place: OwnedSemaphorePermit,
    leave: CancellationToken,
) {
    let run = run::<V>(requests, peer, ads, sender.clone(), place);
    let ended = leave.run_until_cancelled(run).await;
    let status = match ended {
        _ if leave.is_cancelled() => Status::unavailable("discovery is shutting down"),
        Some(End::Told(status)) => status,
        None | Some(End::Gone) => return,
    };
    // A client that does not read is not waited for: its connection is closed anyway.
    sender.try_send(Err(status)).ok();
}

async fn run<V: Variant>(
    mut requests: Streaming<V::Request>,
    peer: Option<SocketAddr>,
    ads: Ads,
    sender: Outgoing,
    place: OwnedSemaphorePermit,
) -> End {
    let Ads { mut snapshots, metrics, registry, names, .. } = ads;
    // Before the first sync, so that those who wait for it are seen.
    let (entry, asks) = registry.enter(V::NAME, peer);
    let Ok(first) = snapshots.wait_for(Option::is_some).await.map(|first| first.clone()) else {
        return stopped();
    };
    let snapshot = first.unwrap_or_default();
    let revision = snapshot.revision();
    let limits = Limits { response_bytes: RESPONSE_BYTES, ..Limits::default() };
    let mut stream = AdsStream::<V> {
        session: Session::new(limits, ClientView::new(snapshot, "".into(), None)).sharing(&names),
        snapshots,
        asks,
        entry,
        client: Client::default(),
        met: false,
        revision,
        sender,
        _open: Open::new(metrics.streams.clone()),
        metrics,
        _place: place,
    };
    loop {
        if let Err(end) = stream.step(&mut requests).await {
            return end;
        }
    }
}

fn stopped() -> End {
    End::Told(Status::unavailable("discovery has stopped publishing"))
}

// === impl AdsStream ===

impl<V: Variant> AdsStream<V> {
    /// Waits for the next thing to happen and deals with it.
    async fn step(&mut self, requests: &mut Streaming<V::Request>) -> Result<(), End> {
        let responses = tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => self.on_request(request)?,
                Ok(None) | Err(_) => return Err(End::Gone),
            },
            changed = self.snapshots.changed() => {
                changed.map_err(|_| stopped())?;
                self.on_snapshot()
            }
            Some(ask) = self.asks.recv() => {
                ask.send(self.session.report()).ok();
                Vec::new()
            }
        };
        self.entry.stands(self.session.in_sync(), self.session.rejections().count());
        self.send(responses).await
    }

    fn on_request(&mut self, request: V::Request) -> Result<Vec<Response>, End> {
        let head = V::head(&request);
        let label = TypeLabel::of(head.type_url);
        self.metrics.requests.get_or_create(&label).inc();
        self.entry.heard();
        if let Some(node) = head.node.filter(|_| !self.met) {
            self.met = true;
            let (client, error) = Client::of(node);
            self.meet(node, client);
            if let Some(error) = error {
                tracing::warn!(client = &*self.client.id, "{error}");
            }
        }
        if let Some(error) = head.error {
            self.metrics.rejections.get_or_create(&label).inc();
            self.entry.rejected(&error.message);
            let (client, stream) = (&*self.client.id, self.entry.stream());
            let reason = client::cut(&error.message);
            tracing::warn!(client, stream, resource = label.resource, reason = &*reason, "rejected");
        }
        self.session.on_request(request).map_err(|error| {
            tracing::warn!(client = &*self.client.id, stream = self.entry.stream(), %error, "stream refused");
            End::Told(match error.is_exhaustion() {
                true => Status::resource_exhausted(error.to_string()),
                false => Status::invalid_argument(error.to_string()),
            })
        })
    }

    /// Nothing is subscribed to before the first request, so there is nothing to tell of another zone's view.
    fn meet(&mut self, node: &Node, client: Client) {
        self.client = client;
        let view = self.client.view(self.session.view().snapshot().clone());
        self.entry.meet(node, view.zone());
        let (kind, peer) = self.entry.origin();
        let (stream, zone, variant) = (self.entry.stream(), &**view.zone(), V::NAME);
        tracing::info!(client = &*self.client.id, stream, kind, zone, peer, variant, "stream");
        self.session.on_update(&view);
    }

    fn on_snapshot(&mut self) -> Vec<Response> {
        let snapshot: Arc<Snapshot> = self.snapshots.borrow_and_update().clone().unwrap_or_default();
        let changes = snapshot.changed_since(self.revision);
        self.revision = snapshot.revision();
        let view = self.client.view(snapshot);
        match changes.filter(|_| view.zone() == self.session.view().zone()) {
            Some(changes) => self.session.on_changes(&changes, &view),
            // Too much has changed to name it, or the client has: its Node is in another zone.
            None => self.session.on_update(&view),
        }
    }

    async fn send(&mut self, responses: Vec<Response>) -> Result<(), End> {
        for response in responses {
            let label = TypeLabel::of(&response.type_url);
            self.metrics.responses.get_or_create(&label).inc();
            self.metrics.resources.get_or_create(&label).inc_by(response.resources.len() as u64);
            self.metrics.removals.get_or_create(&label).inc_by(response.removed.len() as u64);
            let _blocked = self.entry.writing();
            let sent = tokio::time::timeout(PATIENCE, self.sender.send(Ok(Box::new(response)))).await;
            match sent {
                Ok(sent) => sent.map_err(|_| End::Gone)?,
                Err(_) => {
                    self.metrics.slow_clients.inc();
                    let (client, stream) = (&*self.client.id, self.entry.stream());
                    tracing::warn!(
                        client,
                        stream,
                        seconds = PATIENCE.as_secs(),
                        "given up: it does not read"
                    );
                    return Err(End::Told(Status::resource_exhausted("the client does not read")));
                }
            }
        }
        Ok(())
    }
}

impl<V> Drop for AdsStream<V> {
    fn drop(&mut self) {
        tracing::debug!(client = &*self.client.id, stream = self.entry.stream(), "stream ended");
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
