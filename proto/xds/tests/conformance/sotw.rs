// SPDX-License-Identifier: Apache-2.0
//! What the protocol asks of a server in the state-of-the-world variant.

use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    },
    google::rpc::{Code, Status},
};
use evenkeel_xds::{
    Limits, Response, SessionError, SotwSession,
    type_url::{
        CLUSTER as CDS, CLUSTER_LOAD_ASSIGNMENT as EDS, LISTENER as LDS, ROUTE_CONFIGURATION as RDS, SERVICE,
    },
};

use crate::content::Content;

fn session(source: &Content) -> SotwSession<Content> {
    SotwSession::new(Limits::default(), source.clone())
}

fn request(type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: type_url.into(),
        resource_names: names.iter().map(|n| (*n).into()).collect(),
        ..DiscoveryRequest::default()
    }
}

fn ack(response: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: response.version_info.clone(),
        response_nonce: response.nonce.clone(),
        ..request(&response.type_url, names)
    }
}

fn nack(response: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    let error =
        Status { code: Code::InvalidArgument.into(), message: "no thanks".into(), details: Vec::new() };
    DiscoveryRequest { error_detail: Some(error), version_info: String::new(), ..ack(response, names) }
}

/// Contents of the resources in a response: the tests' contents are unique.
fn contents(response: &DiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|any| std::str::from_utf8(&any.value).unwrap()).collect()
}

/// Sends a request that must be answered by one response.
fn ask(session: &mut SotwSession<Content>, request: DiscoveryRequest) -> DiscoveryResponse {
    let responses = session.on_request(request).unwrap();
    assert_eq!(responses.len(), 1);
    responses[0].to_sotw()
}

/// Sends a request that must not be answered.
fn tell(session: &mut SotwSession<Content>, request: DiscoveryRequest) {
    assert_eq!(session.on_request(request).unwrap(), []);
}

/// Goes over to other content.
fn update(session: &mut SotwSession<Content>, source: &Content) -> Vec<DiscoveryResponse> {
    session.on_update(source).iter().map(Response::to_sotw).collect()
}

fn two(type_url: &'static str) -> Content {
    Content::of([(type_url, "a", "a1"), (type_url, "b", "b1")])
}

// "Client sends a request with resource_names unset. Server interprets this as a subscription to *."
#[test]
fn an_empty_list_that_was_never_anything_else_is_a_wildcard() {
    for type_url in [CDS, LDS] {
        let source = two(type_url);
        let mut session = session(&source);
        let response = ask(&mut session, request(type_url, &[]));
        assert_eq!(contents(&response), ["a1", "b1"]);
        // "all requests on the stream for that resource type have had an empty resource_names field"
        tell(&mut session, ack(&response, &[]));
        let changed = Content::of([(type_url, "a", "a1"), (type_url, "b", "b2")]);
        assert_eq!(contents(&update(&mut session, &changed)[0]), ["a1", "b2"]);
    }
}

// "Client sends a request with resource_names set to * and A. Server interprets this as continuing the existing
// subscription to * and adding a new subscription to A."
#[test]
fn a_star_among_names_is_a_wildcard() {
    let source = two(CDS);
    let mut session = session(&source);
    let response = ask(&mut session, request(CDS, &[]));
    let response = ask(&mut session, ack(&response, &["*", "a"]));
    assert_eq!(contents(&response), ["a1", "b1"]);
    tell(&mut session, ack(&response, &["*", "a"]));
    assert!(session.in_sync());
}

// "Client sends a request with resource_names set to A. Server interprets this as unsubscribing to * and continuing the
// existing subscription to A." "Client sends a request with resource_names unset. Server interprets this as unsubscribing
// to A."
#[test]
fn names_end_the_wildcard_and_an_emptied_list_ends_the_names() {
    let source = two(CDS);
    let mut session = session(&source);
    let response = ask(&mut session, request(CDS, &["*", "a"]));
    tell(&mut session, ack(&response, &["a"]));
    let responses = update(&mut session, &Content::of([(CDS, "a", "a2"), (CDS, "b", "b2")]));
    assert_eq!(contents(&responses[0]), ["a2"]);
    tell(&mut session, ack(&responses[0], &[]));
    assert_eq!(update(&mut session, &Content::of([(CDS, "a", "a3"), (CDS, "b", "b3")])), []);
    assert!(session.in_sync());
}

// "For Listener and Cluster resource types, there is also a wildcard subscription": for others there is none, and a client
// without clusters has no use for all endpoints.
#[test]
fn endpoints_and_routes_have_no_wildcard() {
    for type_url in [EDS, RDS] {
        for names in [&[][..], &["*"]] {
            let mut session = session(&two(type_url));
            tell(&mut session, request(type_url, names));
            assert!(session.in_sync());
            assert_eq!(contents(&ask(&mut session, request(type_url, &["b"]))), ["b1"]);
        }
    }
}

// "For LDS and CDS resources, the server must return all resources that the client has subscribed to in each request."
#[test]
fn listeners_and_clusters_come_whole() {
    for type_url in [CDS, LDS, SERVICE] {
        let source = two(type_url);
        let mut session = session(&source);
        let response = ask(&mut session, request(type_url, &["a"]));
        let response = ask(&mut session, ack(&response, &["a", "b"]));
        assert_eq!(contents(&response), ["a1", "b1"], "the 99 that were already subscribed to");
        tell(&mut session, ack(&response, &["a", "b"]));
        let changed = Content::of([(type_url, "a", "a1"), (type_url, "b", "b2")]);
        assert_eq!(contents(&update(&mut session, &changed)[0]), ["a1", "b2"]);
    }
}

// The whole state cannot be cut.
#[test]
fn a_whole_state_is_one_response_whatever_its_size() {
    let mut session = SotwSession::new(Limits { response_bytes: 1, ..Limits::default() }, two(CDS));
    assert_eq!(contents(&ask(&mut session, request(CDS, &[]))), ["a1", "b1"]);
}

// "If a previously seen resource is not present in a new response, that indicates that the resource has been removed"; "a
// response containing no resources means to delete all resources of that type".
#[test]
fn a_listener_or_cluster_is_removed_by_its_absence() {
    for names in [&[][..], &["a", "b"]] {
        let mut session = session(&two(CDS));
        let response = ask(&mut session, request(CDS, names));
        tell(&mut session, ack(&response, names));
        let responses = update(&mut session, &Content::of([(CDS, "b", "b1")]));
        assert_eq!(contents(&responses[0]), ["b1"]);
        tell(&mut session, ack(&responses[0], names));
        let responses = update(&mut session, &Content::default());
        assert_eq!((responses.len(), contents(&responses[0])), (1, vec![]));
    }
}

// "For other resource types, the API provides no mechanism for the server to tell the client that resources have been
// deleted."
#[test]
fn endpoints_that_go_are_not_told() {
    let mut session = session(&two(EDS));
    let response = ask(&mut session, request(EDS, &["a", "b"]));
    tell(&mut session, ack(&response, &["a", "b"]));
    assert_eq!(update(&mut session, &Content::of([(EDS, "b", "b1")])), []);
    assert!(session.in_sync());
    // And when they are back they are told, also if they are as they were.
    assert_eq!(contents(&update(&mut session, &two(EDS))[0]), ["a1"]);
}

// "All resource types except for Listener and Cluster are grouped into responses in the same way as in the incremental
// protocol variants."
#[test]
fn of_endpoints_and_routes_only_what_is_new_is_sent() {
    for type_url in [EDS, RDS] {
        let source = two(type_url);
        let mut session = session(&source);
        let response = ask(&mut session, request(type_url, &["a"]));
        assert_eq!(contents(&response), ["a1"]);
        let response = ask(&mut session, ack(&response, &["a", "b"]));
        assert_eq!(contents(&response), ["b1"]);
        tell(&mut session, ack(&response, &["a", "b"]));
        let changed = Content::of([(type_url, "a", "a2"), (type_url, "b", "b1")]);
        assert_eq!(contents(&update(&mut session, &changed)[0]), ["a2"]);
    }
}

#[test]
fn many_endpoints_come_in_pieces() {
    let mut session = SotwSession::new(Limits { response_bytes: 1, ..Limits::default() }, two(EDS));
    let first = ask(&mut session, request(EDS, &["a", "b"]));
    let second = ask(&mut session, ack(&first, &["a", "b"]));
    assert_eq!([contents(&first), contents(&second)], [["a1"], ["b1"]]);
    tell(&mut session, ack(&second, &["a", "b"]));
}

// "The SotW protocol variants do not provide any explicit mechanism to determine when a requested resource does not exist";
// "if one of those resources springs into existence later, the server must send an update".
#[test]
fn an_unknown_name_is_answered_when_it_appears() {
    let mut endpoints = session(&Content::default());
    tell(&mut endpoints, request(EDS, &["a"]));
    let responses = endpoints.on_changes(&[(EDS, &["a".into()][..])], &two(EDS));
    assert_eq!(contents(&responses[0].to_sotw()), ["a1"]);

    // "Responses for Listener and Cluster resource types must include all resources requested by the client": none.
    let mut clusters = session(&Content::default());
    let response = ask(&mut clusters, request(CDS, &["a"]));
    assert_eq!(contents(&response), [""; 0]);
    tell(&mut clusters, ack(&response, &["a"]));
    let responses = clusters.on_changes(&[(CDS, &["a".into()][..])], &two(CDS));
    assert_eq!(contents(&responses[0].to_sotw()), ["a1"]);
}

// "Servers may decide to optimize by not resending resources that the client had already seen on the previous stream, but
// only if they know that the client is not subscribing to a new resource": we cannot know, so we answer.
#[test]
fn a_first_request_is_answered_even_at_a_version_that_the_client_has() {
    for (type_url, names) in [(CDS, &[][..]), (EDS, &["a", "b"])] {
        let source = two(type_url);
        let first = ask(&mut session(&source), request(type_url, names));
        let again = DiscoveryRequest { version_info: first.version_info.clone(), ..request(type_url, names) };
        let second = ask(&mut session(&source), again);
        assert_eq!(second.resources, first.resources);
        // Replicas agree.
        assert_eq!(second.version_info, first.version_info);
    }
}

// "Whenever one resource of that type changes, the version is changed."
#[test]
fn the_version_changes_with_the_content_and_returns_with_it() {
    let mut session = session(&two(CDS));
    let first = ask(&mut session, request(CDS, &[]));
    tell(&mut session, ack(&first, &[]));
    let second = update(&mut session, &Content::of([(CDS, "a", "a2"), (CDS, "b", "b1")])).remove(0);
    tell(&mut session, ack(&second, &[]));
    let third = update(&mut session, &two(CDS)).remove(0);
    assert_ne!(first.version_info, second.version_info);
    assert_eq!(first.version_info, third.version_info);
}

// "When the client sends a new request that changes the set of resources being requested, the server must resend any newly
// requested resources, even if it previously sent those resources."
#[test]
fn a_name_that_is_given_up_and_asked_for_again_is_sent_again() {
    let mut session = session(&two(EDS));
    let response = ask(&mut session, request(EDS, &["a", "b"]));
    tell(&mut session, ack(&response, &["b"]));
    assert_eq!(contents(&ask(&mut session, ack(&response, &["a", "b"]))), ["a1"]);
}

// "The management server should not send a DiscoveryResponse for any DiscoveryRequest that has a stale nonce."
#[test]
fn a_stale_request_is_not_answered_and_its_names_are_not_lost() {
    let mut session = session(&two(EDS));
    let first = ask(&mut session, request(EDS, &["a"]));
    tell(&mut session, ack(&first, &["a"]));
    let second = update(&mut session, &Content::of([(EDS, "a", "a2"), (EDS, "b", "b1")])).remove(0);
    // Sent before the client saw the second response: gives `a` up, wants `b`, then `a` again.
    tell(&mut session, ack(&first, &["b"]));
    tell(&mut session, ack(&first, &["a", "b"]));
    assert!(!session.in_sync());
    assert_eq!(contents(&ask(&mut session, ack(&second, &["a", "b"]))), ["a2", "b1"]);
}

// "It will cause needless work": an acknowledgement that repeats the names, in any order, is not answered.
#[test]
fn an_acknowledgement_with_the_same_names_is_not_answered() {
    let mut session = session(&two(EDS));
    let response = ask(&mut session, request(EDS, &["a", "b"]));
    tell(&mut session, ack(&response, &["b", "a"]));
    tell(&mut session, ack(&response, &["b", "a", "a"]));
    assert_eq!(update(&mut session, &two(EDS)), []);
}

// "The preferred mechanism for a server to detect a NACK is to look for the presence of the error_detail field."
#[test]
fn what_is_rejected_is_remembered_and_not_repeated_until_something_changes() {
    for (type_url, names) in [(CDS, &[][..]), (EDS, &["a", "b"])] {
        let mut session = session(&two(type_url));
        let response = ask(&mut session, request(type_url, names));
        tell(&mut session, nack(&response, names));
        assert_eq!(update(&mut session, &two(type_url)), []);
        let rejected: Vec<_> =
            session.rejections().map(|r| (r.name.to_owned(), r.reason.to_owned())).collect();
        assert_eq!(rejected, [("a".into(), "no thanks".into()), ("b".into(), "no thanks".into())]);
        assert!(session.in_sync());
        let responses = update(&mut session, &Content::of([(type_url, "a", "a2"), (type_url, "b", "b1")]));
        tell(&mut session, ack(&responses[0], names));
        // A whole state that is accepted has nothing in it that is rejected.
        assert_eq!(session.rejections().count(), if type_url == CDS { 0 } else { 1 });
    }
}

// "When using the aggregated protocol variants, each resource type has its own version", and its own nonces.
#[test]
fn types_do_not_acknowledge_for_each_other() {
    let mut session = session(&Content::of([(EDS, "a", "a1"), (RDS, "r", "r1")]));
    let eds = ask(&mut session, request(EDS, &["a"]));
    let rds = ask(&mut session, request(RDS, &["r"]));
    assert_ne!(eds.nonce, rds.nonce);
    tell(&mut session, DiscoveryRequest { response_nonce: eds.nonce, ..request(RDS, &["r"]) });
    let changed = Content::of([(EDS, "a", "a2"), (RDS, "r", "r2")]);
    assert_eq!(update(&mut session, &changed), [], "both are still unacknowledged");
    assert_eq!(contents(&ask(&mut session, ack(&rds, &["r"]))), ["r2"]);
}

// "CDS updates (if any) must always be pushed first. EDS updates (if any) must arrive after CDS updates for the respective
// clusters. LDS updates must arrive after corresponding CDS/EDS updates. RDS updates related to the newly added listeners
// must arrive after CDS/EDS/LDS updates."
#[test]
fn types_are_served_in_order() {
    let all = |content: &'static str| Content::of([CDS, EDS, LDS, RDS].map(|t| (t, "a", content)));
    let mut session = session(&all("1"));
    for type_url in [RDS, LDS, EDS, CDS] {
        for response in session.on_request(request(type_url, &["a"])).unwrap() {
            session.on_request(ack(&response.to_sotw(), &["a"])).unwrap();
        }
    }
    let responses = update(&mut session, &all("2"));
    assert_eq!(responses.iter().map(|r| r.type_url.as_str()).collect::<Vec<_>>(), [CDS, EDS, LDS, RDS]);
}

// "It is an error for a server to send a single response that contains the same resource name twice."
#[test]
fn a_name_under_the_wildcard_is_sent_once() {
    let response = ask(&mut session(&two(CDS)), request(CDS, &["a", "*", "a"]));
    assert_eq!(contents(&response), ["a1", "b1"]);
}

#[test]
fn what_is_known_of_a_client_is_reported() {
    let mut session = session(&two(EDS));
    let node = Node { id: "n1".into(), extensions: vec![Default::default(); 9], ..Node::default() };
    let first = DiscoveryRequest { node: Some(node), ..request(EDS, &["a", "b", "zz"]) };
    let response = ask(&mut session, first);
    let types = session.report().types;
    assert_eq!((types[0].names.len(), types[0].told.len(), types[0].unacknowledged.len()), (3, 2, 2));
    tell(&mut session, nack(&response, &["a", "b", "zz"]));
    let report = session.report();
    let node = report.node.unwrap();
    assert_eq!((node.id.as_str(), node.extensions.len()), ("n1", 0));
    let eds = &report.types[0];
    assert_eq!((&*eds.type_url, eds.wildcard, eds.in_sync, eds.rejected.len()), (EDS, false, true, 2));
    assert_eq!(eds.unacknowledged, []);
}

#[test]
fn a_client_beyond_a_limit_is_told_which() {
    let limits = Limits { names_per_request: 3, subscriptions: 2, ..Limits::default() };
    let fresh = || SotwSession::new(limits.clone(), Content::default());
    let error = fresh().on_request(request(EDS, &["a", "b", "c", "d"])).unwrap_err();
    assert_eq!(error, SessionError::TooManyNames { type_url: EDS.into(), count: 4, limit: 3 });
    let error = fresh().on_request(request(EDS, &["a", "b", "c"])).unwrap_err();
    assert_eq!(error, SessionError::TooManySubscriptions { type_url: EDS.into(), count: 3, limit: 2 });
}
