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
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::client::{self, Client};
use super::tidy::Tidy;
use crate::metrics::{Metrics, PerType};
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
    types: PerType,
    client: Client,
    met: bool,
    /// Resources that it was sent since it was in sync with [`MANY`].
    sent: usize,
    tidy: Tidy,
    _open: Open,
    _place: OwnedSemaphorePermit,
}

/// Counts responses on their way.
struct Counted<'a, E> {
    types: &'a PerType,
    sent: &'a mut usize,
    out: &'a mut E,
}

/// Counts an open stream until it is dropped, however it ends.
struct Open(Gauge);

// === impl AdsStream ===

impl<V: Variant> AdsStream<V> {
    /// A stream that begins with this snapshot.
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        entry: Registration,
        metrics: &Metrics,
        (names, tidy): (&NamePool, &Tidy),
        place: OwnedSemaphorePermit,
    ) -> Self {
        let limits = Limits { response_bytes: RESPONSE_BYTES, ..Limits::default() };
        let session = Session::new(limits, ClientView::new(snapshot, "".into(), None)).sharing(names);
        let open = Open::new(metrics.streams.clone());
        let client = Client::default();
        let tidy = tidy.clone();
        Self {
            session,
            entry,
            types: metrics.types.clone(),
            client,
            met: false,
            sent: 0,
            tidy,
            _open: open,
            _place: place,
        }
    }

    /// Takes an encoded request, and puts into `out` what to tell.
    ///
    /// # Errors
    /// What the client is to be told at the end: this is no request, or it has asked for too much.
    pub(super) fn on_request(
        &mut self,
        message: &[u8],
        out: &mut impl Extend<Response>,
    ) -> Result<(), Status> {
        let mut counted = Counted { types: &self.types, sent: &mut self.sent, out };
        match self.session.take_acknowledgement(message, &mut counted) {
            Some(type_url) => _ = self.types.of(type_url).requests.inc(),
            None => self.on_decoded(decode(message)?, out)?,
        }
        let in_sync = self.session.in_sync();
        self.entry.heard(in_sync, self.session.rejected());
        if in_sync && self.sent >= MANY {
            self.sent = 0;
            self.tidy.after_sync();
        }
        Ok(())
    }

    fn on_decoded(&mut self, request: V::Request, out: &mut impl Extend<Response>) -> Result<(), Status> {
        let head = V::head(&request);
        if let Some(node) = head.node.filter(|_| !self.met) {
            self.met = true;
            let (client, error) = Client::of(node);
            self.meet(node, client);
            if let Some(error) = error {
                tracing::warn!(client = &*self.client.id, "{error}");
            }
        }
        let counters = self.types.of(head.type_url);
        counters.requests.inc();
        if let Some(error) = head.error {
            counters.rejections.inc();
            self.entry.rejected(&error.message);
            let (client, stream) = (&*self.client.id, self.entry.stream());
            let (resource, reason) = (counters.resource, client::cut(&error.message));
            tracing::warn!(client, stream, resource, reason = &*reason, "rejected");
        }
        let mut counted = Counted { types: &self.types, sent: &mut self.sent, out };
        self.session.take_request(request, &mut counted).map_err(|error| {
            tracing::warn!(client = &*self.client.id, stream = self.entry.stream(), %error, "stream refused");
            match error.is_exhaustion() {
                true => Status::resource_exhausted(error.to_string()),
                false => Status::invalid_argument(error.to_string()),
            }
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

    /// Goes over to a snapshot, and puts into `out` what to tell of it.
    pub(super) fn on_snapshot(&mut self, snapshot: Arc<Snapshot>, out: &mut impl Extend<Response>) {
        let old = self.session.view();
        let view = self.client.view_after(old, snapshot);
        let news = view.since(old);
        let mut counted = Counted { types: &self.types, sent: &mut self.sent, out };
        match news {
            Some(news) => self.session.take_changes(&*news, view, &mut counted),
            // Too much has changed to name it, or the client has: its Node is in another zone.
            None => self.session.take_view(view, &mut counted),
        }
        self.entry.stands(self.session.in_sync(), self.session.rejected());
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
}

fn decode<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    M::decode(message)
        .map_err(|error| Status::invalid_argument(format!("not a request of this method: {error}")))
}

impl<V> Drop for AdsStream<V> {
    fn drop(&mut self) {
        tracing::debug!(client = &*self.client.id, stream = self.entry.stream(), "stream ended");
    }
}

// === impl Counted ===

impl<E: Extend<Response>> Extend<Response> for Counted<'_, E> {
    fn extend<I: IntoIterator<Item = Response>>(&mut self, responses: I) {
        let Self { types, sent, out } = self;
        out.extend(responses.into_iter().inspect(|response| {
            **sent += response.resources.len();
            types.of(&response.type_url).told(response);
        }));
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
