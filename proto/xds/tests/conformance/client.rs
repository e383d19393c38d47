// SPDX-License-Identifier: Apache-2.0
//! What the protocol asks of a client.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryResponse, Resource},
    },
    google::protobuf::Any,
};
use evenkeel_xds::{
    Change, DeltaClient, Event, Interest,
    type_url::{CLUSTER_LOAD_ASSIGNMENT as EDS, SERVICE},
};

fn client() -> DeltaClient {
    let mut client = DeltaClient::new(Node { id: "n1".into(), ..Node::default() });
    let _ = client.subscribe(EDS, Interest::Wildcard);
    client.on_connected();
    client
}

fn resource(name: &str, version: &str, content: &str) -> Resource {
    Resource {
        name: name.into(),
        version: version.into(),
        resource: Some(Any { type_url: EDS.into(), value: content.into() }),
        ..Resource::default()
    }
}

fn response(resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: EDS.into(),
        resources,
        removed_resources: removed.iter().map(|n| (*n).into()).collect(),
        nonce: "7".into(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn validate(_: &str, _: &str, any: Any) -> Result<String, String> {
    let content = String::from_utf8(any.value).map_err(|e| e.to_string())?;
    if content.starts_with('!') { Err(format!("{content} is bad")) } else { Ok(content) }
}

fn held(client: &DeltaClient) -> Vec<(&str, &str)> {
    client.versions(EDS).collect()
}

// "The xDS client should ACK or NACK every DiscoveryResponse received."
#[test]
fn a_good_response_is_acknowledged_with_its_nonce() {
    let mut client = client();
    let outcome = client.on_response(response(vec![resource("a", "1", "x")], &["b"]), validate);
    let reply = outcome.reply.unwrap();
    assert_eq!((reply.response_nonce.as_str(), reply.error_detail), ("7", None));
    let updated = Event::Updated { name: "a".into(), version: "1".into(), value: "x".to_owned() };
    assert_eq!(outcome.events, [updated, Event::Removed { name: "b".into() }]);
    assert_eq!(held(&client), [("a", "1")]);
}

// "NACK signifies unsuccessful configuration and is indicated by the presence of the error_detail field."
#[test]
fn a_bad_resource_is_named_and_the_good_ones_are_kept() {
    let mut client = client();
    let _ = client.on_response(response(vec![resource("b", "1", "x")], &[]), validate);
    let mixed = vec![resource("a", "2", "x"), resource("b", "2", "!"), resource("c", "2", "!!")];
    let outcome = client.on_response(response(mixed, &[]), validate);
    let error = outcome.reply.unwrap().error_detail.unwrap();
    assert_eq!(error.message, "b: ! is bad; c: !! is bad");
    assert_eq!(outcome.events.len(), 1);
    assert_eq!(held(&client), [("a", "2"), ("b", "1")], "the last good b stays");
    assert_eq!(client.rejections().map(|(_, r)| r.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    let _ = client.on_response(response(vec![resource("b", "3", "y")], &["c"]), validate);
    assert_eq!(client.rejections().count(), 0);
}

// "Clients should NACK responses that contain multiple instances of the same resource name."
#[test]
fn a_name_that_comes_twice_is_rejected() {
    let mut client = client();
    let twice = vec![
        resource("a", "1", "x"),
        resource("a", "2", "y"),
        resource("b", "1", "x"),
        resource("c", "1", "x"),
    ];
    let outcome = client.on_response(response(twice, &["c"]), validate);
    assert_eq!(outcome.rejected.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert!(outcome.reply.unwrap().error_detail.is_some());
    assert_eq!(held(&client), [("b", "1")]);
}

// "Every resource has a name and is of the response's type."
#[test]
fn resources_without_name_or_body_or_of_another_type_are_rejected() {
    let mut client = client();
    let mut other = resource("other", "1", "x");
    other.resource.as_mut().unwrap().type_url = SERVICE.into();
    let empty = Resource { resource: None, ..resource("empty", "1", "") };
    let outcome = client.on_response(response(vec![resource("", "1", "x"), other, empty], &[]), validate);
    let error = outcome.reply.unwrap().error_detail.unwrap().message;
    assert!(error.contains("resources[0]: no name"), "{error}");
    assert!(error.contains(&format!("other: a {SERVICE:?} in a response")), "{error}");
    assert!(error.contains("empty: no resource inside"), "{error}");
    assert!(held(&client).is_empty());
}

// "A Resource with the resource unset and version matching the most recently sent version … will not be treated as
// resource updates."
#[test]
fn a_heartbeat_changes_nothing() {
    let mut client = client();
    let _ = client.on_response(response(vec![resource("a", "1", "x")], &[]), validate);
    let heartbeat = Resource { resource: None, ..resource("a", "1", "") };
    let outcome = client.on_response(response(vec![heartbeat], &[]), validate);
    assert!(outcome.events.is_empty() && outcome.rejected.is_empty());
    assert_eq!(held(&client), [("a", "1")]);
}

// "The client will silently ignore any supplied resources that were not explicitly requested."
#[test]
fn what_was_not_asked_for_is_ignored_and_acknowledged() {
    let mut client = client();
    let _ = client.subscribe(EDS, Interest::Names(["a".to_owned()].into()));
    let outcome = client.on_response(response(vec![resource("z", "1", "!")], &["y"]), validate);
    assert!(outcome.events.is_empty());
    assert_eq!(outcome.reply.unwrap().error_detail, None);
}

// "An empty resource_names_subscribe or resource_names_unsubscribe list simply means that no resources are to be added or
// removed" (proto): only the difference is sent.
#[test]
fn a_change_of_names_sends_the_difference_and_forgets_what_is_not_wanted() {
    let mut client = client();
    let _ = client.subscribe(EDS, Interest::Names(["a", "b"].map(str::to_owned).into()));
    let _ =
        client.on_response(response(vec![resource("a", "1", "x"), resource("b", "1", "x")], &[]), validate);
    let Change { request, dropped } =
        client.subscribe(EDS, Interest::Names(["b", "c"].map(str::to_owned).into()));
    let request = request.unwrap();
    assert_eq!(request.resource_names_subscribe, ["c"]);
    assert_eq!(request.resource_names_unsubscribe, ["a"]);
    assert_eq!(dropped, ["a"]);
    assert_eq!(
        client.subscribe(EDS, Interest::Names(["b", "c"].map(str::to_owned).into())),
        Change::default()
    );
}

// "A first request without names is a wildcard": so a client that wants nothing of a type must not send one.
#[test]
fn wanting_nothing_of_a_type_sends_no_first_request() {
    let mut client = DeltaClient::new(Node::default());
    let _ = client.subscribe(EDS, Interest::Names(Default::default()));
    assert_eq!(client.on_connected(), []);
    let change = client.subscribe(EDS, Interest::Names(["a".to_owned()].into()));
    let request = change.request.unwrap();
    assert_eq!(request.resource_names_subscribe, ["a"]);
    assert!(request.node.is_some(), "it is the first request of the stream");
    let request = client.subscribe(EDS, Interest::Names(Default::default())).request.unwrap();
    assert_eq!(
        (request.resource_names_subscribe.len(), request.resource_names_unsubscribe),
        (0, vec!["a".to_owned()])
    );
}

// "The first message of each type_url of a reconnected stream populates this map." (proto)
#[test]
fn a_reconnect_tells_what_is_held_of_each_type_and_the_node_once() {
    let mut client = client();
    client.preload(SERVICE, "s", "5");
    let _ = client.subscribe(SERVICE, Interest::Wildcard);
    let mixed = vec![resource("a", "1", "x"), resource("b", "1", "!")];
    let _ = client.on_response(response(mixed, &[]), validate);
    client.on_disconnected();
    let requests = client.on_connected();
    let told: Vec<_> =
        requests.iter().map(|r| (r.type_url.as_str(), r.initial_resource_versions.clone())).collect();
    let versions = |n: &str, v: &str| HashMap::from([(n.to_owned(), v.to_owned())]);
    assert_eq!(
        told,
        [(SERVICE, versions("s", "5")), (EDS, versions("a", "1"))],
        "what was rejected is not held"
    );
    assert_eq!(requests.iter().map(|r| r.node.is_some()).collect::<Vec<_>>(), [true, false]);
}

// "The nonce is valid only in the context of an individual xDS stream; it does not survive stream restarts."
#[test]
fn a_response_of_a_lost_stream_is_ignored() {
    let mut client = client();
    client.on_disconnected();
    let outcome = client.on_response(response(vec![resource("a", "1", "x")], &[]), validate);
    assert_eq!((outcome.events.len(), outcome.reply), (0, None));
    assert!(held(&client).is_empty());
}

// "All requests/acknowledgments/updates are logically walled off by type_url." (proto)
#[test]
fn a_response_of_a_type_that_was_not_asked_for_is_rejected() {
    let mut client = client();
    let stray = DeltaDiscoveryResponse { type_url: SERVICE.into(), ..response(Vec::new(), &[]) };
    let reply = client.on_response(stray, validate).reply.unwrap();
    assert!(reply.error_detail.unwrap().message.contains("was not asked for"));
}
