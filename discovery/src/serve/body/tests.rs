// SPDX-License-Identifier: Apache-2.0
//! Tier 1: a body without a transport.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use evenkeel_xds::server::Delta;
use evenkeel_xds::type_url::{CLUSTER_LOAD_ASSIGNMENT, SERVICE};
use prost::Message as _;
use prost::bytes::BufMut as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::serve::Loads;
use crate::snapshot::Snapshot;

/// A client with its stream.
struct Client {
    body: ResponseBody<Delta>,
    registry: Registry,
    snapshots: Option<watch::Sender<Option<Arc<Snapshot>>>>,
}

impl Client {
    fn new(first: Option<Arc<Snapshot>>) -> Self {
        let (snapshots, receiver) = watch::channel(first);
        let registry = Registry::default();
        let ads = Ads::new(receiver.clone(), Metrics::new(), registry.clone(), Loads::default());
        let bell = Bell::default();
        tokio::spawn(bell.clone().follow(receiver));
        let body = ResponseBody::new(&Peer::new(None), &ads, &bell, ads.place().unwrap());
        Self { body, registry, snapshots: Some(snapshots) }
    }

    fn send(&mut self, request: &DeltaDiscoveryRequest) {
        let message = request.encode_to_vec();
        let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        self.body.requests().push(&framed);
    }

    fn ask(&mut self, type_url: &str, names: &[&str]) {
        let names = names.iter().map(ToString::to_string).collect();
        self.send(&DeltaDiscoveryRequest {
            node: Some(Node { id: "n".into(), ..Node::default() }),
            type_url: type_url.into(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        });
    }

    async fn piece(&mut self) -> Said {
        std::future::poll_fn(|context| self.body.poll_next(context)).await
    }

    async fn response(&mut self) -> DeltaDiscoveryResponse {
        let Said::Piece(Data::Message(data)) = self.piece().await else { panic!("the end") };
        let mut bytes = Vec::new();
        bytes.put(data);
        let (prefix, message) = bytes.split_at(PREFIX);
        assert_eq!(prefix[0], 0, "not compressed");
        assert_eq!(prefix[1..], (message.len() as u32).to_be_bytes());
        DeltaDiscoveryResponse::decode(message).unwrap()
    }

    /// The status at the end, code and text.
    async fn end(&mut self) -> (String, String) {
        let Said::End(trailers) = self.piece().await else { panic!("a message") };
        self.nothing().await;
        assert!(self.registry.clients().is_empty(), "nothing of the stream is left");
        let text = |key| trailers.get(key).map_or(String::new(), |value| value.to_str().unwrap().to_owned());
        (text("grpc-status"), text("grpc-message"))
    }

    /// Polls once; nothing is ready.
    async fn nothing(&mut self) {
        std::future::poll_fn(|context| {
            assert!(self.body.poll_next(context).is_pending());
            Poll::Ready(())
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_is_told_before_the_first_snapshot_and_the_client_is_seen_all_the_same() {
    let mut client = Client::new(None);
    client.ask(SERVICE, &[]);
    client.nothing().await;
    assert_eq!(client.registry.clients().len(), 1);
    client.snapshots.as_ref().unwrap().send_replace(Some(Arc::default()));
    let response = client.response().await;
    assert_eq!((&*response.type_url, response.resources.len()), (SERVICE, 0));
}

#[tokio::test]
async fn a_stream_that_is_sent_away_ends_after_its_last_whole_response() {
    let mut client = Client::new(Some(Arc::default()));
    client.ask(SERVICE, &[]);
    client.ask(CLUSTER_LOAD_ASSIGNMENT, &["there-is-none"]);
    assert_eq!(client.response().await.type_url, SERVICE);
    client.body.leave();
    let (code, text) = client.end().await;
    assert_eq!((&*code, text.contains("shutting")), ("14", true), "{text}");
}

#[tokio::test]
async fn a_client_that_closes_its_side_and_one_that_talks_nonsense_are_told_the_end() {
    let mut client = Client::new(Some(Arc::default()));
    client.ask(CLUSTER_LOAD_ASSIGNMENT, &["there-is-none"]);
    assert_eq!(client.response().await.removed_resources, ["there-is-none"]);
    client.body.requests().end();
    assert_eq!(client.end().await.0, "0");
    let mut client = Client::new(Some(Arc::default()));
    client.body.requests().push(&[0, 0, 0, 0, 1, 0xff]);
    assert_eq!(client.end().await.0, "3");
    let mut client = Client::new(Some(Arc::default()));
    client.send(&DeltaDiscoveryRequest::default());
    assert_eq!(client.end().await.0, "3", "no type");
}

#[tokio::test]
async fn without_a_publisher_the_client_is_to_connect_again() {
    for first in [None, Some(Arc::default())] {
        let mut client = Client::new(first);
        client.nothing().await;
        client.snapshots = None;
        assert_eq!(client.end().await.0, "14");
    }
}

#[tokio::test]
async fn a_response_waits_for_the_client_until_the_transport_asks_for_more() {
    let mut client = Client::new(Some(Arc::default()));
    client.ask(SERVICE, &[]);
    client.response().await;
    let progress = |client: &Client| client.registry.clients()[0].progress.clone();
    assert!(progress(&client).blocked_since.is_some_and(|since| since <= Instant::now()));
    assert_eq!(progress(&client).responses, 0);
    client.nothing().await;
    assert_eq!((progress(&client).blocked_since, progress(&client).responses), (None, 1));
}

#[tokio::test]
async fn details_of_a_client_are_told_while_it_is_served() {
    let mut client = Client::new(Some(Arc::default()));
    client.ask(CLUSTER_LOAD_ASSIGNMENT, &["web"]);
    client.response().await;
    let stream = client.registry.clients()[0].stream;
    let registry = client.registry.clone();
    let asked = tokio::spawn(async move { registry.ask(stream).await });
    let told = async {
        loop {
            client.nothing().await;
            if asked.is_finished() {
                return asked.await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    // It waits for the client to read while nobody polls.
    assert!(told.await.is_ok_and(|report| report.types[0].names.len() == 1));
}

#[test]
fn a_text_that_cannot_be_a_header_is_left_out_or_written_otherwise() {
    let trailers = trailers(&Status::unavailable("gone\u{20ac}"));
    assert_eq!(trailers["grpc-status"], "14");
    assert!(trailers["grpc-message"].to_str().unwrap().starts_with("gone"));
}
