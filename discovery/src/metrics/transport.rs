// SPDX-License-Identifier: Apache-2.0
//! What is counted about connections, TLS and tokens.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Handles, cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TransportMetrics {
    /// Connections open now, handshakes included.
    pub connections: Gauge,
    /// Connections that were closed by us, by reason.
    closed: Family<ReasonLabel, Counter>,
    /// TLS handshakes by how they ended.
    handshakes: Family<ResultLabel, Counter>,
    /// Readings of changed TLS files by how they ended.
    reloads: Family<ResultLabel, Counter>,
    /// When the certificate in force ends, in seconds since 1970; 0 without TLS.
    pub tls_not_after: Gauge,
    /// Streams by what became of their token.
    tokens: Family<ResultLabel, Counter>,
    /// Questions to the API server by how they ended.
    reviews: Family<ResultLabel, Counter>,
}

/// A label with a result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// A label with a reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

// === impl TransportMetrics ===

impl TransportMetrics {
    /// Registers everything.
    pub fn register(&self, registry: &mut Registry) {
        let Self { connections, closed, handshakes, reloads, tls_not_after, tokens, reviews } = self;
        registry.register("connections", "Connections open now", connections.clone());
        registry.register("connections_closed", "Connections closed by us, by reason", closed.clone());
        registry.register("tls_handshakes", "TLS handshakes by result", handshakes.clone());
        registry.register("tls_reloads", "Readings of changed TLS files by result", reloads.clone());
        registry.register(
            "tls_certificate_not_after_timestamp_seconds",
            "When the certificate in force ends; 0 without TLS",
            tls_not_after.clone(),
        );
        registry.register("tokens", "Streams by what became of their token", tokens.clone());
        registry.register("token_reviews", "TokenReviews asked of the API server by result", reviews.clone());
    }

    /// A connection was closed by us.
    pub fn close(&self, reason: &'static str) {
        self.closed.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A handshake has ended.
    pub fn handshake(&self, result: &'static str) {
        self.handshakes.get_or_create(&ResultLabel { result }).inc();
    }

    /// Changed files were read.
    pub fn tls_reload(&self, taken: bool) {
        let result = if taken { "taken" } else { "refused" };
        self.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// A stream's token was judged.
    pub fn token(&self, result: &'static str) {
        self.tokens.get_or_create(&ResultLabel { result }).inc();
    }

    /// The API server was asked.
    pub fn review(&self, result: &'static str) {
        self.reviews.get_or_create(&ResultLabel { result }).inc();
    }
}
