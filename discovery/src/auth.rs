// SPDX-License-Identifier: Apache-2.0
//! ServiceAccount tokens: who opens a stream, as the API server knows them.
//!
//! A client sends `authorization: Bearer TOKEN` (RFC 6750, 2.1) with each stream. What the API server says about a token is
//! remembered: an accepted one for [`cache::FRESH`], a refused one for [`cache::REFUSED_FOR`].
//!
//! What must always be true: a token that the API server has not accepted opens nothing. With the API server away, tokens
//! that it has accepted go on working until they end; for others the client is told UNAVAILABLE, so that it tries again,
//! never that its token is bad. A refusal takes an earlier acceptance back.
//!
//! Deliberately not here: what a user may see: whoever has a token for our audience sees all. A stream lives on when its
//! token ends; the token is checked when a stream is opened.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::metrics::TransportMetrics;

mod cache;
mod kube;
mod token;

use self::cache::{Known, TokenCache};
pub use self::kube::{KubeReviewer, ReviewerError};

/// TokenReviews in flight. The API server has more to do than to answer us.
const MAX_REVIEWS: usize = 32;
/// How long a client waits for a review, its turn included.
const PATIENCE: Duration = Duration::from_secs(5);
/// Projected tokens have 1 to 2 kB.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// What the API server says about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is good, for our audience, and belongs to this user.
    Accepted(Arc<str>),
    /// It is not, for this reason.
    Refused(String),
}

/// The API server gave no verdict.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreviewed(pub String);

/// Asks about tokens.
#[tonic::async_trait]
pub trait TokenReviewer: Send + Sync {
    /// What the API server says about this token.
    ///
    /// # Errors
    /// [`Unreviewed`]: it was not reached, or did not answer the question.
    async fn review(&self, token: &str) -> Result<Verdict, Unreviewed>;
}

/// Lets streams with good tokens through.
pub struct Gate {
    reviewer: Box<dyn TokenReviewer>,
    cache: Mutex<TokenCache>,
    places: Semaphore,
    metrics: TransportMetrics,
}

// === impl Gate ===

impl Gate {
    /// A gate that knows no token yet.
    pub fn new(reviewer: impl TokenReviewer + 'static, metrics: TransportMetrics) -> Self {
        Self {
            reviewer: Box::new(reviewer),
            cache: Mutex::default(),
            places: Semaphore::new(MAX_REVIEWS),
            metrics,
        }
    }

    /// The user whose token these headers hold.
    ///
    /// # Errors
    /// UNAUTHENTICATED if there is no good token, UNAVAILABLE if that cannot be known now; both say what to do.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<Arc<str>, Status> {
        let outcome = match bearer(headers) {
            Ok(token) => self.judge(token).await,
            Err(problem) => Err(Status::unauthenticated(problem)),
        };
        self.metrics.token(match &outcome {
            Ok(_) => "accepted",
            Err(status) if status.code() == tonic::Code::Unavailable => "unknown",
            Err(_) => "refused",
        });
        outcome
    }

    async fn judge(&self, token: &str) -> Result<Arc<str>, Status> {
        let key = token::digest(token);
        let known = self.cache().look_up(&key, Instant::now());
        let stale = match known {
            Known::Fresh(user) => return Ok(user),
            Known::Refused(reason) => return Err(refusal(&reason)),
            Known::Stale(user) => Some(user),
            Known::Unknown => None,
        };
        match self.review(token).await {
            Ok(Verdict::Accepted(user)) => {
                let lifetime = token::lifetime(token, SystemTime::now());
                self.cache().accept(key, user.clone(), lifetime, Instant::now());
                Ok(user)
            }
            Ok(Verdict::Refused(reason)) => {
                let reason: Arc<str> = reason.into();
                self.cache().refuse(key, reason.clone(), Instant::now());
                Err(refusal(&reason))
            }
            Err(Unreviewed(reason)) => stale.ok_or_else(|| {
                tracing::warn!(reason, "a token cannot be checked");
                Status::unavailable(format!("the token cannot be checked now: {reason}"))
            }),
        }
    }

    async fn review(&self, token: &str) -> Result<Verdict, Unreviewed> {
        let asked = async {
            // It is never closed.
            let _place = self.places.acquire().await;
            self.reviewer.review(token).await
        };
        let late = |_| Unreviewed(format!("no answer within {} s", PATIENCE.as_secs()));
        let verdict = tokio::time::timeout(PATIENCE, asked).await.map_err(late).flatten();
        self.metrics.review(match &verdict {
            Ok(Verdict::Accepted(_)) => "accepted",
            Ok(Verdict::Refused(_)) => "refused",
            Err(_) => "failed",
        });
        verdict
    }

    fn cache(&self) -> MutexGuard<'_, TokenCache> {
        // Plain data: there is no broken state that a panic could leave.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(reason: &str) -> Status {
    Status::unauthenticated(format!("the token is refused: {reason}"))
}

fn bearer(headers: &HeaderMap) -> Result<&str, String> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(
            "no token; send `authorization: Bearer TOKEN` with a ServiceAccount token of our audience".into(),
        );
    };
    let text = value.to_str().map_err(|_| "the authorization header is not text".to_owned())?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            let token = token.trim();
            match token.len() {
                ..=MAX_TOKEN_BYTES => Ok(token),
                length => Err(format!("the token has {length} bytes, the limit is {MAX_TOKEN_BYTES}")),
            }
        }
        _ => Err("the authorization header does not have the form `Bearer TOKEN`".into()),
    }
}

#[cfg(test)]
mod tests;
