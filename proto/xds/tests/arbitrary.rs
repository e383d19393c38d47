// SPDX-License-Identifier: Apache-2.0
//! Tier 1: arbitrary message sequences make neither end panic, and the server stays within its limits.

use std::collections::{BTreeSet, HashMap};

use envoy_types::pb::{
    envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, Resource, ResourceLocator,
        ResourceName,
    },
    google::{protobuf::Any, rpc::Status},
};
use evenkeel_xds::{
    DeltaClient, DeltaSession, EncodedResource, Interest, Limits, ResourceSource, Response, SotwSession,
    type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT, SERVICE},
};
use proptest::{collection::vec, prelude::*, sample::select};

#[derive(Clone)]
struct Three;

impl ResourceSource for Three {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        let known = type_url == SERVICE && ["a", "b", "c"].contains(&name);
        known.then(|| EncodedResource::new(SERVICE, name, b"body"))
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        for name in ["a", "b", "c"] {
            self.get(type_url, name).iter().for_each(&mut *visit);
        }
    }
}

fn type_url() -> impl Strategy<Value = String> {
    select(vec![SERVICE, CLUSTER_LOAD_ASSIGNMENT, "", "type.googleapis.com/x", "*"]).prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(vec!["a", "b", "c", "d", "*", ""]).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ]
}

fn nonce() -> impl Strategy<Value = String> {
    prop_oneof![4 => (0u8..8).prop_map(|n| n.to_string()), 1 => Just(String::new())]
}

fn body() -> impl Strategy<Value = Any> {
    (type_url(), vec(any::<u8>(), 0..12)).prop_map(|(type_url, value)| Any { type_url, value })
}

fn status() -> impl Strategy<Value = Status> {
    (any::<i32>(), name(), vec(body(), 0..3)).prop_map(|(code, message, details)| Status {
        code,
        message,
        details,
    })
}

fn request() -> impl Strategy<Value = DeltaDiscoveryRequest> {
    let names = || vec(name(), 0..5);
    let held = vec((name(), name()), 0..4).prop_map(|pairs| pairs.into_iter().collect::<HashMap<_, _>>());
    (type_url(), names(), names(), held, nonce(), prop::option::of(status())).prop_map(
        |(type_url, subscribe, unsubscribe, held, response_nonce, error_detail)| DeltaDiscoveryRequest {
            type_url,
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            resource_locators_subscribe: vec![ResourceLocator::default()],
            initial_resource_versions: held,
            response_nonce,
            error_detail,
            ..DeltaDiscoveryRequest::default()
        },
    )
}

fn sotw_request() -> impl Strategy<Value = DiscoveryRequest> {
    let types = prop_oneof![3 => type_url(), 2 => Just(CLUSTER.to_owned())];
    (types, vec(name(), 0..5), name(), nonce(), prop::option::of(status())).prop_map(
        |(type_url, resource_names, version_info, response_nonce, error_detail)| DiscoveryRequest {
            type_url,
            resource_names,
            version_info,
            response_nonce,
            error_detail,
            ..DiscoveryRequest::default()
        },
    )
}

fn resource() -> impl Strategy<Value = Resource> {
    (name(), name(), prop::option::of(body()), prop::option::of(name())).prop_map(
        |(name, version, resource, locator)| Resource {
            name,
            version,
            resource,
            resource_name: locator.map(|name| ResourceName { name, ..ResourceName::default() }),
            ..Resource::default()
        },
    )
}

fn response() -> impl Strategy<Value = DeltaDiscoveryResponse> {
    (type_url(), vec(resource(), 0..5), vec(name(), 0..4), nonce()).prop_map(
        |(type_url, resources, removed_resources, nonce)| DeltaDiscoveryResponse {
            type_url,
            resources,
            removed_resources,
            nonce,
            ..DeltaDiscoveryResponse::default()
        },
    )
}

#[derive(Debug, Clone)]
enum ClientStep {
    Response(DeltaDiscoveryResponse),
    Want(String, Option<Vec<String>>),
    Preload(String, String),
    Connect,
    Disconnect,
}

fn client_step() -> impl Strategy<Value = ClientStep> {
    prop_oneof![
        6 => response().prop_map(ClientStep::Response),
        3 => (type_url(), prop::option::of(vec(name(), 0..4))).prop_map(|(t, n)| ClientStep::Want(t, n)),
        1 => (type_url(), name()).prop_map(|(t, n)| ClientStep::Preload(t, n)),
        2 => Just(ClientStep::Connect),
        1 => Just(ClientStep::Disconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_requests_make_the_server_panic_or_exceed_one_outstanding_response(
        requests in vec((request(), any::<bool>()), 0..40),
        response_bytes in select(vec![0usize, 200, 1 << 20]),
    ) {
        let limits = Limits { response_bytes, subscriptions: 12, types: 3, ..Limits::default() };
        let mut session = DeltaSession::new(limits, Three);
        let mut outstanding: HashMap<String, String> = HashMap::new();
        for (request, update) in requests {
            if outstanding.get(&request.type_url) == Some(&request.response_nonce) {
                outstanding.remove(&request.type_url);
            }
            let Ok(mut responses) = session.on_request(request) else { break };
            if update {
                responses.extend(session.on_changes(&[(SERVICE, &["a".into(), "zz".into()][..])], &Three));
                responses.extend(session.on_update(&Three));
            }
            for response in responses.iter().map(Response::to_delta) {
                let mut names: Vec<_> = response.resources.iter().map(|r| &r.name).chain(&response.removed_resources).collect();
                let all = names.len();
                names.sort_unstable();
                names.dedup();
                prop_assert_eq!(names.len(), all, "a name twice in one response");
                prop_assert!(!response.nonce.is_empty());
                prop_assert_eq!(outstanding.insert(response.type_url, response.nonce), None);
            }
        }
    }

    #[test]
    fn no_state_of_the_world_requests_make_the_server_panic_or_exceed_one_outstanding_response(
        requests in vec((sotw_request(), any::<bool>()), 0..40),
        response_bytes in select(vec![0usize, 200, 1 << 20]),
    ) {
        let limits = Limits { response_bytes, subscriptions: 12, types: 3, ..Limits::default() };
        let mut session = SotwSession::new(limits, Three);
        let mut outstanding: HashMap<String, String> = HashMap::new();
        for (request, update) in requests {
            if outstanding.get(&request.type_url) == Some(&request.response_nonce) {
                outstanding.remove(&request.type_url);
            }
            let Ok(mut responses) = session.on_request(request) else { break };
            if update {
                responses.extend(session.on_changes(&[(SERVICE, &["a".into(), "zz".into()][..])], &Three));
                responses.extend(session.on_update(&Three));
            }
            for response in responses {
                let names: BTreeSet<_> = response.resources.iter().map(|r| r.name()).collect();
                prop_assert_eq!(names.len(), response.resources.len(), "a name twice in one response");
                prop_assert!(response.removed.is_empty());
                prop_assert_eq!(outstanding.insert(response.type_url.to_string(), response.nonce.to_string()), None);
            }
            let report = session.report();
            prop_assert!(report.types.iter().all(|t| t.pending.len() <= 12 + 3));
        }
    }

    #[test]
    fn no_responses_make_the_client_panic_or_leave_one_unanswered(steps in vec(client_step(), 0..40)) {
        let mut client = DeltaClient::new(Default::default());
        let mut connected = false;
        for step in steps {
            match step {
                ClientStep::Response(response) => {
                    let (nonce, type_url) = (response.nonce.clone(), response.type_url.clone());
                    let outcome = client.on_response(response, |_, name, any| {
                        if any.value.len() % 2 == 0 { Ok(()) } else { Err(format!("{name}: odd")) }
                    });
                    prop_assert_eq!(outcome.reply.is_some(), connected);
                    if let Some(reply) = outcome.reply {
                        prop_assert_eq!(reply.response_nonce, nonce);
                        prop_assert_eq!(reply.type_url, type_url);
                        prop_assert!(outcome.rejected.is_empty() || reply.error_detail.is_some());
                    }
                }
                ClientStep::Want(type_url, names) => {
                    let interest = names.map_or(Interest::Wildcard, |n| Interest::Names(n.into_iter().collect()));
                    let change = client.subscribe(&type_url, interest);
                    prop_assert!(connected || change.request.is_none());
                }
                ClientStep::Preload(type_url, name) => client.preload(&type_url, &name, "1"),
                ClientStep::Connect => {
                    let requests = client.on_connected();
                    connected = true;
                    prop_assert_eq!(requests.iter().filter(|r| r.node.is_some()).count(), requests.len().min(1));
                }
                ClientStep::Disconnect => {
                    client.on_disconnected();
                    connected = false;
                }
            }
        }
    }
}
