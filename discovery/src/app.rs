// SPDX-License-Identifier: Apache-2.0
//! Wiring: sources → indexer → snapshots → servers, and the order in which they end.
//!
//! Until the first sync is complete, streams wait and `/ready` says so.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use evenkeel_console::socket::{PrivateSocket, SocketError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Desk};
use crate::config::{self, AdminPlace, Config, FallbackPlace, Listen, Security};
use crate::events::Events;
use crate::feed::Feeds;
use crate::http::{self, Health};
use crate::indexer::Indexer;
use crate::metrics::Metrics;
use crate::overview::Overview;
use crate::registry::Registry;
use crate::serve::{self, Access, AccessError, Ads, Listener, Loads};
use crate::source::SourceError;
use crate::source::kube::{KubeConfig, KubeSource};
use crate::source::manifests::ManifestSource;

/// How much longer than the drain time the connections may take to close. Each is cut in time by itself.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

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
    /// The admin socket that was asked for could not be made.
    #[error(transparent)]
    Admin(#[from] SocketError),
    /// The source could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Nobody could connect.
    #[error(transparent)]
    Access(#[from] AccessError),
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
    drain_time: Duration,
    draining: CancellationToken,
    shutdown: CancellationToken,
    ads: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

/// What comes with the source of our own cluster.
#[derive(Default)]
struct Parts {
    /// Where faults of Services are told as Events.
    events: Option<Events>,
    /// The cluster that reviews tokens, if it is not the one in which this process is a pod.
    kubeconfig: Option<PathBuf>,
    shutdown: CancellationToken,
}

// === impl Parts ===

impl Parts {
    async fn primary(&mut self, source: &config::Source) -> Result<Feeds, StartError> {
        match source {
            config::Source::Manifests(directory) => Ok(Feeds::new(ManifestSource::open(directory.clone())?)),
            config::Source::Kubernetes { kubeconfig } => {
                let kube = KubeConfig { kubeconfig: kubeconfig.clone(), ..KubeConfig::default() };
                let source = KubeSource::open(&kube).await?;
                self.kubeconfig.clone_from(kubeconfig);
                self.events =
                    Some(Events::start(source.client(), source.service_uids(), self.shutdown.clone()));
                Ok(Feeds::new(source))
            }
        }
    }
}

// === impl App ===

impl App {
    /// Starts with the sources of the configuration.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(config: &Config) -> Starting<'_> {
        Box::pin(async move {
            let mut parts = Parts::default();
            let mut feeds = parts.primary(&config.source).await?;
            for fallback in &config.fallbacks {
                let name = fallback.name.clone();
                match &fallback.place {
                    FallbackPlace::Manifests(directory) => {
                        feeds.add_fallback(name, ManifestSource::open(directory.clone())?);
                    }
                    FallbackPlace::Kubeconfig(path) => {
                        let kube = KubeConfig { kubeconfig: Some(path.clone()), ..KubeConfig::default() };
                        feeds.add_fallback(name, KubeSource::open(&kube).await?);
                    }
                }
            }
            let Config { listen, http, security, admin_socket, .. } = config;
            Self::start_all(feeds, parts, listen, *http, security, admin_socket).await
        })
    }

    /// Starts with any sources.
    ///
    /// # Errors
    /// [`StartError::Bind`], [`StartError::Access`] and [`StartError::Admin`]; nothing is left running.
    pub async fn start_with(
        feeds: Feeds,
        listen: &Listen,
        http: SocketAddr,
        security: &Security,
        admin_socket: &AdminPlace,
    ) -> Result<Self, StartError> {
        Self::start_all(feeds, Parts::default(), listen, http, security, admin_socket).await
    }

    async fn start_all(
        feeds: Feeds,
        parts: Parts,
        listen: &Listen,
        http: SocketAddr,
        security: &Security,
        admin_socket: &AdminPlace,
    ) -> Result<Self, StartError> {
        let bind_error = |flag, address: String| move |source| StartError::Bind { flag, address, source };
        let listener = Listener::bind(listen).await.map_err(bind_error("--listen", listen.to_string()))?;
        let socket = TcpListener::bind(http).await.map_err(bind_error("--http", http.to_string()))?;
        let admin = bind_admin(admin_socket).await?;
        let http_address = socket.local_addr().map_err(bind_error("--http", http.to_string()))?;
        let ads_address = listener.address().clone();
        tracing::info!(protocol = "ads", address = %ads_address, "listening");
        tracing::info!(protocol = "http", address = %http_address, "listening");

        let Parts { events, kubeconfig, shutdown } = parts;
        let (registry, loads) = (Registry::default(), Loads::default());
        let metrics = Metrics::watching(registry.clone(), loads.clone());
        let access =
            Access::open(security, kubeconfig.as_deref(), metrics.transport.clone(), &shutdown).await?;
        let draining = CancellationToken::new();
        let health = Health::new(draining.clone());
        let (sender, snapshots) = watch::channel(None);
        let overview = Overview::default();
        let indexer = Indexer::new(
            feeds.fallbacks(),
            sender,
            events,
            metrics.clone(),
            health.clone(),
            overview.clone(),
        );
        let ads = Ads::new(snapshots.clone(), metrics.clone(), registry.clone(), loads.clone());
        let methods = ads.into_methods(&draining).await;
        let desk = Desk {
            started: Instant::now(),
            snapshots,
            health: health.clone(),
            overview,
            link: metrics.link.clone(),
            registry,
            loads,
        };
        let mut others = vec![
            tokio::spawn(indexer.run(feeds.start(&shutdown), shutdown.clone())),
            tokio::spawn(http::serve(socket, health, metrics.clone(), shutdown.clone())),
        ];
        others.extend(admin.map(|socket| tokio::spawn(administer(socket, desk, shutdown.clone()))));
        let ads = tokio::spawn(serve::serve(listener, methods, access, draining.clone()));
        let drain_time = security.drain_time;
        Ok(Self { ads_address, http_address, metrics, drain_time, draining, shutdown, ads, others })
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

    /// Drains, then ends everything. While clients are sent away one by one, those that are still here are served as before,
    /// and readiness says that no others shall come.
    pub async fn shutdown(mut self) {
        self.draining.cancel();
        // Polled again after completion a JoinHandle would panic.
        if !self.ads.is_finished()
            && tokio::time::timeout(self.drain_time + DRAIN_GRACE, &mut self.ads).await.is_err()
        {
            tracing::warn!("some connections did not close in time");
            self.ads.abort();
        }
        self.shutdown.cancel();
        for task in self.others {
            task.await.ok();
        }
    }
}

/// The default place is a convenience: a service that cannot have it serves all the same.
async fn bind_admin(place: &AdminPlace) -> Result<Option<PrivateSocket>, SocketError> {
    let (path, asked) = match place {
        AdminPlace::None => return Ok(None),
        AdminPlace::IfPossible(path) => (path, false),
        AdminPlace::At(path) => (path, true),
    };
    match PrivateSocket::bind_alone(path, "--admin-socket").await {
        Ok(socket) => {
            tracing::info!(protocol = "admin", path = %path.display(), "listening");
            Ok(Some(socket))
        }
        Err(error) if asked => Err(error),
        Err(error) => {
            tracing::warn!(%error, "the subcommands that ask a running service will not work");
            Ok(None)
        }
    }
}

async fn administer(socket: PrivateSocket, desk: Desk, shutdown: CancellationToken) {
    if let Err(error) = admin::serve(socket, desk, shutdown).await {
        tracing::error!(%error, "the admin API has stopped");
    }
}
