// SPDX-License-Identifier: Apache-2.0
//! Brings snapshots into the maps: one at a time, off the control thread, the newest first.
//!
//! Publications that come faster than they can be written are skipped, only the latest counts. What failed stays in force
//! as it was, is shown as a fault, and is tried again by the writer's tick.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::ledger::Ledger;
use crate::{
    admin::facts::Publications,
    clock::monotonic_ns,
    kernel::{KernelWriter, MapSink, Report},
    store::Store,
};

/// How often ranges and backends that rest are looked at, and failed writes are tried again.
const TICK: Duration = Duration::from_secs(1);
/// As many faults of the maps are shown; more say nothing new.
const SHOWN_FAULTS: usize = 10;

/// What publishing has led to.
#[derive(Default)]
pub(super) struct Published {
    pub(super) publications: Publications,
    /// Service ports in the maps.
    pub(super) services: usize,
    /// Backends that they name.
    pub(super) backends: usize,
    pub(super) faults: Vec<String>,
    pub(super) ledger: Ledger,
}

/// The writer with what it reports to. Owned by one task.
pub(super) struct Publisher<S> {
    writer: Option<KernelWriter<S>>,
    store: Store,
    published: Arc<Mutex<Published>>,
}

impl<S: MapSink + Send + 'static> Publisher<S> {
    pub(super) fn new(writer: KernelWriter<S>, store: Store, published: Arc<Mutex<Published>>) -> Self {
        Self { writer: Some(writer), store, published }
    }

    /// Publishes each new snapshot, for ever.
    pub(super) async fn run(mut self) {
        let mut changes = self.store.changes();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Ok(()) = changes.changed() => self.publish().await,
                _ = ticks.tick() => self.write(KernelWriter::tick).await,
            }
        }
    }

    /// Publishes the snapshot in force.
    pub(super) async fn publish(&mut self) {
        let snapshot = self.store.current();
        self.published.lock().ledger.observe(&snapshot);
        let begun = Instant::now();
        self.write(move |writer, now| writer.publish(&snapshot, now)).await;
        let mut published = self.published.lock();
        let publications = &mut published.publications;
        publications.count += 1;
        publications.last = begun.elapsed();
        publications.total += publications.last;
    }

    /// Runs `work` where it may block.
    async fn write(&mut self, work: impl FnOnce(&mut KernelWriter<S>, Duration) -> Report + Send + 'static) {
        // Away only while a write is under way, and there is one at a time.
        let Some(mut writer) = self.writer.take() else { return };
        let written = tokio::task::spawn_blocking(move || {
            let report = work(&mut writer, Duration::from_nanos(monotonic_ns()));
            (writer, report)
        });
        // A panic in there has ended the process, and nobody cancels it.
        let Ok((writer, report)) = written.await else { return };
        self.writer = Some(writer);
        self.published.lock().note(&report);
    }
}

impl Published {
    fn note(&mut self, report: &Report) {
        if report.superseded {
            return;
        }
        let faults: Vec<String> = report.errors.iter().take(SHOWN_FAULTS).map(ToString::to_string).collect();
        for fault in faults.iter().filter(|fault| !self.faults.contains(fault)) {
            tracing::error!("{fault}");
        }
        self.publications.failed_operations += report.errors.len() as u64;
        self.publications.revision = report.revision.unwrap_or(self.publications.revision);
        self.services = report.services;
        self.backends = report.endpoints;
        self.faults = faults;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_snapshot_that_is_in_the_maps_is_remembered() {
        let mut published = Published::default();
        let mut told = |report: Report| {
            published.note(&report);
            published.publications.revision
        };
        assert_eq!(told(Report::default()), 0, "nothing was published");
        assert_eq!(told(Report { revision: Some(4), ..Report::default() }), 4);
        assert_eq!(told(Report::default()), 4, "a newer one that has not gone in");
        assert_eq!(told(Report { superseded: true, ..Report::default() }), 4);
        assert_eq!(told(Report { revision: Some(6), ..Report::default() }), 6);
    }
}
