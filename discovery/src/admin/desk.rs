// SPDX-License-Identifier: Apache-2.0
//! The handles that answers are read from.

use std::sync::Arc;
use std::time::Instant;

use crate::http::Health;
use crate::link::Link;
use crate::overview::Overview;
use crate::registry::Registry;
use crate::serve::{Loads, Snapshots};
use crate::snapshot::Snapshot;

/// All that the admin API reads. Cloning clones handles.
#[derive(Clone, Debug)]
pub struct Desk {
    /// When the service was started.
    pub started: Instant,
    /// What is served.
    pub snapshots: Snapshots,
    /// What probes are told.
    pub health: Health,
    /// What the indexer leaves for readers.
    pub overview: Overview,
    /// Whether the source hears from its server.
    pub link: Link,
    /// Who is connected.
    pub registry: Registry,
    /// What clients reported.
    pub loads: Loads,
}

// === impl Desk ===

impl Desk {
    /// What is served now; empty before the first sync.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone().unwrap_or_default()
    }
}
