// SPDX-License-Identifier: Apache-2.0
//! `/metrics`, `/ready` and `/healthz` over HTTP/1.1.
//!
//! Ready means: the first sync is complete and nobody has asked to stop. Healthy means: the source still tells of
//! changes. Plain hyper, because three fixed paths need no router.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::link::{Link, Lost};
use crate::metrics::Metrics;

/// Connections at a time; probes and scrapers need a handful.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send a request's headers, which also bounds how long it may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait after accept fails, which it does when file descriptors run out; there is no event to wait for.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What probes are told.
#[derive(Clone, Debug)]
pub struct Health {
    synced: Arc<AtomicBool>,
    source_ended: Arc<AtomicBool>,
    shutdown: CancellationToken,
}

// === impl Health ===

impl Health {
    /// Not ready yet, healthy, not stopping before `shutdown`.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { synced: Arc::default(), source_ended: Arc::default(), shutdown }
    }

    /// The first sync is complete.
    pub fn set_synced(&self) {
        self.synced.store(true, Ordering::Release);
    }

    /// The source has ended: what is served is not kept up to date any more.
    pub fn set_source_ended(&self) {
        self.source_ended.store(true, Ordering::Release);
    }

    /// What is missing for readiness; `None`: ready.
    pub fn not_ready(&self) -> Option<&'static str> {
        missing(self.ready())
    }

    /// What is wrong with the source; `None`: it tells of changes.
    pub fn source(&self) -> Option<String> {
        missing(self.healthy()).map(str::to_owned)
    }

    fn ready(&self) -> (StatusCode, &'static str) {
        if self.shutdown.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
        } else if !self.synced.load(Ordering::Acquire) {
            (StatusCode::SERVICE_UNAVAILABLE, "waiting for the first scan of the source\n")
        } else {
            (StatusCode::OK, "ready\n")
        }
    }

    fn healthy(&self) -> (StatusCode, &'static str) {
        match self.source_ended.load(Ordering::Acquire) {
            true => {
                (StatusCode::SERVICE_UNAVAILABLE, "the source has ended; changes are not seen any more\n")
            }
            false => (StatusCode::OK, "ok\n"),
        }
    }
}

fn missing((status, text): (StatusCode, &'static str)) -> Option<&'static str> {
    (status != StatusCode::OK).then(|| text.trim_end())
}

/// Serves until `shutdown`.
pub async fn serve(socket: TcpListener, health: Health, metrics: Metrics, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept_all = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match socket.accept().await {
                Ok((stream, _)) => {
                    let connection = converse(stream, health.clone(), metrics.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(accept_all).await;
}

async fn converse(stream: TcpStream, health: Health, metrics: Metrics, shutdown: CancellationToken) {
    let service = service_fn(move |request| {
        let response = answer(&request, &health, &metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off is its own business.
    shutdown.run_until_cancelled(connection).await.map(Result::ok);
}

fn answer(request: &Request<Incoming>, health: &Health, metrics: &Metrics) -> Response<String> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/ready" => {
            let (status, text) = health.ready();
            plain(status, text.to_owned() + &age(&metrics.link, Instant::now()))
        }
        "/healthz" => text(health.healthy()),
        "/metrics" => {
            let mut response = plain(StatusCode::OK, metrics.render());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
            response
        }
        _ => text((StatusCode::NOT_FOUND, "there are /metrics, /ready and /healthz\n")),
    }
}

/// What is served while the source is out of reach is still good, but people should know its age.
pub(crate) fn age(link: &Link, now: Instant) -> String {
    link.lost().map_or_else(String::new, |Lost { since, reason }| {
        let seconds = now.saturating_duration_since(since).as_secs();
        format!("the source has been out of reach for {seconds} s, what is served is that old: {reason}\n")
    })
}

fn text((status, body): (StatusCode, &'static str)) -> Response<String> {
    plain(status, body.to_owned())
}

fn plain(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
