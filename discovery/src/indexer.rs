// SPDX-License-Identifier: Apache-2.0
//! The single writer: what sources tell becomes snapshots.
//!
//! What must always be true: nothing is published before our own cluster's first sync, and then everything at once; what
//! has arrived together is published together; a Service that changes all the time is published once per
//! [`pace::WINDOW`] and holds up no other; a source that has ended leaves what it told in force.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::fault::{Fault, FaultCounts, FaultKind, Origin};
use crate::feed::{Batch, Inbox, Message};
use crate::http::Health;
use crate::index::{Counts, Index};
use crate::metrics::Metrics;
use crate::overview::Overview;
use crate::pace::{self, Pace};
use crate::snapshot::Snapshot;
use crate::source::{Change, ObjectKey, SourceError};

/// Messages that are looked at before the next snapshot. More would make the first of them wait.
const TOGETHER: usize = 64;

/// The writer and all that only it may touch.
pub(crate) struct Indexer {
    index: Index,
    overview: Overview,
    current: Arc<Snapshot>,
    synced: bool,
    /// What the metrics say.
    counted: Option<(Counts, FaultCounts)>,
    pace: Pace<ObjectKey>,
    /// The moment from which the pace counts.
    began: Instant,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    events: Option<Events>,
    metrics: Metrics,
    health: Health,
}

// === impl Indexer ===

impl Indexer {
    /// A writer that knows nothing yet. `fallbacks` are the names of the clusters that Services may fall back to.
    pub(crate) fn new(
        fallbacks: &[Arc<str>],
        snapshots: watch::Sender<Option<Arc<Snapshot>>>,
        events: Option<Events>,
        metrics: Metrics,
        health: Health,
        overview: Overview,
    ) -> Self {
        Self {
            index: Index::new(fallbacks.iter().cloned()),
            overview,
            current: Arc::default(),
            synced: false,
            counted: None,
            pace: Pace::new(pace::WINDOW),
            began: Instant::now(),
            snapshots,
            events,
            metrics,
            health,
        }
    }

    /// Works until `shutdown`. The sender of snapshots lives as long, because streams would end without it.
    pub(crate) async fn run(mut self, mut inbox: Inbox, shutdown: CancellationToken) {
        let mut messages = Vec::with_capacity(TOGETHER);
        let mut listening = true;
        loop {
            let due = self.pace.next();
            let wake = tokio::time::sleep_until(self.began + due.unwrap_or_default());
            tokio::select! {
                () = shutdown.cancelled() => return,
                count = inbox.recv_many(&mut messages, TOGETHER), if listening => listening = count > 0,
                () = wake, if due.is_some() => {}
            }
            let began = Instant::now();
            let mut first = false;
            for message in messages.drain(..) {
                first |= self.take(message);
            }
            self.publish(first);
            self.metrics.publish_seconds.observe(began.elapsed().as_secs_f64());
        }
    }

    /// Returns whether this completes the first sync.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Batch(batch) => self.apply(batch),
            Message::Ended { cluster, error } => {
                self.note_end(cluster.as_deref(), &error);
                false
            }
        }
    }

    fn apply(&mut self, batch: Batch) -> bool {
        let cluster = batch.cluster.as_deref();
        let mut synced = false;
        // By value: an object is let go as soon as it has been read.
        for change in batch.changes {
            self.index.apply(cluster, &change);
            match change {
                Change::Faults { origin, faults } => self.note_faults(cluster, origin, faults),
                Change::Synced => synced |= cluster.is_none(),
                Change::Service(_) | Change::Slice(_) | Change::Node(_) | Change::Pod(_) => {}
                Change::Link { connected, reason } => self.note_link(cluster, connected, &reason),
            }
        }
        synced && !self.synced
    }

    fn note_faults(&mut self, cluster: Option<&str>, origin: String, faults: Vec<Fault>) {
        let Some(cluster) = cluster else {
            self.overview.faults.replace(Origin::File(origin), faults);
            return;
        };
        let named = |text: &str| format!("cluster {cluster}: {text}");
        let faults = faults.iter().map(|fault| Fault::new(fault.kind, named(&fault.message))).collect();
        self.overview.faults.replace(Origin::File(named(&origin)), faults);
    }

    /// Our own cluster's age is a metric and in `/ready`; a fallback cluster that is away is a fault.
    fn note_link(&mut self, cluster: Option<&str>, connected: bool, reason: &str) {
        if let Some(cluster) = cluster {
            let what = format!("cluster {cluster}: out of reach: {reason}; what it told last is still used");
            let fault = (!connected).then(|| Fault::new(FaultKind::Source, what));
            self.overview.faults.replace(Origin::Cluster(cluster.to_owned()), fault.into_iter().collect());
        } else if !connected {
            tracing::warn!(reason, "the source is out of reach; what it told last is still served");
            self.metrics.link.lose(reason, std::time::Instant::now());
        } else if let Some(lost) = self.metrics.link.restore(std::time::Instant::now()) {
            tracing::info!(seconds = lost.as_secs_f64(), "the source is back");
        }
    }

    fn note_end(&mut self, cluster: Option<&str>, error: &SourceError) {
        let Some(cluster) = cluster else {
            tracing::error!(%error, "the source has ended; what it told last is still served");
            return self.health.set_source_ended();
        };
        let what =
            format!("cluster {cluster}: the source has ended: {error}; what it told last is still used");
        self.overview
            .faults
            .replace(Origin::Cluster(cluster.to_owned()), vec![Fault::new(FaultKind::Source, what)]);
    }

    fn publish(&mut self, first: bool) {
        self.synced |= first;
        if self.synced {
            let changed = self.index.take_dirty();
            let due = if first { changed } else { self.pace.offer(changed, self.now()) };
            self.serve(due, first);
        }
        self.count();
        if first {
            self.health.set_synced();
            tracing::info!(services = self.current.len(), "in sync");
        }
    }

    /// Tells how many objects and faults there are. Most changes change neither.
    fn count(&mut self) {
        let (objects, faults) = (self.index.counts(), self.overview.faults.counts());
        self.overview.publish(objects);
        if self.counted != Some((objects, faults)) {
            self.counted = Some((objects, faults));
            self.metrics.set_objects(objects);
            self.metrics.set_faults(faults);
        }
    }

    /// Makes these Services what clients see. The first time clients are told even if there is nothing to see.
    fn serve(&mut self, keys: BTreeSet<ObjectKey>, first: bool) {
        let Self { index, overview, current, events, .. } = self;
        let updates = keys.into_iter().map(|key| {
            let resolved = index.resolve(&key);
            let differs = overview.faults.replace(Origin::Service(key.path()), resolved.faults.clone());
            if let Some(events) = events.as_ref().filter(|_| differs) {
                events.report(&key, &resolved.faults);
            }
            (key, resolved.view)
        });
        let next = current.with(updates, index.zones());
        if let Some(next) = next {
            tracing::debug!(revision = next.revision(), services = next.len(), "snapshot");
            self.metrics.revision.set(i64::try_from(next.revision()).unwrap_or(i64::MAX));
            self.current = Arc::new(next);
        } else if !first {
            return;
        }
        self.snapshots.send_replace(Some(self.current.clone()));
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}
