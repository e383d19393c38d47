// SPDX-License-Identifier: Apache-2.0
//! TLS handshakes: some at a time, each within a limit, each failure with its reason.
//!
//! What must always be true: a client that is slow, or that never says anything, costs one place and a few kilobytes for
//! [`TIMEOUT`], and nobody else anything. Places are many more than one address may have connections.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::metrics::TransportMetrics;

/// Handshakes under way. Others wait their turn, so that when all clients come at once the first are served, rather than
/// all of them timing out together.
const MAX_HANDSHAKES: usize = 1_024;
/// A handshake is two round trips and a millisecond of computation.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long, and for how many bytes, a refused client may take to hear why: what it has sent already would otherwise make
/// the kernel reset the connection, and the alert that says what is wrong would be lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;
/// Failures are logged no more often than this; the others are counted.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What all handshakes share.
pub(super) struct Handshakes {
    config: watch::Receiver<Arc<ServerConfig>>,
    places: Semaphore,
    told: Mutex<Told>,
    metrics: TransportMetrics,
}

/// Keeps the log readable when many fail.
#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

// === impl Handshakes ===

impl Handshakes {
    pub(super) fn new(config: watch::Receiver<Arc<ServerConfig>>, metrics: TransportMetrics) -> Self {
        Self { config, places: Semaphore::new(MAX_HANDSHAKES), told: Mutex::default(), metrics }
    }

    /// `None` if it failed; that has been told and counted.
    pub(super) async fn run(&self, stream: TcpStream, peer: SocketAddr) -> Option<TlsStream<TcpStream>> {
        // It is never closed.
        let place = self.places.acquire().await.ok();
        let acceptor = TlsAcceptor::from(self.config.borrow().clone());
        let accepted = tokio::time::timeout(TIMEOUT, acceptor.accept(stream).into_fallible()).await;
        drop(place);
        match accepted {
            Ok(Ok(stream)) => {
                self.metrics.handshake("completed");
                Some(stream)
            }
            Ok(Err((error, stream))) => {
                let (result, reason) = explain(&error);
                self.failed(peer, result, &reason);
                linger(stream).await;
                None
            }
            Err(_) => {
                self.failed(peer, "timeout", &format!("not complete within {} s", TIMEOUT.as_secs()));
                None
            }
        }
    }

    fn failed(&self, peer: SocketAddr, result: &'static str, reason: &str) {
        self.metrics.handshake(result);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(untold) = told.another(Instant::now()) {
            tracing::warn!(%peer, reason, untold, "TLS handshake failed");
        }
    }
}

// === impl Told ===

impl Told {
    /// Whether to tell of a failure now: how many were not told since the last.
    fn another(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < TOLD_EVERY) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// The metric's label, and words for people.
fn explain(error: &io::Error) -> (&'static str, String) {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::NoCertificatesPresented) => {
            ("certificate", "the client has no certificate, and --tls-client-ca asks for one".to_owned())
        }
        Some(rustls::Error::InvalidCertificate(reason)) => {
            ("certificate", format!("the client's certificate is refused: {reason}"))
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            ("alert", format!("the client does not accept our certificate or parameters: {alert:?}"))
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            ("not_tls", "what the client sends is not TLS; is it set to plaintext?".to_owned())
        }
        Some(other) => ("failed", other.to_string()),
        None => ("broken", error.to_string()),
    }
}

async fn linger(mut stream: TcpStream) {
    let heard = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    tokio::time::timeout(LINGER, heard).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_failures_is_one_line_a_second_with_their_number() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert_eq!(told.another(now), Some(0));
        for _ in 0..41 {
            assert_eq!(told.another(now + TOLD_EVERY / 2), None);
        }
        assert_eq!(told.another(now + TOLD_EVERY), Some(41));
        assert_eq!(told.another(now + TOLD_EVERY * 2), Some(0));
    }
}
