// SPDX-License-Identifier: Apache-2.0
//! Where Kubernetes objects come from: a stream of typed changes, in batches.
//!
//! A [`Source`] says what is there now; it does not know what a label means. What must always be true: a batch is a
//! consistent step (one file, one watch event), [`Change::Synced`] comes exactly once, after everything that existed at
//! the start, and a source that cannot read something reports a fault and repeats what was last good instead of deleting.
//!
//! [`manifests`] reads a directory, [`kube`] watches an API server.

pub mod kube;
pub mod manifests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::fault::Fault;

/// What identifies an object of one kind. Nodes have no namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Empty for objects of the whole cluster.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// What happened to one object.
#[derive(Clone, Debug)]
pub enum Event<T> {
    /// It exists, with this content.
    Applied(Box<T>),
    /// It does not exist any more.
    Deleted(ObjectKey),
}

/// One step of a source.
#[derive(Clone, Debug)]
pub enum Change {
    /// A Service.
    Service(Event<Service>),
    /// An EndpointSlice.
    Slice(Event<EndpointSlice>),
    /// A Node.
    Node(Event<Node>),
    /// The labels of a Pod. Told only where some Service asks for subsets.
    Pod(Event<PodLabels>),
    /// All faults of one origin (a file), replacing those told before. Empty: mended.
    Faults {
        /// The file or folder, for people.
        origin: String,
        /// What is wrong with it now.
        faults: Vec<Fault>,
    },
    /// Everything that existed at the start has been told.
    Synced,
    /// The source has lost its server, or has it back. What was told before stays valid meanwhile.
    Link {
        /// Whether changes are told as they happen.
        connected: bool,
        /// Why not, for people.
        reason: String,
    },
}

/// What is needed to know of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLabels {
    /// Namespace and name.
    pub key: ObjectKey,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
}

/// Why a source has ended for good.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory could not be watched.
    #[error("cannot watch {path}: {reason}")]
    Watch {
        /// What was to be watched.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The configuration by which a cluster is to be reached cannot be used.
    #[error("{config}: {reason}")]
    Kubernetes {
        /// The flag, and what it names.
        config: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The part of the source that reads has stopped.
    #[error("the source has stopped")]
    Stopped,
}

/// A stream of changes.
pub trait Source: Send {
    /// Waits for the next batch, never empty. Cancel safe: a dropped future loses nothing.
    ///
    /// # Errors
    /// When the source has ended for good; what was told before stays valid.
    fn next(&mut self) -> impl Future<Output = Result<Vec<Change>, SourceError>> + Send;
}

// === impl ObjectKey ===

impl ObjectKey {
    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Namespace and name, as people and maps know it. One is made for each Service that is published.
    pub fn path(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => [namespace, "/", &self.name].concat(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}
