// SPDX-License-Identifier: Apache-2.0
//! Tier 1: every rule has a case that breaks it, and its message names resource, field, value and rule.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::config::{
        core::v3::{Address, Locality, Metadata, SocketAddress, address, socket_address::PortSpecifier},
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
        },
    },
    google::protobuf::{Struct, UInt32Value, Value, value::Kind},
};
use evenkeel_balance::priority::Health;
use evenkeel_proto::discovery as pb;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::store::{Application, Balance, Protocol, ZonePolicy};

const CLUSTER: &str = "web.demo.svc.cluster.local:80";

fn endpoint(address: &str, port: u32) -> LbEndpoint {
    let socket = SocketAddress {
        address: address.into(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    }
}

fn locality(zone: &str, priority: u32, lb_endpoints: Vec<LbEndpoint>) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(Locality { zone: zone.into(), ..Locality::default() }),
        priority,
        lb_endpoints,
        ..LocalityLbEndpoints::default()
    }
}

fn good() -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: CLUSTER.into(),
        endpoints: vec![
            locality("a", 0, vec![endpoint("10.0.0.1", 8080), endpoint("10.0.0.2", 8080)]),
            locality("b", 1, vec![endpoint("fd00::1", 8080)]),
        ],
        ..ClusterLoadAssignment::default()
    }
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.into())) }
}

fn metadata(fields: HashMap<String, Value>) -> Option<Metadata> {
    let filter_metadata = HashMap::from([(METADATA_NAMESPACE.to_owned(), Struct { fields })]);
    Some(Metadata { filter_metadata, ..Metadata::default() })
}

#[test]
fn a_good_assignment_becomes_endpoints_in_order() {
    let mut message = good();
    message.endpoints[1].lb_endpoints[0].load_balancing_weight = Some(UInt32Value { value: 3 });
    message.endpoints[1].lb_endpoints[0].health_status = 3;
    message.endpoints[1].lb_endpoints[0].metadata =
        metadata(HashMap::from([("node".into(), text("n1")), ("pod".into(), text("demo/web-1"))]));
    let endpoints = assignment(CLUSTER, &message.encode_to_vec()).unwrap().endpoints;
    assert_eq!(endpoints.len(), 3);
    assert_eq!((endpoints[0].address.to_string().as_str(), endpoints[0].weight.get()), ("10.0.0.1:8080", 1));
    assert_eq!((&*endpoints[0].zone, endpoints[0].priority, endpoints[0].health), ("a", 0, Health::Healthy));
    let last = &endpoints[2];
    assert_eq!((&*last.zone, &*last.node, &*last.pod), ("b", "n1", "demo/web-1"));
    assert_eq!((last.priority, last.weight.get(), last.health), (1, 3, Health::Draining));
}

#[test]
fn an_empty_assignment_and_a_missing_locality_are_fine() {
    let empty = ClusterLoadAssignment { endpoints: Vec::new(), ..good() };
    assert!(assignment(CLUSTER, &empty.encode_to_vec()).unwrap().endpoints.is_empty());
    let mut nowhere = good();
    nowhere.endpoints[0].locality = None;
    assert_eq!(&*assignment(CLUSTER, &nowhere.encode_to_vec()).unwrap().endpoints[0].zone, "");
}

type Break = fn(&mut ClusterLoadAssignment);

#[test]
fn every_rule_for_endpoints_names_the_field_and_the_value() {
    let cases: &[(Break, &str)] = &[
        (|m| m.cluster_name = "x".into(), "cluster_name: \"x\"; must be the resource's name"),
        (
            |m| m.endpoints[0].lb_endpoints[1].load_balancing_weight = Some(UInt32Value { value: 0 }),
            "endpoints[0].lb_endpoints[1].load_balancing_weight: 0; must be at least 1",
        ),
        (
            |m| m.endpoints[1].load_balancing_weight = Some(UInt32Value { value: 0 }),
            "endpoints[1].load_balancing_weight: 0; must be at least 1",
        ),
        (
            |m| {
                m.endpoints[0]
                    .lb_endpoints
                    .iter_mut()
                    .for_each(|e| e.load_balancing_weight = Some(UInt32Value { value: u32::MAX }))
            },
            "endpoints[0].lb_endpoints[1].load_balancing_weight: 4294967295; the weights of priority 0 add up to more than 4294967295",
        ),
        (
            |m| m.endpoints[1].priority = 2,
            "endpoints[].priority: 2; priorities must be contiguous, and 1 is missing",
        ),
        (|m| m.endpoints[1].priority = 129, "endpoints[1].priority: 129; must be at most 128"),
        (
            |m| m.endpoints[1] = locality("a", 0, Vec::new()),
            "endpoints[1].locality: zone \"a\"; is there twice in priority 0",
        ),
        (
            |m| m.endpoints[1].lb_endpoints[0] = endpoint("10.0.0.1", 8080),
            "endpoints[1].lb_endpoints[0].endpoint.address.socket_address: 10.0.0.1:8080; is there twice",
        ),
        (
            |m| m.endpoints[0].lb_endpoints[0] = endpoint("web-1", 8080),
            "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: \"web-1\"; must be an IP address",
        ),
        (
            |m| m.endpoints[0].lb_endpoints[0] = endpoint("10.0.0.9", 0),
            "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: 0; must be from 1 to 65535",
        ),
        (
            |m| m.endpoints[0].lb_endpoints[0] = endpoint("10.0.0.9", 65536),
            "socket_address.port_value: 65536; must be from 1 to 65535",
        ),
        (
            |m| m.endpoints[0].lb_endpoints[0].host_identifier = None,
            "endpoints[0].lb_endpoints[0].endpoint: nothing; must be there",
        ),
        (
            |m| m.endpoints[0].lb_endpoints[0].health_status = 77,
            "endpoints[0].lb_endpoints[0].health_status: 77; is no health status",
        ),
        (
            |m| {
                m.endpoints[0].lb_endpoints[0].metadata =
                    metadata(HashMap::from([("pod".into(), Value { kind: Some(Kind::BoolValue(true)) })]))
            },
            "endpoints[0].lb_endpoints[0].metadata.filter_metadata[\"evenkeel.io\"].pod: BoolValue(true); must be a string",
        ),
    ];
    for (spoil, expected) in cases {
        let mut message = good();
        spoil(&mut message);
        let error = assignment(CLUSTER, &message.encode_to_vec()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("ClusterLoadAssignment {CLUSTER}: ")), "{error}");
        assert!(error.contains(expected), "\n{error}\n{expected}");
    }
}

fn good_service() -> pb::Service {
    let port = |port, protocol: pb::Protocol, cluster: &str| pb::Port {
        name: "p".into(),
        port,
        protocol: protocol.into(),
        application: pb::Application::Http2.into(),
        cluster: cluster.into(),
    };
    pb::Service {
        namespace: "demo".into(),
        name: "web".into(),
        balance: pb::Balance::Request.into(),
        strategy: pb::Strategy::RoundRobin.into(),
        zone: pb::ZonePolicy::Strict.into(),
        addresses: vec!["10.96.0.1".into(), "fd00::a".into()],
        ports: vec![
            port(80, pb::Protocol::Tcp, CLUSTER),
            port(80, pb::Protocol::Udp, "web.demo.svc.cluster.local:80/udp"),
        ],
        faults: vec!["evenkeel.io/zone: \"x\"".into()],
    }
}

#[test]
fn a_good_service_becomes_a_spec() {
    let spec = service("demo/web", &good_service().encode_to_vec()).unwrap();
    assert_eq!(spec.name.to_string(), "demo/web");
    assert_eq!(
        (spec.balance, spec.zone, &*spec.strategy),
        (Balance::Request, ZonePolicy::Strict, "round-robin")
    );
    assert_eq!(spec.addresses.len(), 2);
    assert_eq!(spec.ports.iter().map(|p| p.protocol).collect::<Vec<_>>(), [Protocol::Tcp, Protocol::Udp]);
    assert_eq!((spec.ports[0].application, &*spec.ports[0].cluster), (Application::Http2, CLUSTER));
    assert_eq!(spec.faults.len(), 1);
}

#[test]
fn every_rule_for_services_names_the_field_and_the_value() {
    type Spoil = fn(&mut pb::Service);
    let cases: &[(Spoil, &str)] = &[
        (|m| m.name = "other".into(), "name: \"demo/other\"; must be the resource's name"),
        (|m| m.namespace = "De mo".into(), "name: \"De mo/web\"; "),
        (|m| m.balance = 0, "balance: 0; must be 1 (connection) or 2 (request)"),
        (|m| m.strategy = 99, "strategy: 99; is no strategy that this agent knows"),
        (|m| m.zone = 9, "zone: 9; must be 1 (prefer), 2 (strict) or 3 (ignore)"),
        (|m| m.addresses[1] = "None".into(), "addresses[1]: \"None\"; must be an IP address"),
        (|m| m.addresses[1] = "10.96.0.1".into(), "addresses[1]: 10.96.0.1; is there twice"),
        (|m| m.ports[1].port = 0, "ports[1].port: 0; must be from 1 to 65535"),
        (|m| m.ports[1].port = 70000, "ports[1].port: 70000; must be from 1 to 65535"),
        (|m| m.ports[1].protocol = 0, "ports[1].protocol: 0; must be 1 (TCP) or 2 (UDP)"),
        (|m| m.ports[1].protocol = 1, "ports[1].port: 80; is there twice for this protocol"),
        (|m| m.ports[0].application = 9, "ports[0].application: 9; must be 0 (not said)"),
        (|m| m.ports[0].cluster = "web".into(), "ports[0].cluster: \"web\"; "),
    ];
    for (spoil, expected) in cases {
        let mut message = good_service();
        spoil(&mut message);
        let error = service("demo/web", &message.encode_to_vec()).unwrap_err().to_string();
        assert!(error.starts_with("Service demo/web: "), "{error}");
        assert!(error.contains(expected), "\n{error}\n{expected}");
    }
}

#[test]
fn ten_thousand_endpoints_in_one_assignment_are_fine() {
    let endpoints = (0..10_000u32).map(|i| endpoint(&format!("10.1.{}.{}", i / 250, i % 250), 80)).collect();
    let message = ClusterLoadAssignment { endpoints: vec![locality("a", 0, endpoints)], ..good() };
    assert_eq!(assignment(CLUSTER, &message.encode_to_vec()).unwrap().endpoints.len(), 10_000);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_decoder_panic(
        body in prop::collection::vec(any::<u8>(), 0..200),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let _ = (assignment(CLUSTER, &body), service("demo/web", &body));
        for mut bytes in [good().encode_to_vec(), good_service().encode_to_vec()] {
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            let _ = (assignment(CLUSTER, &bytes), service("demo/web", &bytes));
        }
    }
}
