// SPDX-License-Identifier: Apache-2.0
//! Faults: what is wrong with the user's input, told once and kept visible until it is mended.
//!
//! A fault names the object or file, the field, the value, and what to do. It never changes what is served: whoever
//! finds one keeps the last good value. [`FaultBook`] holds all that stand, so that a log line is written when one
//! appears and when it goes, not each time the object is read again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What kind of mistake a fault is; the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// Not YAML or JSON, or not text.
    Syntax,
    /// A field is missing or has a value of the wrong type or range.
    Field,
    /// A label or annotation of ours has a value that it may not have.
    Option,
    /// A key under `evenkeel.io/` that does not exist.
    UnknownKey,
    /// Valid, but this version does not act on it.
    NoEffect,
    /// The same object or address twice.
    Duplicate,
    /// A Service port that no EndpointSlice serves.
    Port,
    /// The Service has nothing that could be balanced.
    NothingToBalance,
    /// The source itself cannot be read.
    Source,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fault {
    /// The kind of mistake.
    pub kind: FaultKind,
    /// The whole sentence for people: where, what, and what would be right.
    pub message: String,
}

/// Where faults come from. All faults of one origin are replaced together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A file, or the directory, of the manifests source.
    File(String),
    /// A Service with its EndpointSlices, as `NAMESPACE/NAME`.
    Service(String),
    /// The source of a fallback cluster, by the cluster's name.
    Cluster(String),
}

/// How many there are of each kind.
pub type FaultCounts = [usize; FaultKind::ALL.len()];

/// All faults that stand now. Clones are handles to the same: the indexer writes, the admin API reads.
#[derive(Clone, Debug, Default)]
pub struct FaultBook {
    standing: Arc<Mutex<Standing>>,
}

#[derive(Debug, Default)]
struct Standing {
    faults: BTreeMap<Origin, Vec<Fault>>,
    /// How many of each kind stand, so that nobody has to count them for each change.
    counts: BTreeMap<FaultKind, usize>,
}

// === impl FaultKind ===

impl FaultKind {
    /// All kinds, so that a metric can say zero.
    pub const ALL: [Self; 9] = [
        Self::Syntax,
        Self::Field,
        Self::Option,
        Self::UnknownKey,
        Self::NoEffect,
        Self::Duplicate,
        Self::Port,
        Self::NothingToBalance,
        Self::Source,
    ];

    /// The metric label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Field => "field",
            Self::Option => "option",
            Self::UnknownKey => "unknown_key",
            Self::NoEffect => "no_effect",
            Self::Duplicate => "duplicate",
            Self::Port => "port",
            Self::NothingToBalance => "nothing_to_balance",
            Self::Source => "source",
        }
    }
}

// === impl Fault ===

impl Fault {
    /// A fault with its sentence.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// === impl FaultBook ===

impl FaultBook {
    /// Replaces what stands for `origin`. Logs what is new and what is mended; returns whether anything differs.
    pub fn replace(&self, origin: Origin, mut faults: Vec<Fault>) -> bool {
        faults.sort();
        faults.dedup();
        let mut standing = self.standing();
        let before = standing.faults.get(&origin).map(Vec::as_slice).unwrap_or_default();
        if before == faults {
            return false;
        }
        for fault in faults.iter().filter(|fault| !before.contains(fault)) {
            tracing::warn!(kind = fault.kind.as_str(), "{fault}");
        }
        for fault in before.iter().filter(|fault| !faults.contains(fault)) {
            tracing::info!(kind = fault.kind.as_str(), "mended: {fault}");
        }
        standing.put(origin, faults);
        true
    }

    /// How many faults of each kind stand.
    pub fn count(&self, kind: FaultKind) -> usize {
        self.standing().counts.get(&kind).copied().unwrap_or_default()
    }

    /// How many faults of each kind stand, in the order of [`FaultKind::ALL`].
    pub fn counts(&self) -> FaultCounts {
        let standing = self.standing();
        FaultKind::ALL.map(|kind| standing.counts.get(&kind).copied().unwrap_or_default())
    }

    /// All standing faults, by origin.
    pub fn all(&self) -> Vec<Fault> {
        self.standing().faults.values().flatten().cloned().collect()
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Standing ===

impl Standing {
    fn put(&mut self, origin: Origin, faults: Vec<Fault>) {
        for fault in &faults {
            *self.counts.entry(fault.kind).or_default() += 1;
        }
        let before = match faults.is_empty() {
            true => self.faults.remove(&origin),
            false => self.faults.insert(origin, faults),
        };
        for fault in before.iter().flatten() {
            self.counts.entry(fault.kind).and_modify(|count| *count -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_stands_is_not_told_again() {
        let book = FaultBook::default();
        let origin = || Origin::Service("demo/web".into());
        let fault = Fault::new(FaultKind::Option, "Service demo/web: label x");
        assert!(book.replace(origin(), vec![fault.clone()]));
        assert!(!book.replace(origin(), vec![fault.clone(), fault]));
        assert_eq!(book.count(FaultKind::Option), 1);
        assert_eq!(book.counts(), FaultKind::ALL.map(|kind| book.count(kind)));
        assert!(book.replace(origin(), vec![]));
        assert_eq!((book.all(), book.count(FaultKind::Option)), (vec![], 0));
    }
}
