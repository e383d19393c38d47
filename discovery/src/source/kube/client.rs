// SPDX-License-Identifier: Apache-2.0
//! The connection to an API server: where its address and credentials come from, and how a dead peer is noticed.
//!
//! kube-rs reads kubeconfigs and ServiceAccounts, and renews tokens and CA certificates from their files. Its default
//! stack is not used, for two reasons: it retries by itself where [`super::backoff`] decides, and it sets no TCP
//! keepalive, without which a watch of a server that lost power stays open until the watch's own limit.

use std::path::Path;
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Client, ConfigExt};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tower::{BoxError, ServiceBuilder};

use crate::source::SourceError;

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// A peer that is silent for this long is asked whether it is there: dead ones are noticed after 10 + 3 × 5 s.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent and not acknowledged for this long ends the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// A client for the cluster of `kubeconfig`, or else for the cluster in which this process is a pod. Connects to nothing
/// yet.
///
/// # Errors
/// [`SourceError::Kubernetes`]: the configuration cannot be read or used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, SourceError> {
    let named =
        kubeconfig.map_or("--kubernetes".to_owned(), |path| format!("--kubeconfig {}", path.display()));
    let refuse = |reason: String| SourceError::Kubernetes { config: named.clone(), reason };
    let config = match kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(|error| refuse(chain(&error)))?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                .await
                .map_err(|error| refuse(chain(&error)))?
        }
        None => Config::incluster().map_err(|error| {
            refuse(format!("{}; outside of a cluster give --kubeconfig PATH", chain(&error)))
        })?,
    };
    if config.proxy_url.is_some() {
        return Err(refuse("proxy-url is not supported; remove it and unset HTTPS_PROXY".into()));
    }
    build(&config).map_err(|error| refuse(chain(&error)))
}

fn build(config: &Config) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let https = config.rustls_https_connector_with_connector(connector)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build(https));
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = error.source();
    }
    text
}
