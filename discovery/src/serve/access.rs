// SPDX-License-Identifier: Apache-2.0
//! Who may connect, ready to be used: TLS files read and followed, the API server for tokens known.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth::{Gate, KubeReviewer, ReviewerError, TokenReviewer};
use crate::config::{Security, Transport};
use crate::metrics::TransportMetrics;
use crate::tls::{Reloader, TlsError};

/// See the module.
#[derive(Clone)]
pub struct Access {
    pub(super) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) connections_per_peer: usize,
    pub(super) drain_time: Duration,
    pub(super) metrics: TransportMetrics,
}

/// Why nobody could connect.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no API server to check tokens with.
    #[error(transparent)]
    Reviewer(#[from] ReviewerError),
}

// === impl Access ===

impl Access {
    /// Reads the files and follows them until `shutdown`. Tokens are checked with the API server of `kubeconfig`, or of the
    /// cluster that this process runs in.
    ///
    /// # Errors
    /// [`AccessError`]; nothing is left running.
    pub async fn open(
        security: &Security,
        kubeconfig: Option<&Path>,
        metrics: TransportMetrics,
        shutdown: &CancellationToken,
    ) -> Result<Self, AccessError> {
        let reviewer = match &security.token_audience {
            Some(audience) => Some(KubeReviewer::open(kubeconfig, audience.clone()).await?),
            None => None,
        };
        let access = Self::without_tokens(security, metrics, shutdown)?;
        Ok(match reviewer {
            Some(reviewer) => access.checked_by(reviewer),
            None => access,
        })
    }

    /// As [`Access::open`], and whatever the audience, no token is asked for.
    ///
    /// # Errors
    /// [`TlsError`]; nothing is left running.
    pub fn without_tokens(
        security: &Security,
        metrics: TransportMetrics,
        shutdown: &CancellationToken,
    ) -> Result<Self, TlsError> {
        let Security { transport, token_audience: _, drain_time, connections_per_peer } = security;
        let tls = match transport {
            Transport::Plaintext => None,
            Transport::Tls(files) => {
                let reloader = Reloader::open(files.clone(), metrics.clone())?;
                let config = reloader.config();
                tokio::spawn(reloader.run(shutdown.clone()));
                Some(config)
            }
        };
        let (drain_time, connections_per_peer) = (*drain_time, *connections_per_peer);
        Ok(Self { tls, gate: None, connections_per_peer, drain_time, metrics })
    }

    /// Asks for tokens, and this reviewer about them.
    #[must_use]
    pub fn checked_by(mut self, reviewer: impl TokenReviewer + 'static) -> Self {
        self.gate = Some(Arc::new(Gate::new(reviewer, self.metrics.clone())));
        self
    }
}
