// SPDX-License-Identifier: Apache-2.0
//! Publishes snapshots to the maps: compile, diff, apply; and frees what nobody names any more.
//!
//! Always true:
//! * only the agent whose generation is in `CONTROL` writes, and no two write at once (see [`Ownership`]);
//! * the first publication after a claim reads back what is pinned, so that nothing is written twice and nothing that is
//!   in use is overwritten;
//! * what fails for one port is reported, tried again by [`KernelWriter::tick`], and concerns no other port;
//! * the empty snapshot of the start removes nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use evenkeel_abi::{Backend, ServiceKey};
use parking_lot::RwLock;

use super::{
    KernelError, MapSink,
    compile::compile,
    diff::{Capacity, Change, Full, Operation, Tables},
    image::{Image, show},
    ownership::Ownership,
    reconcile::recover,
};
use crate::store::Snapshot;

/// What a publication did.
#[derive(Debug, Default)]
pub struct Report {
    /// Service ports in the maps.
    pub services: usize,
    /// Backends that they name.
    pub endpoints: usize,
    /// Writes that were made.
    pub operations: usize,
    /// Another agent owns the maps, or nobody has claimed them yet: nothing was written.
    pub superseded: bool,
    /// Revision of the snapshot that is wanted, when the maps say all of it.
    pub revision: Option<u64>,
    /// What did not go in. It is tried again by `tick`.
    pub errors: Vec<WriteError>,
}

/// A write that did not go in; what was in force for it still is.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no room.
    #[error(transparent)]
    Full(#[from] Full),
    /// The kernel refused.
    #[error("service port {}: {source}", show(service))]
    Port {
        /// Whose table.
        service: ServiceKey,
        /// Why not.
        source: KernelError,
    },
    /// The kernel refused something that concerns no single port.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// The only writer of the services' maps in this process.
pub struct KernelWriter<S> {
    sink: S,
    capacity: Capacity,
    ownership: Ownership,
    /// Index of each backend, for readers of loads.
    index: Arc<RwLock<HashMap<Backend, u32>>>,
    /// `None` until what is pinned was read under the present claim.
    tables: Option<Tables>,
    /// What the maps should say. `None` until the first snapshot.
    wanted: Option<Image>,
    /// Whether they do, as far as we know.
    settled: bool,
    /// Of the snapshot that `wanted` is the image of, where it is one's.
    revision: Option<u64>,
}

impl<S: MapSink> KernelWriter<S> {
    /// A writer on `sink`.
    pub fn new(
        sink: S,
        capacity: Capacity,
        ownership: Ownership,
        index: Arc<RwLock<HashMap<Backend, u32>>>,
    ) -> Self {
        Self { sink, capacity, ownership, index, tables: None, wanted: None, settled: true, revision: None }
    }

    /// Makes the maps say what `snapshot` says. `now` is any monotonic clock, the same at each call.
    pub fn publish(&mut self, snapshot: &Snapshot, now: Duration) -> Report {
        if snapshot.revision == 0 {
            return self.tick(now);
        }
        let image = compile(snapshot, self.wanted.as_ref().unwrap_or(&Image::default()));
        self.want(image, Some(snapshot.revision), now)
    }

    /// As [`KernelWriter::publish`], for an image.
    pub fn publish_image(&mut self, image: Image, now: Duration) -> Report {
        self.want(image, None, now)
    }

    fn want(&mut self, image: Image, revision: Option<u64>, now: Duration) -> Report {
        self.wanted = Some(image);
        self.revision = revision;
        self.settled = false;
        self.tick(now)
    }

    /// Frees what has rested long enough, and tries again what did not go in. Call it about once a second.
    pub fn tick(&mut self, now: Duration) -> Report {
        let mut report = Report::default();
        let ownership = self.ownership.clone();
        let _writing = match ownership.enter() {
            Ok(Some(guard)) => guard,
            Ok(None) => {
                // Whoever owns the maps now changes them; what we know of them is worth nothing any more.
                self.tables = None;
                self.settled = self.wanted.is_none();
                report.superseded = true;
                return report;
            }
            Err(error) => {
                report.errors.push(error.into());
                return report;
            }
        };
        if let Err(error) = self.run(now, &mut report) {
            report.errors.push(error.into());
        }
        self.settled = report.errors.is_empty();
        report.revision = self.revision.filter(|_| self.settled);
        report
    }

    fn run(&mut self, now: Duration, report: &mut Report) -> Result<(), KernelError> {
        let mut tables = match self.tables.take() {
            Some(tables) => tables,
            None => self.recover(now)?,
        };
        let freed = self.free(&mut tables, now, report);
        if !self.settled {
            self.write(&mut tables, now, report);
        }
        report.services = tables.service_count();
        report.endpoints = tables.backend_count();
        self.tables = Some(tables);
        freed
    }

    fn recover(&mut self, now: Duration) -> Result<Tables, KernelError> {
        let tables = recover(&self.sink.read()?, self.capacity, now);
        *self.index.write() = tables.places().collect();
        self.settled = self.wanted.is_none();
        Ok(tables)
    }

    fn free(&mut self, tables: &mut Tables, now: Duration, report: &mut Report) -> Result<(), KernelError> {
        for operation in tables.expire(now, |index| self.sink.load(index)) {
            self.sink.apply(&operation)?;
            report.operations += 1;
            if let Operation::ClearBackend { backend, .. } = operation {
                self.index.write().remove(&backend);
                tables.freed(&backend);
            }
        }
        Ok(())
    }

    fn write(&mut self, tables: &mut Tables, now: Duration, report: &mut Report) {
        let Some(wanted) = self.wanted.take() else { return };
        for key in tables.surplus(&wanted) {
            let change = tables.stage_removal(key);
            self.apply(tables, key, change, now, report);
        }
        for (key, image) in &wanted.services {
            if tables.says(key, image) {
                continue;
            }
            match tables.stage(*key, image) {
                Ok(change) => self.apply(tables, *key, change, now, report),
                Err(full) => report.errors.push(full.into()),
            }
        }
        self.wanted = Some(wanted);
    }

    fn apply(
        &mut self,
        tables: &mut Tables,
        key: ServiceKey,
        change: Change,
        now: Duration,
        report: &mut Report,
    ) {
        for operation in &change.operations {
            if let Err(source) = self.sink.apply(operation) {
                report.errors.push(WriteError::Port { service: key, source });
                tables.abort(change, now);
                return;
            }
            report.operations += 1;
            if let Operation::WriteBackend { index, backend } = operation {
                self.index.write().insert(*backend, *index);
            }
        }
        tables.commit(change, now);
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
