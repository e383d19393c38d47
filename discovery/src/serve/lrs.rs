// SPDX-License-Identifier: Apache-2.0
//! The load reporting service: accepted from every client, kept in one [`Book`].
//!
//! Source: `envoy.service.load_stats.v3`. The first request says who reports and is answered once: all clusters, every
//! [`INTERVAL`]. Envoy, gRPC and our agent know `send_all_clusters`; a client that does not reports nothing.
//!
//! What must always be true: a client that reports more often than it was asked to is sent away; one that never reports
//! costs a task. Deliberately not here: what a report means ([`crate::load`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::{
    LoadReportingService, LoadReportingServiceServer,
};
use envoy_types::pb::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use envoy_types::pb::google::protobuf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::client::Client;
use super::{Ads, MAX_STREAMS, Peer, Snapshots};
use crate::load::{self, Book, INTERVAL, Reading};
use crate::registry::Kind;

/// The largest report: 20 000 clusters in three zones.
const MAX_REPORT_BYTES: usize = 8 << 20;
/// Reports in one interval. Clients send one; some send another when they are asked anew.
const MAX_REPORTS: u32 = 10;

/// What clients reported, and how many report. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Loads {
    book: Arc<Mutex<Book>>,
    started: Instant,
    reporters: Arc<AtomicU64>,
}

/// The gRPC service.
#[derive(Clone, Debug)]
pub(super) struct Lrs {
    loads: Loads,
    snapshots: Snapshots,
    places: Arc<Semaphore>,
}

struct Reporter {
    loads: Loads,
    snapshots: Snapshots,
    client: Arc<str>,
    zone: String,
    began: Instant,
    reports: u32,
    _open: Open,
    _place: OwnedSemaphorePermit,
}

/// Counts an open stream until it is dropped, however it ends.
struct Open(Arc<AtomicU64>);

// === impl Loads ===

impl Default for Loads {
    fn default() -> Self {
        Self { book: Arc::default(), started: Instant::now(), reporters: Arc::default() }
    }
}

impl Loads {
    /// Streams that report.
    #[must_use]
    pub fn reporters(&self) -> u64 {
        self.reporters.load(Ordering::Relaxed)
    }

    /// A copy of what was reported until now.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let mut book = self.book();
        book.advance(self.started.elapsed());
        book.reading()
    }

    fn add(&self, report: &load::Report, zone: &str) {
        self.book().add(report, zone, self.started.elapsed());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Lrs ===

impl Lrs {
    pub(super) fn new(ads: &Ads) -> Self {
        Self {
            loads: ads.loads.clone(),
            snapshots: ads.snapshots.clone(),
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    pub(super) fn into_server(self) -> LoadReportingServiceServer<Self> {
        LoadReportingServiceServer::new(self).max_decoding_message_size(MAX_REPORT_BYTES)
    }
}

#[tonic::async_trait]
impl LoadReportingService for Lrs {
    type StreamLoadStatsStream = ReceiverStream<Result<LoadStatsResponse, Status>>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let full =
            |_| Status::resource_exhausted(format!("{MAX_STREAMS} streams report load, which is the limit"));
        let place = self.places.clone().try_acquire_owned().map_err(full)?;
        let peer = request.extensions().get::<Peer>().and_then(|peer| peer.address);
        let leave = Peer::leave(request.extensions());
        let reporter = Reporter {
            loads: self.loads.clone(),
            snapshots: self.snapshots.clone(),
            client: "".into(),
            zone: String::new(),
            began: Instant::now(),
            reports: 0,
            _open: Open::new(&self.loads.reporters),
            _place: place,
        };
        let (sender, receiver) = mpsc::channel(1);
        let requests = request.into_inner();
        tokio::spawn(async move {
            let client = peer.map(|peer| peer.to_string()).unwrap_or_default();
            let status = match leave.run_until_cancelled(reporter.run(requests, &sender, &client)).await {
                None => Status::unavailable("discovery is shutting down"),
                Some(Ok(())) => return,
                Some(Err(status)) => status,
            };
            sender.try_send(Err(status)).ok();
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

// === impl Reporter ===

impl Reporter {
    async fn run(
        mut self,
        mut requests: Streaming<LoadStatsRequest>,
        sender: &mpsc::Sender<Result<LoadStatsResponse, Status>>,
        peer: &str,
    ) -> Result<(), Status> {
        let mut met = false;
        // The client closes its side, or the connection breaks: both end it.
        while let Ok(Some(request)) = requests.message().await {
            if !std::mem::replace(&mut met, true) {
                self.meet(request.node.clone().unwrap_or_default(), peer);
                // There is room for it, and a client that has gone is noticed by the next read.
                sender.try_send(Ok(answer())).ok();
            }
            self.take(&request)?;
        }
        Ok(())
    }

    fn meet(&mut self, node: Node, peer: &str) {
        let snapshot = self.snapshots.borrow().clone().unwrap_or_default();
        let (client, _) = Client::of(&node);
        self.zone = client.view(snapshot).zone().to_string();
        self.client = client.id;
        let kind = Kind::of(&node.user_agent_name).as_str();
        tracing::info!(client = &*self.client, kind, zone = self.zone, peer, "reports load");
    }

    fn take(&mut self, request: &LoadStatsRequest) -> Result<(), Status> {
        if self.began.elapsed() >= INTERVAL {
            (self.began, self.reports) = (Instant::now(), 0);
        }
        self.reports += 1;
        if self.reports > MAX_REPORTS {
            tracing::warn!(client = &*self.client, "load reports refused: too many");
            return Err(Status::resource_exhausted(format!(
                "more than {MAX_REPORTS} reports in {} s; one was asked for",
                INTERVAL.as_secs()
            )));
        }
        if request.cluster_stats.is_empty() {
            return Ok(());
        }
        let snapshot = self.snapshots.borrow().clone().unwrap_or_default();
        let report = load::read(request, |cluster| snapshot.serves(cluster));
        if !report.ignored.is_empty() {
            let ignored = format!("{:?}", report.ignored);
            tracing::debug!(client = &*self.client, ignored, "parts of a load report are left out");
        }
        self.loads.add(&report, &self.zone);
        Ok(())
    }
}

fn answer() -> LoadStatsResponse {
    const SECONDS: i64 = Duration::as_secs(&INTERVAL) as i64;
    LoadStatsResponse {
        send_all_clusters: true,
        load_reporting_interval: Some(protobuf::Duration { seconds: SECONDS, nanos: 0 }),
        ..LoadStatsResponse::default()
    }
}

// === impl Open ===

impl Open {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
