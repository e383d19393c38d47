// SPDX-License-Identifier: Apache-2.0
//! What the protocol asks of a server in the incremental variant.

use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    },
    google::rpc::{Code, Status},
};
use evenkeel_xds::{
    DeltaSession, Limits, Response, SessionError, Version,
    type_url::{CLUSTER_LOAD_ASSIGNMENT as EDS, SERVICE},
};

use crate::content::Content;

fn session(source: &Content) -> DeltaSession<Content> {
    DeltaSession::new(Limits::default(), source.clone())
}

fn request(type_url: &str, subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.into(),
        resource_names_subscribe: subscribe.iter().map(|n| (*n).into()).collect(),
        resource_names_unsubscribe: unsubscribe.iter().map(|n| (*n).into()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn holding(mut request: DeltaDiscoveryRequest, held: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let version = |content: &str| Version::of(content.as_bytes()).to_string();
    request.initial_resource_versions = held.iter().map(|(n, c)| ((*n).into(), version(c))).collect();
    request
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn nack(response: &DeltaDiscoveryResponse, message: &str) -> DeltaDiscoveryRequest {
    let error = Status { code: Code::InvalidArgument.into(), message: message.into(), details: Vec::new() };
    DeltaDiscoveryRequest { error_detail: Some(error), ..ack(response) }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|r| r.name.as_str()).collect()
}

/// Sends a request that must be answered by one response.
fn ask(session: &mut DeltaSession<Content>, request: DeltaDiscoveryRequest) -> DeltaDiscoveryResponse {
    let responses = session.on_request(request).unwrap();
    assert_eq!(responses.len(), 1);
    responses[0].to_delta()
}

/// Sends a request that must not be answered.
fn tell(session: &mut DeltaSession<Content>, request: DeltaDiscoveryRequest) {
    assert_eq!(session.on_request(request).unwrap(), []);
}

/// Goes over to other content.
fn update(session: &mut DeltaSession<Content>, source: &Content) -> Vec<DeltaDiscoveryResponse> {
    session.on_update(source).iter().map(Response::to_delta).collect()
}

const TWO: [(&str, &str, &str); 2] = [(EDS, "a", "1"), (EDS, "b", "1")];

// "The server should treat that identically to how it would treat the client having explicitly subscribed to *."
#[test]
fn a_first_request_without_names_is_a_wildcard() {
    let source = Content::of(TWO);
    for subscribe in [&[][..], &["*"]] {
        let response = ask(&mut session(&source), request(EDS, subscribe, &[]));
        assert_eq!(names(&response), ["a", "b"]);
    }
}

// "Once the client does explicitly subscribe to a resource name, then this legacy semantic is no longer available."
#[test]
fn an_emptied_list_of_names_is_not_a_wildcard() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &["a"], &[]));
    tell(&mut session, ack(&response));
    tell(&mut session, request(EDS, &[], &["a"]));
    assert_eq!(update(&mut session, &Content::of([(EDS, "a", "2"), (EDS, "b", "2")])), []);
}

// "Server interprets this as continuing the existing subscription to * and adding a new subscription to A."
#[test]
fn naming_a_resource_keeps_the_wildcard() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &[], &[]));
    tell(&mut session, ack(&response));
    let response = ask(&mut session, request(EDS, &["a"], &[]));
    assert_eq!(names(&response), ["a"]);
    tell(&mut session, ack(&response));
    let responses = update(&mut session, &Content::of([(EDS, "a", "1"), (EDS, "b", "2")]));
    assert_eq!(names(&responses[0]), ["b"]);
}

// "Server interprets this as unsubscribing to * and continuing the existing subscription to A."
#[test]
fn leaving_the_wildcard_keeps_what_is_named() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &["*", "a"], &[]));
    tell(&mut session, ack(&response));
    tell(&mut session, request(EDS, &[], &["*"]));
    let responses = update(&mut session, &Content::of([(EDS, "a", "2"), (EDS, "b", "2")]));
    assert_eq!(names(&responses[0]), ["a"]);
}

// "The server must respond with all resources listed in resource_names_subscribe, even if it believes the client has the
// most recent version of them." (proto)
#[test]
fn a_resource_asked_for_again_is_sent_again() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &["a"], &[]));
    tell(&mut session, ack(&response));
    let response = ask(&mut session, request(EDS, &["a"], &[]));
    assert_eq!(names(&response), ["a"]);
    tell(&mut session, ack(&response));
    tell(&mut session, request(EDS, &[], &["a"]));
    assert_eq!(names(&ask(&mut session, request(EDS, &["a"], &[]))), ["a"]);
}

// "The server signals the client that a resource should be deleted via the removed_resources field."
#[test]
fn a_resource_that_goes_is_told_as_removed() {
    let source = Content::of(TWO);
    for subscribe in [&["*"][..], &["a", "b"]] {
        let mut session = session(&source);
        let response = ask(&mut session, request(EDS, subscribe, &[]));
        tell(&mut session, ack(&response));
        let responses = update(&mut session, &Content::of([(EDS, "a", "1")]));
        assert_eq!(
            (names(&responses[0]), &responses[0].removed_resources[..]),
            (vec![], &["b".to_owned()][..])
        );
    }
}

// "The management server must supply the requested resources if they exist"; that one does not is told as removed, so
// that the client need not wait for its timeout.
#[test]
fn a_named_resource_that_does_not_exist_is_told_once_as_removed() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &["a", "zz"], &[]));
    assert_eq!((names(&response), &response.removed_resources[..]), (vec!["a"], &["zz".to_owned()][..]));
    tell(&mut session, ack(&response));
    assert_eq!(update(&mut session, &source), []);
}

// "If one of those resources springs into existence later, the server must send an update to the client."
#[test]
fn a_resource_that_appears_later_is_sent() {
    let mut session = session(&Content::default());
    let response = ask(&mut session, request(EDS, &["a"], &[]));
    assert_eq!(response.removed_resources, ["a"]);
    tell(&mut session, ack(&response));
    let responses = session.on_changes(&[(EDS, &["a".into()][..])], &Content::of(TWO));
    assert_eq!(names(&responses[0].to_delta()), ["a"]);
}

// "If the server has previously sent 100 resources and only one of them has changed, it may send a response containing
// only the changed resource."
#[test]
fn only_what_changed_is_sent() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &["*"], &[]));
    tell(&mut session, ack(&response));
    let responses = update(&mut session, &Content::of([(EDS, "a", "1"), (EDS, "b", "2")]));
    assert_eq!(names(&responses[0]), ["b"]);
}

// "Informs the server of the versions of the resources the xDS client knows of, to enable the client to continue the same
// logical xDS session even in the face of gRPC stream reconnection." (proto)
#[test]
fn what_the_client_holds_is_not_sent_and_what_is_gone_is_told() {
    let source = Content::of(TWO);
    for subscribe in [&["*"][..], &["a", "b", "gone"]] {
        let held = [("a", "1"), ("b", "old"), ("gone", "1")];
        let response = ask(&mut session(&source), holding(request(EDS, subscribe, &[]), &held));
        assert_eq!(
            (names(&response), &response.removed_resources[..]),
            (vec!["b"], &["gone".to_owned()][..])
        );
    }
}

// "It will not be populated in any message after the first in a stream." (proto)
#[test]
fn versions_in_a_later_request_are_ignored() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &["a"], &[]));
    tell(&mut session, ack(&response));
    let response = ask(&mut session, holding(request(EDS, &["b"], &[]), &[("b", "1")]));
    assert_eq!(names(&response), ["b"]);
}

// A reconnecting client that already has everything learns that it is in sync.
#[test]
fn the_first_request_for_a_type_is_answered_even_if_there_is_nothing_to_tell() {
    let response =
        ask(&mut session(&Content::of(TWO)), holding(request(EDS, &["*"], &[]), &[("a", "1"), ("b", "1")]));
    assert!(response.resources.is_empty() && response.removed_resources.is_empty());
    assert!(!response.nonce.is_empty());
}

// "A resource_names_unsubscribe field may contain superfluous resource names": they are ignored.
#[test]
fn phantom_unsubscriptions_are_ignored() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &["a"], &["zz", "*"]));
    assert_eq!(names(&response), ["a"]);
}

// "While using wildcard the set of resources is determined by the server": after giving up a name the client is told
// whether the wildcard still covers it.
#[test]
fn giving_up_a_name_under_a_wildcard_is_answered() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &["*", "a", "zz"], &[]));
    tell(&mut session, ack(&response));
    let response = ask(&mut session, request(EDS, &[], &["a", "zz"]));
    assert_eq!((names(&response), &response.removed_resources[..]), (vec!["a"], &["zz".to_owned()][..]));
}

// "In Delta xDS the nonce field is required and used to pair DeltaDiscoveryResponse to a DeltaDiscoveryRequest ACK or
// NACK." (proto)
#[test]
fn a_stale_nonce_acknowledges_nothing_but_its_subscriptions_count() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let first = ask(&mut session, request(EDS, &["a"], &[]));
    let mut stale = request(EDS, &["b"], &[]);
    stale.response_nonce = "999".into();
    tell(&mut session, stale);
    assert_eq!(names(&ask(&mut session, ack(&first))), ["b"]);
}

// "Presence of error_detail making it a NACK" (proto); "if the management server provides the same set of resources rather
// than waiting for a change to occur, it will cause needless work".
#[test]
fn a_rejected_response_is_remembered_and_not_repeated() {
    let source = Content::of(TWO);
    let mut session = session(&source);
    let response = ask(&mut session, request(EDS, &["*"], &[]));
    tell(&mut session, nack(&response, "no thanks"));
    assert_eq!(update(&mut session, &source), []);
    // No details: all of the response was rejected.
    let rejected: Vec<_> = session.rejections().map(|r| (r.type_url, r.name, r.reason)).collect();
    assert_eq!(rejected, [(EDS, "a", "no thanks"), (EDS, "b", "no thanks")]);

    let changed = Content::of([(EDS, "a", "2"), (EDS, "b", "1")]);
    let responses = update(&mut session, &changed);
    assert_eq!(names(&responses[0]), ["a"]);
    tell(&mut session, ack(&responses[0]));
    assert_eq!(session.rejections().map(|r| r.name).collect::<Vec<_>>(), ["b"]);
}

// "All requests/acknowledgments/updates are logically walled off by type_url." (proto)
#[test]
fn types_do_not_acknowledge_for_each_other() {
    let source = Content::of([(EDS, "a", "1"), (SERVICE, "s", "1")]);
    let mut session = session(&source);
    let eds = ask(&mut session, request(EDS, &["*"], &[]));
    let services = ask(&mut session, request(SERVICE, &["*"], &[]));
    assert_ne!(eds.nonce, services.nonce);
    tell(&mut session, DeltaDiscoveryRequest { type_url: SERVICE.into(), ..ack(&eds) });
    let changed = Content::of([(EDS, "a", "2"), (SERVICE, "s", "2")]);
    assert_eq!(update(&mut session, &changed), [], "both are still unacknowledged");
    assert_eq!(names(&ask(&mut session, ack(&services))), ["s"]);
}

// "Sequencing of updates should follow a make before break model": what names a cluster comes before its endpoints.
#[test]
fn services_are_served_before_endpoints() {
    let source = Content::of([(EDS, "a", "1"), (SERVICE, "s", "1")]);
    let mut session = session(&source);
    // Asked for in the other order.
    for type_url in [EDS, SERVICE] {
        let response = ask(&mut session, request(type_url, &["*"], &[]));
        tell(&mut session, ack(&response));
    }
    let responses = update(&mut session, &Content::of([(EDS, "a", "2"), (SERVICE, "s", "2")]));
    assert_eq!(responses.iter().map(|r| r.type_url.as_str()).collect::<Vec<_>>(), [SERVICE, EDS]);
}

// "Only the first request on a stream is guaranteed to carry the node identifier."
#[test]
fn the_node_of_the_first_request_is_kept() {
    let mut session = session(&Content::default());
    let node = Some(Node { id: "n1".into(), ..Node::default() });
    let first = DeltaDiscoveryRequest { node, ..request(EDS, &["*"], &[]) };
    session.on_request(first).unwrap();
    session.on_request(request(SERVICE, &["*"], &[])).unwrap();
    assert_eq!(session.node().unwrap().id, "n1");
}

// Not in the protocol: what a peer may make us hold is bounded, and the reason is told.
#[test]
fn a_client_beyond_a_limit_is_told_which() {
    let limits =
        Limits { names_per_request: 3, subscriptions: 4, types: 1, name_bytes: 100, ..Limits::default() };
    let fresh = || DeltaSession::new(limits.clone(), Content::default());
    let many = fresh().on_request(request(EDS, &["a", "b", "c", "d"], &[])).unwrap_err();
    assert_eq!(many, SessionError::TooManyNames { type_url: EDS.into(), count: 4, limit: 3 });

    let mut session = fresh();
    session.on_request(request(EDS, &["a", "b", "c"], &[])).unwrap();
    let error = session.on_request(request(EDS, &["d", "e"], &[])).unwrap_err();
    assert_eq!(error, SessionError::TooManySubscriptions { type_url: EDS.into(), count: 5, limit: 4 });
    let error = session.on_request(request(SERVICE, &["*"], &[])).unwrap_err();
    assert_eq!(error, SessionError::TooManyTypes { type_url: SERVICE.into(), limit: 1 });
    assert!(error.is_exhaustion());

    let error = fresh().on_request(request(EDS, &["x".repeat(101).as_str()], &[])).unwrap_err();
    assert_eq!(error, SessionError::NameTooLong { bytes: 101, limit: 100 });
    let error = fresh().on_request(request("", &[], &[])).unwrap_err();
    assert!(error == SessionError::MissingTypeUrl && !error.is_exhaustion());
}

// Delta lets a server send any subset, so a large first answer comes in pieces, each after the last was acknowledged.
#[test]
fn a_large_answer_comes_in_pieces() {
    let source = Content::of([(EDS, "a", "1"), (EDS, "b", "1"), (EDS, "c", "1")]);
    let mut session = DeltaSession::new(Limits { response_bytes: 1, ..Limits::default() }, source);
    let first = ask(&mut session, request(EDS, &["*"], &[]));
    let second = ask(&mut session, ack(&first));
    let third = ask(&mut session, ack(&second));
    assert_eq!([names(&first), names(&second), names(&third)], [["a"], ["b"], ["c"]]);
    tell(&mut session, ack(&third));
    assert!(session.in_sync());
}
