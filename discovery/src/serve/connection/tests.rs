// SPDX-License-Identifier: Apache-2.0
//! Tier 1: connections over a pipe in memory, to a client of another make (h2).

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use evenkeel_xds::type_url::{CLUSTER_LOAD_ASSIGNMENT, SERVICE};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use crate::metrics::{Metrics, TransportMetrics};
use crate::registry::Registry;
use crate::serve::{Ads, Loads};
use crate::snapshot::Snapshot;

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// What a client lets itself be sent before it has read; less than a response.
const WINDOW: u32 = 10_000;

/// A connection that is served, and its client.
struct Pair {
    client: SendRequest<Bytes>,
    served: JoinHandle<()>,
    turn: CancellationToken,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    registry: Registry,
}

struct Stream {
    upload: SendStream<Bytes>,
    response: ResponseFuture,
}

impl Pair {
    async fn new() -> Self {
        let (near, far) = tokio::io::duplex(8_000);
        let (snapshots, receiver) = watch::channel(Some(Arc::default()));
        let registry = Registry::default();
        let ads = Ads::new(receiver, Metrics::new(), registry.clone(), Loads::default());
        let methods = ads.into_methods(&CancellationToken::new()).await;
        let shared = Shared::new(methods, None, TransportMetrics::default());
        tokio::spawn(shared.follow());
        let turn = CancellationToken::new();
        let cancelled = turn.clone().cancelled_owned();
        let served = tokio::spawn(serve(Box::new(far), None, Arc::new(shared), cancelled));
        let (client, connection) =
            h2::client::Builder::new().initial_window_size(WINDOW).handshake(near).await.unwrap();
        tokio::spawn(connection);
        Self { client, served, turn, snapshots, registry }
    }

    async fn open(&mut self, path: &str) -> Stream {
        let request = Request::post(format!("http://x{path}")).body(()).unwrap();
        self.client = self.client.clone().ready().await.unwrap();
        let (response, upload) = self.client.send_request(request, false).unwrap();
        Stream { upload, response }
    }

    /// How long the connection goes on being served.
    async fn lasts(self) -> Duration {
        let began = Instant::now();
        self.served.await.unwrap();
        began.elapsed()
    }
}

impl Stream {
    fn send(&mut self, message: &impl prost::Message) {
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        self.upload.send_data([&[0][..], &length, &message].concat().into(), false).unwrap();
    }

    fn ask(&mut self, type_url: &str, names: Vec<String>) {
        self.send(&DeltaDiscoveryRequest {
            node: Some(Node { id: "n".into(), ..Node::default() }),
            type_url: type_url.into(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        });
    }

    fn finish(&mut self) {
        self.upload.send_data(Bytes::new(), true).unwrap();
    }

    async fn begin(self) -> (SendStream<Bytes>, RecvStream) {
        let response = self.response.await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc");
        (self.upload, response.into_body())
    }
}

/// All that comes, and the trailers.
async fn all(download: &mut RecvStream) -> (Vec<u8>, HeaderMap) {
    let mut bytes = Vec::new();
    while let Some(piece) = download.data().await {
        let piece = piece.unwrap();
        download.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    (bytes, download.trailers().await.unwrap().expect("trailers"))
}

#[tokio::test]
async fn a_request_larger_than_any_window_is_read_in_full() {
    let mut pair = Pair::new().await;
    let mut stream = pair.open(DELTA).await;
    let names: Vec<String> = (0..50_000).map(|number| format!("{number:060}")).collect();
    stream.ask(CLUSTER_LOAD_ASSIGNMENT, names.clone());
    // After that the stream ends; it does so with the first of many responses, since nobody acknowledges it.
    stream.finish();
    let (_upload, mut download) = stream.begin().await;
    let (bytes, trailers) = all(&mut download).await;
    assert_eq!(trailers["grpc-status"], "0");
    let response = DeltaDiscoveryResponse::decode(&bytes[5..]).unwrap();
    assert!(response.removed_resources.len() > 100);
    assert!(response.removed_resources.iter().all(|name| names.contains(name)));
}

#[tokio::test]
async fn methods_that_tonic_serves_and_those_that_do_not_exist_are_answered() {
    let mut pair = Pair::new().await;
    let mut stream = pair.open(WATCH).await;
    stream.send(&tonic_health::pb::HealthCheckRequest::default());
    stream.finish();
    let (_upload, mut download) = stream.begin().await;
    let piece = download.data().await.unwrap().unwrap();
    let status = tonic_health::pb::HealthCheckResponse::decode(&piece[5..]).unwrap().status;
    assert!([1, 2].contains(&status), "serving or not yet: {status}");
    let response = pair.open("/a.B/C").await.response.await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_no_stream_is_sent_away() {
    let pair = Pair::new().await;
    assert_eq!(pair.lasts().await.as_secs(), FIRST_REQUEST.as_secs());
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_is_told_so_on_every_stream_and_the_connection_closes() {
    let mut pair = Pair::new().await;
    let mut stream = pair.open(DELTA).await;
    stream.ask(SERVICE, vec![]);
    let (_upload, mut download) = stream.begin().await;
    let health = pair.open(WATCH).await;
    assert!(!download.data().await.unwrap().unwrap().is_empty());
    pair.turn.cancel();
    let (bytes, trailers) = all(&mut download).await;
    assert_eq!((bytes.len(), &trailers["grpc-status"]), (0, &"14".parse().unwrap()));
    // A client that ends its streams ends the connection.
    drop((health, download, _upload));
    assert!(pair.client.clone().ready().await.is_err());
    assert!(pair.lasts().await < GRACE);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_go_is_cut() {
    let mut pair = Pair::new().await;
    // Health goes on being watched whatever the connection says.
    let mut stream = pair.open(WATCH).await;
    stream.send(&tonic_health::pb::HealthCheckRequest::default());
    stream.finish();
    let _open = stream.begin().await;
    pair.turn.cancel();
    assert_eq!(pair.lasts().await.as_secs(), GRACE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_given_up() {
    let mut pair = Pair::new().await;
    let mut stream = pair.open(DELTA).await;
    // The answer is larger than the window, which is not opened again.
    stream.ask(CLUSTER_LOAD_ASSIGNMENT, (0..2_000).map(|number| format!("{number:060}")).collect());
    let _open = stream.begin().await;
    let registry = pair.registry.clone();
    let lasted = pair.lasts().await;
    assert!((PATIENCE..PATIENCE * 2).contains(&lasted), "{lasted:?}");
    assert!(registry.clients().is_empty(), "nothing of it is left");
}

#[tokio::test]
async fn streams_and_what_they_hold_end_with_their_connection() {
    let mut pair = Pair::new().await;
    let mut stream = pair.open(DELTA).await;
    stream.ask(SERVICE, vec![]);
    let (upload, mut download) = stream.begin().await;
    assert!(!download.data().await.unwrap().unwrap().is_empty());
    assert_eq!(pair.registry.clients().len(), 1);
    // A reset of the stream ends it alone.
    drop((upload, download));
    let left = async {
        while !pair.registry.clients().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), left).await.expect("the stream is gone");
    let mut stream = pair.open(DELTA).await;
    stream.ask(SERVICE, vec![]);
    let begun = stream.begin().await;
    pair.snapshots.send_replace(None);
    let Pair { client, served, registry, .. } = pair;
    drop((client, begun));
    served.await.unwrap();
    assert!(registry.clients().is_empty());
}
