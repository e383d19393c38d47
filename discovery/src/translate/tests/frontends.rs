// SPDX-License-Identifier: Apache-2.0
//! Clusters, listeners and routes. That Envoy and gRPC accept them is shown with the real ones elsewhere; here is what
//! they would not complain about, or only in a case that nobody tries.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::google::protobuf::{Struct, Value};

use super::*;

fn frontend(name: &str, subset_label: Option<&str>) -> Frontend {
    Frontend {
        name: name.into(),
        application: proto::Application::Http2,
        strategy: proto::Strategy::LeastRequest,
        subset_label: subset_label.map(Arc::from),
    }
}

fn routes(list: &[(&str, bool)]) -> RouteConfiguration {
    let list: Vec<_> = list
        .iter()
        .map(|(name, is_default)| GatewayRoute {
            frontend: Arc::new(frontend(name, Some("shard"))),
            is_default: *is_default,
        })
        .collect();
    RouteConfiguration::decode(gateway_routes(list.iter()).body()).unwrap()
}

#[test]
fn equal_frontends_have_equal_bytes_and_each_part_of_one_matters() {
    let one = || frontend("web.demo.svc.cluster.local:80", Some("shard"));
    for encode in [cluster, api_listener, route] {
        assert_eq!(encode(&one()), encode(&one()));
    }
    let differing = [
        Frontend { subset_label: None, ..one() },
        Frontend { application: proto::Application::Opaque, ..one() },
        Frontend { application: proto::Application::Unspecified, ..one() },
        Frontend { strategy: proto::Strategy::RoundRobin, ..one() },
        Frontend { strategy: proto::Strategy::Random, ..one() },
        Frontend { strategy: proto::Strategy::WeightedRoundRobin, ..one() },
        one(),
    ];
    let versions: BTreeSet<String> =
        differing.iter().map(|frontend| cluster(frontend).version().to_string()).collect();
    assert_eq!(versions.len(), differing.len());
}

#[test]
fn the_policy_that_only_envoy_knows_comes_before_the_one_that_envoy_refuses() {
    let message = Cluster::decode(cluster(&frontend("web.demo.svc.cluster.local:80", None)).body()).unwrap();
    let policies = message.load_balancing_policy.unwrap().policies;
    let names: Vec<_> =
        policies.iter().map(|policy| &*policy.typed_extension_config.as_ref().unwrap().name).collect();
    assert_eq!(names, ["envoy.load_balancing_policies.subset", "envoy.load_balancing_policies.wrr_locality"]);
}

#[test]
fn no_domain_is_twice_in_the_gateways_routes() {
    let all = routes(&[
        ("web.demo.svc.cluster.local:80", true),
        ("web.demo.svc.cluster.local:81", false),
        ("web.svc.svc.cluster.local:80", true),
        ("svc.web.svc.cluster.local:80", true),
    ]);
    let domains: Vec<&String> = all.virtual_hosts.iter().flat_map(|host| &host.domains).collect();
    assert_eq!(domains.iter().collect::<BTreeSet<_>>().len(), domains.len());
    let of_first =
        ["web.demo:80", "web.demo.svc:80", "web.demo.svc.cluster.local:80", "web.demo", "web.demo.svc"];
    assert_eq!(all.virtual_hosts[0].domains[..5], of_first);
    assert_eq!(all.virtual_hosts[1].domains.len(), 3, "another port needs to be named");
}

#[test]
fn a_listener_that_cannot_be_is_named_and_absent_metadata_asks_for_none() {
    let node = |value: Value| Node {
        metadata: Some(Struct { fields: [(LISTEN_KEY.to_owned(), value)].into() }),
        ..Node::default()
    };
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    assert_eq!(gateway_of(&Node::default()), Ok(None));
    let listener = gateway_of(&node(text("[::1]:8080"))).unwrap().unwrap();
    assert_eq!(Listener::decode(listener.body()).unwrap().name, GATEWAY);
    let error = gateway_of(&node(text(":8080"))).unwrap_err().to_string();
    assert_eq!(
        error,
        "node metadata evenkeel.io/listen is \":8080\"; allowed: ADDR:PORT, such as \"0.0.0.0:8080\""
    );
    assert!(gateway_of(&node(Value { kind: Some(Kind::NumberValue(8080.0)) })).is_err());
}
