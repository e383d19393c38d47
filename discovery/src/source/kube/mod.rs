// SPDX-License-Identifier: Apache-2.0
//! The API server of a Kubernetes cluster as a source.
//!
//! ```text
//! watch (one task per kind) ──reports──▶ gather ──changes──▶ Source::next
//!   services, endpointslices, nodes; pods of the namespaces whose Services ask for subsets
//! ```
//!
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/>, KEP-3157 (streaming lists). What must always be
//! true: a lost server is told as [`Change::Link`] and deletes nothing; what it still knows when it is back is compared,
//! not copied; the rights needed are `list` and `watch`. Deliberately not here: what any of it means.

mod ask;
mod backoff;
mod client;
mod gather;
mod kinds;
mod known;
mod lines;
mod request;
mod watch;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::client::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::source::{Change, Source, SourceError};

pub(crate) use client::chain;
pub use client::connect;
pub use gather::ServiceUids;
use gather::{Feed, Gather, Order, Report};
use kinds::{Kind, Nodes, Pods, Services, Slices};
use watch::Watcher;

/// Reports that may wait: enough to keep the watches reading, few enough that a slow indexer slows the server down
/// instead of filling the memory.
const WAITING_REPORTS: usize = 64;

/// Which cluster, and how patient to be with it.
#[derive(Clone, Debug, Default)]
pub struct KubeConfig {
    /// A kubeconfig; its current context is used. `None`: this process is a pod of the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// How long things may take.
    pub timing: Timing,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For an answer to begin, and between two parts of a list.
    pub stall: Duration,
    /// How long a watch must have been open to count as working.
    pub settle: Duration,
    /// How long a watch may be silent. Bookmarks come about once a minute, but not where nothing ever happened.
    pub idle: Duration,
    /// After how long the server is to end a watch, at least; up to twice as long, so that watches spread.
    pub lifetime: Duration,
}

/// A watched cluster. Dropping it ends all watches.
pub struct KubeSource {
    reports: mpsc::Receiver<(Feed, Report)>,
    sender: mpsc::Sender<(Feed, Report)>,
    gather: Gather,
    client: Client,
    timing: Timing,
    uids: ServiceUids,
    watches: JoinSet<()>,
    pods: HashMap<Arc<str>, CancellationToken>,
}

// === impl Timing ===

impl Default for Timing {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            settle: Duration::from_secs(1),
            idle: Duration::from_secs(75),
            lifetime: Duration::from_secs(300),
        }
    }
}

impl Timing {
    fn lifetime(&self, random: u64) -> Duration {
        self.lifetime + Duration::from_secs(random % self.lifetime.as_secs().max(1))
    }
}

// === impl KubeSource ===

impl KubeSource {
    /// Starts to watch. A server that is not there is no error: it is waited for.
    ///
    /// # Errors
    /// [`SourceError::Kubernetes`]: the configuration cannot be used.
    pub async fn open(config: &KubeConfig) -> Result<Self, SourceError> {
        let client = connect(config.kubeconfig.as_deref()).await?;
        Ok(Self::start(client, config.timing))
    }

    fn start(client: Client, timing: Timing) -> Self {
        let (sender, reports) = mpsc::channel(WAITING_REPORTS);
        let feeds = [Services::RESOURCE, Slices::RESOURCE, Nodes::RESOURCE].map(Feed::All);
        let uids = ServiceUids::default();
        let mut source = Self {
            reports,
            sender,
            gather: Gather::new(&feeds, uids.clone()),
            client,
            timing,
            uids,
            watches: JoinSet::new(),
            pods: HashMap::new(),
        };
        let [services, slices, nodes] = feeds;
        source.watch::<Services>(services);
        source.watch::<Slices>(slices);
        source.watch::<Nodes>(nodes);
        source
    }

    /// The client, for what else is asked of the same server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// UIDs of the Services that carry keys of ours.
    pub fn service_uids(&self) -> ServiceUids {
        self.uids.clone()
    }

    fn watch<K: Kind>(&mut self, feed: Feed) -> CancellationToken {
        let stop = CancellationToken::new();
        let watcher = Watcher::<K>::new(self.client.clone(), feed, self.sender.clone(), self.timing);
        self.watches.spawn(watcher.run(stop.clone()));
        stop
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Start(namespace) => {
                let stop = self.watch::<Pods>(Feed::Pods(namespace.clone()));
                self.pods.insert(namespace, stop);
            }
            Order::Stop(namespace) => {
                if let Some(stop) = self.pods.remove(&namespace) {
                    stop.cancel();
                }
            }
        }
    }
}

impl Source for KubeSource {
    async fn next(&mut self) -> Result<Vec<Change>, SourceError> {
        loop {
            let (feed, report) = tokio::select! {
                report = self.reports.recv() => report.ok_or(SourceError::Stopped)?,
                Some(Err(error)) = self.watches.join_next() => {
                    tracing::error!(%error, "a watch has died, which is a defect");
                    return Err(SourceError::Stopped);
                }
            };
            let (changes, orders) = self.gather.take(feed, report);
            orders.into_iter().for_each(|order| self.obey(order));
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

impl fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeSource").field("gather", &self.gather).finish_non_exhaustive()
    }
}
