// SPDX-License-Identifier: Apache-2.0
//! What one ADS stream of either variant does: requests and snapshots in, responses out. Who calls it is in `body`.
//!
//! What must always be true: nothing here waits. Snapshots that pass while a client does not read are skipped, and the
//! client is told the difference to the newest.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use evenkeel_xds::server::{NamePool, Session, Variant};
use evenkeel_xds::{Limits, Response};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::client::{self, Client};
use super::tidy::Tidy;
use crate::metrics::Metrics;
use crate::registry::{Ask, Registration};
use crate::snapshot::{ClientView, Snapshot};

/// Size near which a response is cut. What an agent asks for next is named after one response's content, so this bounds
/// requests as well.
const RESPONSE_BYTES: usize = 64 << 10;
/// Resources that cost memory worth mentioning while they are sent.
const MANY: usize = 32;

/// An open stream whose client can be served.
pub(super) struct AdsStream<V> {
    session: Session<ClientView, V>,
    entry: Registration,
    metrics: Metrics,
    client: Client,
    met: bool,
    revision: u64,
    /// Resources that it was sent since it was in sync with [`MANY`].
    sent: usize,
    tidy: Tidy,
    _open: Open,
    _place: OwnedSemaphorePermit,
}

/// Counts an open stream until it is dropped, however it ends.
struct Open(Gauge);

// === impl AdsStream ===

impl<V: Variant> AdsStream<V> {
    /// A stream that begins with this snapshot.
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        entry: Registration,
        metrics: Metrics,
        (names, tidy): (&NamePool, &Tidy),
        place: OwnedSemaphorePermit,
    ) -> Self {
        let limits = Limits { response_bytes: RESPONSE_BYTES, ..Limits::default() };
        let revision = snapshot.revision();
        let session = Session::new(limits, ClientView::new(snapshot, "".into(), None)).sharing(names);
        let open = Open::new(metrics.streams.clone());
        let client = Client::default();
        let tidy = tidy.clone();
        Self {
            session,
            entry,
            metrics,
            client,
            met: false,
            revision,
            sent: 0,
            tidy,
            _open: open,
            _place: place,
        }
    }

    /// # Errors
    /// What the client is to be told at the end: it has asked for too much.
    pub(super) fn on_request(&mut self, request: V::Request) -> Result<Vec<Response>, Status> {
        let head = V::head(&request);
        if let Some(node) = head.node.filter(|_| !self.met) {
            self.met = true;
            let (client, error) = Client::of(node);
            self.meet(node, client);
            if let Some(error) = error {
                tracing::warn!(client = &*self.client.id, "{error}");
            }
        }
        let counters = self.metrics.of_type(head.type_url);
        counters.requests.inc();
        if let Some(error) = head.error {
            counters.rejections.inc();
            self.entry.rejected(&error.message);
            let (client, stream) = (&*self.client.id, self.entry.stream());
            let (resource, reason) = (counters.resource, client::cut(&error.message));
            tracing::warn!(client, stream, resource, reason = &*reason, "rejected");
        }
        let responses = self.session.on_request(request).map_err(|error| {
            tracing::warn!(client = &*self.client.id, stream = self.entry.stream(), %error, "stream refused");
            match error.is_exhaustion() {
                true => Status::resource_exhausted(error.to_string()),
                false => Status::invalid_argument(error.to_string()),
            }
        })?;
        let in_sync = self.session.in_sync();
        self.entry.heard(in_sync, self.session.rejections().count());
        if in_sync && self.sent >= MANY {
            self.sent = 0;
            self.tidy.after_sync();
        }
        Ok(self.counted(responses))
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

    pub(super) fn on_snapshot(&mut self, snapshot: Arc<Snapshot>) -> Vec<Response> {
        let changes = snapshot.changed_since(self.revision);
        self.revision = snapshot.revision();
        let view = self.client.view(snapshot);
        let responses = match changes.filter(|_| view.zone() == self.session.view().zone()) {
            Some(changes) => self.session.on_changes(&*changes, &view),
            // Too much has changed to name it, or the client has: its Node is in another zone.
            None => self.session.on_update(&view),
        };
        self.entry.stands(self.session.in_sync(), self.session.rejections().count());
        self.counted(responses)
    }

    /// Somebody wants to know what the client wants, holds and rejects.
    pub(super) fn on_ask(&self, ask: Ask) {
        ask.send(self.session.report()).ok();
    }

    /// A response goes to the transport.
    pub(super) fn writing(&self) {
        self.entry.writing();
    }

    /// The transport has room for another.
    pub(super) fn wrote(&self) {
        self.entry.wrote();
    }

    fn counted(&mut self, responses: Vec<Response>) -> Vec<Response> {
        for response in &responses {
            self.sent += response.resources.len();
            let counters = self.metrics.of_type(&response.type_url);
            counters.responses.inc();
            counters.resources.inc_by(response.resources.len() as u64);
            counters.removals.inc_by(response.removed.len() as u64);
        }
        responses
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
