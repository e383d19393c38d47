// SPDX-License-Identifier: Apache-2.0
//! What the indexer leaves for readers besides snapshots: standing faults, counts of objects, when it published last.
//!
//! The indexer writes, the admin API reads. No lock is held longer than it takes to copy.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::fault::FaultBook;
use crate::index::Counts;

/// A handle; clones share one content.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// All faults that stand.
    pub faults: FaultBook,
    published: Arc<Mutex<Published>>,
}

#[derive(Debug, Default)]
struct Published {
    objects: Option<Counts>,
    at: Option<Instant>,
}

// === impl Overview ===

impl Overview {
    /// A snapshot was published; these objects are in the index.
    pub fn publish(&self, objects: Counts) {
        *self.published() = Published { objects: Some(objects), at: Some(Instant::now()) };
    }

    /// How many objects of each kind are in the index.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<&'static str, usize> {
        self.published().objects.into_iter().flatten().collect()
    }

    /// When a snapshot was published last.
    #[must_use]
    pub fn last_published(&self) -> Option<Instant> {
        self.published().at
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
