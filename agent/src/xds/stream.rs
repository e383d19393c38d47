// SPDX-License-Identifier: Apache-2.0
//! One ADS stream over tonic: connect, feed the flow, until it ends.
//!
//! What must always be true: a peer that is gone without a word is noticed (HTTP/2 keepalive), a peer that does not read
//! cannot make us queue without bound. Deliberately not here: when to try again.

use std::{io, path::PathBuf, time::Duration};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::mpsc, sync::watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::{Status, flow::Flow};
use crate::config::DiscoveryAddress;

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
}

/// Runs one stream to its end. `delivered` is set once it has brought a response.
pub(super) async fn run(
    address: &DiscoveryAddress,
    flow: &mut Flow,
    status: &watch::Sender<Status>,
    delivered: &mut bool,
) -> StreamError {
    let name = address.to_string();
    let channel = match connect(address).await {
        Ok(channel) => channel,
        Err(error) => return error,
    };
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(RESPONSE_MAX);
    let (queue, requests) = mpsc::channel(QUEUE);
    if !send(&queue, flow.on_connected()) {
        return StreamError::Stuck { address: name };
    }
    let opened = client.delta_aggregated_resources(ReceiverStream::new(requests)).await;
    let failed = |status| StreamError::Status { address: name.clone(), status: Box::new(status) };
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

async fn connect(address: &DiscoveryAddress) -> Result<Channel, StreamError> {
    let name = address.to_string();
    let endpoint = match address {
        DiscoveryAddress::Tcp(url) => Endpoint::from_shared(url.clone()),
        // The authority is never resolved: the connector below goes to the path.
        DiscoveryAddress::Unix(_) => Endpoint::from_shared("http://discovery"),
    };
    let endpoint = endpoint
        .map_err(|source| StreamError::Address { address: name.clone(), source })?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let connecting = async {
        match address {
            DiscoveryAddress::Tcp(_) => endpoint.connect().await,
            DiscoveryAddress::Unix(path) => {
                let path = path.clone();
                endpoint.connect_with_connector(tower::service_fn(move |_| open_unix(path.clone()))).await
            }
        }
    };
    let refused = |reason| StreamError::Connect { address: name.clone(), reason };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(refused(root_cause(&error))),
        Err(_) => Err(refused(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
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
