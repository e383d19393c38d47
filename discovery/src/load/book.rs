// SPDX-License-Identifier: Apache-2.0
//! Entries of reports into intervals. A cell is one combination of port, client zone and endpoint zone.
//!
//! What must always be true: an interval that is complete does not change; a cell of which nothing was heard for as long
//! as intervals are kept is forgotten, and so is a zone's name that no cell uses.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Counts, INTERVAL, Ignored, KEPT, MAX_CELLS, MAX_ZONES, Report};

/// All load of the last intervals.
#[derive(Debug, Default)]
pub struct Book {
    /// Number of the interval that is being filled.
    now: u64,
    cells: HashMap<Key, Cell>,
    clusters: HashSet<Arc<str>>,
    zones: HashSet<Arc<str>>,
    totals: Totals,
}

/// Sums since the start, over everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Reports read.
    pub reports: u64,
    /// What was counted.
    pub counts: Counts,
    /// Parts of reports that were left out.
    pub ignored: BTreeMap<Ignored, u64>,
}

/// One cell, for readers.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// The cluster's name, as served.
    pub cluster: Arc<str>,
    /// The clients' zone; empty: unknown.
    pub from: Arc<str>,
    /// The endpoints' zone; empty: unknown, or no endpoint was picked.
    pub to: Arc<str>,
    /// Sum of the complete intervals.
    pub recent: Counts,
    /// Requests begun in each complete interval, the oldest first.
    pub history: Vec<u64>,
    /// Since the cell was first heard of.
    pub total: Counts,
}

/// A copy of the book for readers, so that those who report do not wait for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// All cells, in no particular order.
    pub flows: Vec<Flow>,
    /// The time that [`Flow::recent`] is of.
    pub window: Duration,
    /// Sums since the start.
    pub totals: Totals,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    cluster: Arc<str>,
    from: Arc<str>,
    to: Arc<str>,
}

#[derive(Debug, Default)]
struct Cell {
    /// Number of the interval that `recent[0]` is.
    newest: u64,
    /// The newest interval first: the one being filled, then the complete ones.
    recent: [Counts; KEPT + 1],
    total: Counts,
}

// === impl Book ===

impl Book {
    /// Adds a report of a client in zone `from`, `at` after the start of the process.
    pub fn add(&mut self, report: &Report, from: &str, at: Duration) {
        self.advance(at);
        self.totals.reports = self.totals.reports.saturating_add(1);
        for (why, parts) in &report.ignored {
            self.ignore(*why, *parts);
        }
        for entry in &report.entries {
            match self.key(&entry.cluster, from, &entry.zone) {
                Some(key) => {
                    let cell = self.cells.entry(key).or_insert_with(|| Cell::new(self.now));
                    cell.advance(self.now);
                    cell.recent[0].add(&entry.counts);
                    cell.total.add(&entry.counts);
                    self.totals.counts.add(&entry.counts);
                }
                None => self.ignore(Ignored::Full, 1),
            }
        }
    }

    /// Brings the intervals up to date, and forgets what nothing was heard of.
    pub fn advance(&mut self, at: Duration) {
        let now = at.as_secs() / INTERVAL.as_secs();
        if now <= self.now {
            return;
        }
        self.now = now;
        self.cells.retain(|_, cell| now - cell.newest <= KEPT as u64);
        // A name that only the set itself still holds is in no cell.
        self.zones.retain(|name| Arc::strong_count(name) > 1);
        self.clusters.retain(|name| Arc::strong_count(name) > 1);
    }

    /// A copy of all that is complete.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let complete = usize::try_from(self.now).unwrap_or(KEPT).min(KEPT);
        let window = INTERVAL * complete as u32;
        Reading { flows: self.flows().collect(), window, totals: self.totals.clone() }
    }

    /// All cells with their complete intervals, in no particular order.
    pub fn flows(&self) -> impl Iterator<Item = Flow> {
        self.cells.iter().map(|(key, cell)| cell.flow(key, self.now))
    }

    /// Sums since the start.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    fn ignore(&mut self, why: Ignored, parts: u64) {
        let sum = self.totals.ignored.entry(why).or_default();
        *sum = sum.saturating_add(parts);
    }

    /// `None`: no room.
    fn key(&mut self, cluster: &str, from: &str, to: &str) -> Option<Key> {
        let key = Key {
            cluster: intern(&mut self.clusters, cluster, MAX_CELLS)?,
            from: intern(&mut self.zones, from, MAX_ZONES)?,
            to: intern(&mut self.zones, to, MAX_ZONES)?,
        };
        (self.cells.len() < MAX_CELLS || self.cells.contains_key(&key)).then_some(key)
    }
}

/// One text for all equal ones.
fn intern(known: &mut HashSet<Arc<str>>, name: &str, room: usize) -> Option<Arc<str>> {
    if let Some(known) = known.get(name) {
        return Some(known.clone());
    }
    if known.len() >= room {
        return None;
    }
    let name: Arc<str> = name.into();
    known.insert(name.clone());
    Some(name)
}

// === impl Cell ===

impl Cell {
    fn new(now: u64) -> Self {
        Self { newest: now, ..Self::default() }
    }

    fn advance(&mut self, now: u64) {
        let kept = self.recent.len();
        let steps = usize::try_from(now - self.newest).unwrap_or(usize::MAX).min(kept);
        self.recent.rotate_right(steps % kept);
        self.recent[..steps].fill(Counts::default());
        self.newest = now;
    }

    fn flow(&self, key: &Key, now: u64) -> Flow {
        // Shown without moving the cell: reading must not need the lock for writing.
        let behind = usize::try_from(now - self.newest).unwrap_or(usize::MAX);
        let complete = (1..=KEPT).rev().map(|age| {
            let place = age.checked_sub(behind);
            place.and_then(|place| self.recent.get(place)).copied().unwrap_or_default()
        });
        let (mut recent, mut history) = (Counts::default(), Vec::with_capacity(KEPT));
        for counts in complete {
            recent.add(&counts);
            history.push(counts.issued);
        }
        let Key { cluster, from, to } = key.clone();
        Flow { cluster, from, to, recent, history, total: self.total }
    }
}
