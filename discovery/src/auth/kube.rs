// SPDX-License-Identifier: Apache-2.0
//! TokenReview (`authentication.k8s.io/v1`) with the kube client.
//!
//! The audience is checked here, too: a server that does not know audiences accepts the token for itself and answers
//! without any, as the API's documentation warns.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::{TokenReviewer, Unreviewed, Verdict};

/// How much of the API server's words is passed on.
const MAX_REASON_CHARS: usize = 256;

/// Asks an API server.
#[derive(Clone)]
pub struct KubeReviewer {
    reviews: Api<TokenReview>,
    audience: String,
}

/// Why the API server cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("--token-audience: no API server to check tokens with: {0}; run in a pod, or give a kubeconfig")]
pub struct ReviewerError(String);

// === impl KubeReviewer ===

impl KubeReviewer {
    /// Asks through this client.
    pub fn new(client: Client, audience: String) -> Self {
        Self { reviews: Api::all(client), audience }
    }

    /// Asks the API server of a kubeconfig, or the one of the cluster that this process runs in. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ReviewerError`] if there is no usable configuration.
    pub async fn open(kubeconfig: Option<&Path>, audience: String) -> Result<Self, ReviewerError> {
        let told = |error: &dyn std::fmt::Display| ReviewerError(error.to_string());
        let config = match kubeconfig {
            None => Config::infer().await.map_err(|error| told(&error))?,
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| told(&error))?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| told(&error))?
            }
        };
        let client = Client::try_from(config).map_err(|error| told(&error))?;
        Ok(Self::new(client, audience))
    }

    fn verdict(&self, status: TokenReviewStatus) -> Verdict {
        let TokenReviewStatus { audiences, authenticated, error, user } = status;
        if authenticated != Some(true) {
            let reason = error.unwrap_or_else(|| "the API server does not know it".to_owned());
            return Verdict::Refused(reason.chars().take(MAX_REASON_CHARS).collect());
        }
        if !audiences.unwrap_or_default().contains(&self.audience) {
            return Verdict::Refused(format!("it is not for the audience {:?}", self.audience));
        }
        let name: Arc<str> = user.and_then(|user| user.username).unwrap_or_default().into();
        Verdict::Accepted(name)
    }
}

#[tonic::async_trait]
impl TokenReviewer for KubeReviewer {
    async fn review(&self, token: &str) -> Result<Verdict, Unreviewed> {
        let spec = TokenReviewSpec { audiences: Some(vec![self.audience.clone()]), token: token.to_owned() };
        let question = TokenReview { spec, ..TokenReview::default() };
        match self.reviews.create(&PostParams::default(), &question).await {
            Ok(TokenReview { status: Some(status), .. }) => Ok(self.verdict(status)),
            Ok(_) => Err(Unreviewed("the API server answered without a status".to_owned())),
            Err(kube::Error::Api(refused)) if refused.code == 403 => Err(Unreviewed(format!(
                "{}; discovery's ServiceAccount needs the right to create tokenreviews",
                refused.message
            ))),
            Err(error) => Err(Unreviewed(format!("API server: {error}"))),
        }
    }
}
