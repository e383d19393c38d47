// SPDX-License-Identifier: Apache-2.0
//! `/metrics`, `/ready` and `/healthz` over HTTP/1.1. Reads only; small answers; a client that dawdles is dropped.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::Metrics;
use crate::admin::Facts;

/// A scraper sends its request at once.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Kubelet and Prometheus need two; more are refused by waiting.
const CONNECTIONS: usize = 64;
/// After accept failed, usually for want of file descriptors: let some close first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// A bound HTTP server.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
}

/// The address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("--http {address}: cannot listen there: {source}; give another address or port")]
pub struct HttpError {
    /// As given.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl HttpServer {
    /// Binds `address`; port 0 lets the kernel choose. Several agents may overlap on one address (`SO_REUSEPORT`), so
    /// that an upgrade needs no gap. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let listen = || {
            let socket = match address {
                SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
                SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
            };
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(true)?;
            socket.bind(address)?;
            let listener = socket.listen(64)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        listen().map_err(|source| HttpError { address, source })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub async fn serve(self, facts: Arc<dyn Facts>, stop: CancellationToken) {
        let answers = Arc::new(Answers { metrics: Metrics::new(facts.clone()), facts });
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = async {
                let slot = slots.clone().acquire_owned().await;
                (self.listener.accept().await, slot)
            };
            let (accepted, slot) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = accepted => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let answers = answers.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let answer = answers.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                // How a scraper ends its connection is nobody's concern.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
                drop(slot);
            });
        }
    }
}

struct Answers {
    metrics: Metrics,
    facts: Arc<dyn Facts>,
}

impl Answers {
    fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => match self.metrics.encode() {
                Ok(body) => response(StatusCode::OK, METRICS_TYPE, body),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            "/ready" => ready(&self.facts.readiness().missing()),
            "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /ready and /healthz\n".to_owned()),
        }
    }
}

fn ready(missing: &[&str]) -> Response<String> {
    if missing.is_empty() {
        text(StatusCode::OK, "ready\n".to_owned())
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; ")))
    }
}

fn text(status: StatusCode, body: String) -> Response<String> {
    response(status, TEXT_TYPE, body)
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
