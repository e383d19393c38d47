// SPDX-License-Identifier: Apache-2.0
//! One ADS stream over tonic: connect, feed the flow, until it ends.
//!
//! What must always be true: a peer that is gone without a word is noticed (HTTP/2 keepalive), a peer that does not read
//! cannot make us queue without bound; the token is sent over TLS or a unix socket only. Certificates and the token are read
//! for each connection. Deliberately not here: when to try again.

use std::{io, path::Path, path::PathBuf, time::Duration};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{
    Status,
    flow::Flow,
    tls::{Noting, Tls},
};
use crate::config::{Credentials, DiscoveryAddress};

/// A healthy discovery on a healthy network accepts within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent peer is asked for a sign of life this often…
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// …and given this long to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests that may wait to be written: there are at most a reply and a subscription per response.
const QUEUE: usize = 64;
/// Responses are cut near 2 MiB by our server; other servers may send everything at once.
const RESPONSE_MAX: usize = 64 << 20;

/// Why a stream ended or did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("discovery {address}: the address cannot be used: {source}")]
    Address { address: String, source: tonic::transport::Error },
    #[error("discovery {address}: cannot connect: {reason}")]
    Connect { address: String, reason: String },
    #[error("discovery {address}: the stream ended: {} ({})", .status.message(), .status.code())]
    Status { address: String, status: Box<tonic::Status> },
    #[error("discovery {address}: the server closed the stream")]
    Closed { address: String },
    #[error("discovery {address}: the server does not read our requests")]
    Stuck { address: String },
    #[error("discovery {address}: {reason}")]
    Tls { address: String, reason: String },
    #[error("discovery {address}: {problem}")]
    Credentials { address: String, problem: String },
}

// === impl StreamError ===

impl StreamError {
    /// The metric's label.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address",
            Self::Connect { .. } => "connect",
            Self::Status { status, .. } if status.code() == tonic::Code::Unauthenticated => "unauthenticated",
            Self::Status { .. } => "status",
            Self::Closed { .. } => "closed",
            Self::Stuck { .. } => "stuck",
            Self::Tls { .. } => "tls",
            Self::Credentials { .. } => "credentials",
        }
    }
}

/// Runs one stream to its end. `delivered` is set once it has brought a response.
pub(super) async fn run(
    (address, credentials): (&DiscoveryAddress, &Credentials),
    flow: &mut Flow,
    status: &watch::Sender<Status>,
    delivered: &mut bool,
) -> StreamError {
    let name = address.to_string();
    let Ready { tls, token } = match prepare(address, credentials).await {
        Ok(ready) => ready,
        Err(problem) => return StreamError::Credentials { address: name, problem },
    };
    let channel = match connect(address, tls.as_ref()).await {
        Ok(channel) => channel,
        Err(error) => return error,
    };
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(RESPONSE_MAX);
    let (queue, requests) = mpsc::channel(QUEUE);
    if !send(&queue, flow.on_connected()) {
        return StreamError::Stuck { address: name };
    }
    let mut requests = Request::new(ReceiverStream::new(requests));
    if let Some(token) = token {
        requests.metadata_mut().insert("authorization", token);
    }
    let opened = client.delta_aggregated_resources(requests).await;
    let failed = |status| match tls.as_ref().and_then(Tls::reason) {
        // The transport only knows that it broke.
        Some(reason) => StreamError::Tls { address: name.clone(), reason: reason.to_owned() },
        None => StreamError::Status { address: name.clone(), status: Box::new(status) },
    };
    let mut responses = match opened {
        Ok(response) => response.into_inner(),
        Err(error) => return failed(error),
    };
    tracing::info!("connected to discovery {name}");
    status.send_modify(|status| {
        status.connected = true;
        status.streams_opened += 1;
    });
    loop {
        match responses.message().await {
            Ok(Some(response)) => {
                *delivered = true;
                if !send(&queue, flow.on_response(response)) {
                    return StreamError::Stuck { address: name };
                }
            }
            Ok(None) => return StreamError::Closed { address: name },
            Err(error) => return failed(error),
        }
    }
}

/// Whether all found room. A queue that is closed is not told here: the stream's end is, with its reason.
fn send(queue: &mpsc::Sender<DeltaDiscoveryRequest>, requests: Vec<DeltaDiscoveryRequest>) -> bool {
    requests
        .into_iter()
        .all(|request| !matches!(queue.try_send(request), Err(mpsc::error::TrySendError::Full(_))))
}

/// What was read from the files for one connection.
struct Ready {
    tls: Option<Tls>,
    token: Option<MetadataValue<Ascii>>,
}

/// Reads the files, off this thread: others wait for it.
async fn prepare(address: &DiscoveryAddress, credentials: &Credentials) -> Result<Ready, String> {
    let (host, credentials) = (host(address), credentials.clone());
    let read = move || {
        let Credentials { tls, token } = credentials;
        let tls = tls.map(|files| Tls::read(&files, &host)).transpose()?;
        let token = token.map(|path| read_token(&path)).transpose()?;
        Ok(Ready { tls, token })
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|panic| Err(format!("reading files: {panic}")))
}

fn host(address: &DiscoveryAddress) -> String {
    let uri = match address {
        DiscoveryAddress::Tcp(url) | DiscoveryAddress::Tls(url) => url.parse::<Uri>().ok(),
        DiscoveryAddress::Unix(_) => None,
    };
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

fn read_token(path: &Path) -> Result<MetadataValue<Ascii>, String> {
    let text = std::fs::read_to_string(path);
    let path = path.display();
    let text = text.map_err(|error| format!("--discovery-token {path}: {error}"))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(format!("--discovery-token {path}: the file is empty"));
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| format!("--discovery-token {path}: the file does not hold a token"))?;
    // Keeps it out of logs, and out of the table of headers that later requests refer to (RFC 7541, 7.1.3).
    value.set_sensitive(true);
    Ok(value)
}

async fn connect(address: &DiscoveryAddress, tls: Option<&Tls>) -> Result<Channel, StreamError> {
    let name = address.to_string();
    let unusable = |source| StreamError::Address { address: name.clone(), source };
    let endpoint = match address {
        DiscoveryAddress::Tcp(url) => Endpoint::from_shared(url.clone()),
        // The connector below brings TLS; tonic, which has none, shall not look for it.
        DiscoveryAddress::Tls(url) => Endpoint::from_shared(url.replacen("https://", "http://", 1)),
        // The authority is never resolved: the connector below goes to the path.
        DiscoveryAddress::Unix(_) => Endpoint::from_shared("http://discovery"),
    };
    let mut endpoint = endpoint.map_err(unusable)?;
    if let DiscoveryAddress::Tls(url) = address
        && let Ok(origin) = url.parse()
    {
        endpoint = endpoint.origin(origin);
    }
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let connecting = async {
        match (address, tls) {
            (DiscoveryAddress::Unix(path), _) => {
                let path = path.clone();
                endpoint.connect_with_connector(tower::service_fn(move |_| open_unix(path.clone()))).await
            }
            (_, Some(tls)) => {
                let tls = tls.clone();
                endpoint
                    .connect_with_connector(tower::service_fn(move |uri| open_tls(uri, tls.clone())))
                    .await
            }
            (_, None) => endpoint.connect().await,
        }
    };
    let refused = |reason| StreamError::Connect { address: name.clone(), reason };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(match tls.and_then(Tls::reason) {
            Some(reason) => StreamError::Tls { address: name.clone(), reason: reason.to_owned() },
            None => refused(root_cause(&error)),
        }),
        Err(_) => Err(refused(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

async fn open_tls(uri: Uri, tls: Tls) -> io::Result<TokioIo<Noting>> {
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    tls.handshake(stream).await.map(TokioIo::new)
}

async fn open_unix(path: PathBuf) -> io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).await.map(TokioIo::new)
}

/// tonic says "transport error"; the cause at the bottom says what happened.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
