// SPDX-License-Identifier: Apache-2.0
//! Wiring: source → index → snapshots → servers, and the order in which they end.
//!
//! The indexer is the only writer. It publishes a snapshot per batch, once the first sync is complete; before that,
//! streams wait and `/ready` says so.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Listen};
use crate::fault::{FaultBook, Origin};
use crate::http::{self, Health};
use crate::index::Index;
use crate::metrics::Metrics;
use crate::serve::{self, Ads, Listener};
use crate::snapshot::Snapshot;
use crate::source::manifests::ManifestSource;
use crate::source::{Change, Source, SourceError};

/// How long open connections have to close at shutdown. They are told at once, so this is for clients that hang.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be bound.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Bind {
        /// The flag that named the address.
        flag: &'static str,
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The source could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// A start under way. Boxed, so that all that hangs on it is compiled here, once, and not again in the binary and in each
/// test that starts one.
pub type Starting<'a> = Pin<Box<dyn Future<Output = Result<App, StartError>> + Send + 'a>>;

/// A running service. Dropping it without [`App::shutdown`] leaves its tasks to the runtime.
#[derive(Debug)]
pub struct App {
    ads_address: Listen,
    http_address: SocketAddr,
    metrics: Metrics,
    shutdown: CancellationToken,
    ads: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

// === impl App ===

impl App {
    /// Starts with the manifests directory of the configuration.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(config: &Config) -> Starting<'_> {
        Box::pin(async move {
            let Config { manifests, listen, http } = config;
            let source = ManifestSource::open(manifests.clone())?;
            Self::start_with(source, listen, *http).await
        })
    }

    /// Starts with any source.
    ///
    /// # Errors
    /// [`StartError::Bind`]; nothing is left running.
    pub async fn start_with(
        source: impl Source + 'static,
        listen: &Listen,
        http: SocketAddr,
    ) -> Result<Self, StartError> {
        let bind_error = |flag, address: String| move |source| StartError::Bind { flag, address, source };
        let listener = Listener::bind(listen).await.map_err(bind_error("--listen", listen.to_string()))?;
        let socket = TcpListener::bind(http).await.map_err(bind_error("--http", http.to_string()))?;
        let http_address = socket.local_addr().map_err(bind_error("--http", http.to_string()))?;
        let ads_address = listener.address().clone();
        tracing::info!(protocol = "ads", address = %ads_address, "listening");
        tracing::info!(protocol = "http", address = %http_address, "listening");

        let (metrics, shutdown) = (Metrics::new(), CancellationToken::new());
        let health = Health::new(shutdown.clone());
        let (sender, snapshots) = watch::channel(None);
        let indexer = Indexer::new(sender, metrics.clone(), health.clone());
        let ads = Ads::new(snapshots, metrics.clone(), shutdown.clone());
        let others = vec![
            tokio::spawn(indexer.run(source, shutdown.clone())),
            tokio::spawn(http::serve(socket, health, metrics.clone(), shutdown.clone())),
        ];
        let ads = tokio::spawn(async move {
            if let Err(error) = serve::serve(listener, ads).await {
                tracing::error!(%error, "ADS has stopped");
            }
        });
        Ok(Self { ads_address, http_address, metrics, shutdown, ads, others })
    }

    /// Where ADS is served; the port is the real one.
    pub fn ads_address(&self) -> &Listen {
        &self.ads_address
    }

    /// Where metrics and readiness are served; the port is the real one.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// The service's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns when the ADS server has ended by itself, which it never should.
    pub async fn failed(&mut self) {
        // Polled again after completion a JoinHandle would panic; whoever calls this shuts down afterwards.
        (&mut self.ads).await.ok();
    }

    /// Ends everything: clients are told to go elsewhere, then sockets are closed.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        for task in self.others {
            task.await.ok();
        }
        if self.ads.is_finished() {
            return;
        }
        let abort = self.ads.abort_handle();
        if tokio::time::timeout(DRAIN, self.ads).await.is_err() {
            tracing::warn!("some connections did not close in time");
            abort.abort();
        }
    }
}

/// The single writer.
struct Indexer {
    index: Index,
    book: FaultBook,
    current: Arc<Snapshot>,
    synced: bool,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    metrics: Metrics,
    health: Health,
}

// === impl Indexer ===

impl Indexer {
    fn new(snapshots: watch::Sender<Option<Arc<Snapshot>>>, metrics: Metrics, health: Health) -> Self {
        Self {
            index: Index::default(),
            book: FaultBook::default(),
            current: Arc::default(),
            synced: false,
            snapshots,
            metrics,
            health,
        }
    }

    async fn run(mut self, mut source: impl Source, shutdown: CancellationToken) {
        loop {
            match shutdown.run_until_cancelled(source.next()).await {
                None => return,
                Some(Ok(batch)) => self.apply(&batch),
                Some(Err(error)) => {
                    tracing::error!(%error, "the source has ended; what it told last is still served");
                    self.health.set_source_ended();
                    // The sender must live: streams would end without it.
                    return shutdown.cancelled().await;
                }
            }
        }
    }

    fn apply(&mut self, batch: &[Change]) {
        let began = Instant::now();
        let mut first = false;
        for change in batch {
            self.index.apply(change);
            match change {
                Change::Faults { origin, faults } => {
                    self.book.replace(Origin::File(origin.clone()), faults.clone());
                }
                Change::Synced => first = true,
                Change::Service(_) | Change::Slice(_) | Change::Node(_) => {}
            }
        }
        let next = self.resolve();
        if let Some(next) = next {
            tracing::debug!(revision = next.revision(), services = next.len(), "snapshot");
            self.current = Arc::new(next);
            self.metrics.revision.set(i64::try_from(self.current.revision()).unwrap_or(i64::MAX));
            self.metrics.set_objects(self.index.counts());
        }
        self.metrics.set_faults(&self.book);
        self.synced |= first;
        if self.synced {
            self.snapshots.send_if_modified(|served| {
                let differs = served.as_ref().is_none_or(|served| !Arc::ptr_eq(served, &self.current));
                if differs {
                    *served = Some(self.current.clone());
                }
                differs
            });
        }
        self.metrics.publish_seconds.observe(began.elapsed().as_secs_f64());
        if first {
            self.health.set_synced();
            tracing::info!(services = self.current.len(), "in sync");
        }
    }

    fn resolve(&mut self) -> Option<Snapshot> {
        let dirty: BTreeSet<_> = self.index.take_dirty();
        let mut updates = Vec::with_capacity(dirty.len());
        for key in dirty {
            let resolved = self.index.resolve(&key);
            self.book.replace(Origin::Service(key.to_string()), resolved.faults);
            updates.push((key, resolved.view));
        }
        self.current.with(updates)
    }
}
