// SPDX-License-Identifier: Apache-2.0
//! Views in, resources out. Tier 1: pure, with laws.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{HealthStatus, address};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use envoy_types::pb::google::protobuf::value::Kind;
use evenkeel_proto::discovery::ZonePolicy;
use proptest::prelude::*;
use prost::Message;

use super::assignment::ENVOY_LB;
use super::*;
use crate::objects::ServicePort;
use crate::view::Endpoint;

fn endpoint(last: u8, zone: &str, draining: bool, weight: u32) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, last], 8080).into(),
        region: Arc::default(),
        zone: zone.into(),
        node: format!("node-{last}").into(),
        pod: format!("pod-{last}").into(),
        subset: None,
        draining,
        weight,
    }
}

fn view(endpoints: &[Endpoint]) -> PortView {
    let port = ServicePort {
        name: "grpc".into(),
        port: 80,
        protocol: Protocol::Tcp,
        application: proto::Application::Http2,
        cluster: "web.demo.svc.cluster.local:80".into(),
    };
    PortView { port, subset_label: Some("shard".into()), endpoints: endpoints.to_vec() }
}

fn seen(policy: ZonePolicy, zone: &str, endpoints: &[Endpoint]) -> ClusterLoadAssignment {
    let audience = Zoning::new(policy, endpoints).audience(&zone.into());
    let resource = assignment(&view(endpoints), &audience, &mut Localities::default());
    ClusterLoadAssignment::decode(resource.body()).unwrap()
}

/// (priority, zone, locality weight, endpoints) of each locality.
fn shape(assignment: &ClusterLoadAssignment) -> Vec<(u32, &str, u32, usize)> {
    let shape = assignment.endpoints.iter().map(|locality| {
        let zone = locality.locality.as_ref().map_or("", |locality| locality.zone.as_str());
        (locality.priority, zone, locality.load_balancing_weight.unwrap().value, locality.lb_endpoints.len())
    });
    shape.collect()
}

fn three_zones() -> Vec<Endpoint> {
    vec![
        endpoint(1, "a", false, 1),
        endpoint(2, "a", false, 2),
        endpoint(3, "b", false, 5),
        endpoint(4, "c", true, 1),
        endpoint(5, "", false, 1),
    ]
}

#[test]
fn prefer_puts_the_clients_zone_first_and_all_others_behind_it() {
    let all = three_zones();
    let seen = seen(ZonePolicy::Prefer, "a", &all);
    assert_eq!(shape(&seen), [(0, "a", 3, 2), (1, "", 1, 1), (1, "b", 5, 1), (1, "c", 1, 1)]);
}

#[test]
fn prefer_without_a_healthy_local_endpoint_uses_the_others_at_once() {
    let all = three_zones();
    let everything = [(0, "", 1, 1), (0, "a", 3, 2), (0, "b", 5, 1), (0, "c", 1, 1)];
    assert_eq!(shape(&seen(ZonePolicy::Prefer, "c", &all)), everything, "c only has one that drains");
    assert_eq!(shape(&seen(ZonePolicy::Prefer, "d", &all)), everything, "d has none");
}

#[test]
fn strict_stays_in_the_zone_even_if_that_leaves_nothing() {
    let all = three_zones();
    assert_eq!(shape(&seen(ZonePolicy::Strict, "a", &all)), [(0, "a", 3, 2)]);
    assert_eq!(shape(&seen(ZonePolicy::Strict, "d", &all)), []);
}

#[test]
fn a_client_without_zone_and_the_policy_ignore_see_one_priority() {
    let all = three_zones();
    for (policy, zone) in [(ZonePolicy::Prefer, ""), (ZonePolicy::Strict, ""), (ZonePolicy::Ignore, "a")] {
        let seen = seen(policy, zone, &all);
        assert!(seen.endpoints.iter().all(|locality| locality.priority == 0));
        assert_eq!(seen.endpoints.len(), 4);
    }
}

#[test]
fn an_endpoint_carries_its_health_weight_node_and_pod() {
    let seen = seen(ZonePolicy::Ignore, "", &[endpoint(1, "a", true, 7)]);
    let endpoint = &seen.endpoints[0].lb_endpoints[0];
    assert_eq!(endpoint.health_status, i32::from(HealthStatus::Draining));
    assert_eq!(endpoint.load_balancing_weight.unwrap().value, 7);
    let fields = &endpoint.metadata.as_ref().unwrap().filter_metadata[METADATA].fields;
    let text = |key: &str| match &fields[key].kind {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((text("node"), text("pod"), text("zone")), ("node-1".into(), "pod-1".into(), "a".into()));
    assert!(!fields.contains_key("subset"));
}

#[test]
fn a_subset_is_there_for_us_and_for_envoy() {
    let mut one = endpoint(1, "a", false, 1);
    one.subset = Some("blue".into());
    let seen = seen(ZonePolicy::Ignore, "", &[one]);
    let metadata = &seen.endpoints[0].lb_endpoints[0].metadata.as_ref().unwrap().filter_metadata;
    let blue = Some(Kind::StringValue("blue".into()));
    assert_eq!(metadata[METADATA].fields["subset"].kind, blue);
    assert_eq!(metadata[ENVOY_LB].fields["shard"].kind, blue);
}

#[test]
fn a_locality_weighs_what_its_endpoints_can_take() {
    let all = [endpoint(1, "a", false, 2), endpoint(2, "a", true, 50), endpoint(3, "b", true, 7)];
    let seen = seen(ZonePolicy::Ignore, "", &all);
    assert_eq!(shape(&seen), [(0, "a", 2, 2), (0, "b", 7, 1)]);
}

fn abroad(last: u8, zone: &str) -> Endpoint {
    Endpoint { region: "west".into(), ..endpoint(last, zone, false, 1) }
}

#[test]
fn a_fallbacks_endpoints_come_behind_all_of_ours() {
    let with = |ours: &[Endpoint]| [ours, &[abroad(100, "a"), abroad(101, "w1")]].concat();
    let two = [endpoint(1, "a", false, 1), endpoint(2, "b", false, 1)];
    let behind = |policy, zone: &str, ours: &[Endpoint]| -> Vec<u32> {
        seen(policy, zone, &with(ours)).endpoints.iter().map(|locality| locality.priority).collect()
    };
    assert_eq!(behind(ZonePolicy::Prefer, "a", &two), [0, 1, 2, 2]);
    assert_eq!(behind(ZonePolicy::Prefer, "a", &two[..1]), [0, 1, 1]);
    assert_eq!(behind(ZonePolicy::Ignore, "a", &two), [0, 0, 1, 1]);
    assert_eq!(behind(ZonePolicy::Strict, "a", &two), [0, 1, 1]);
    assert_eq!(behind(ZonePolicy::Strict, "c", &two), [0, 0], "a zone without endpoints has the fallback");
    assert_eq!(behind(ZonePolicy::Prefer, "a", &[]), [0, 0], "priorities start at 0");
    let all = with(&two);
    let regions = seen(ZonePolicy::Ignore, "", &all)
        .endpoints
        .into_iter()
        .map(|locality| locality.locality.unwrap().region);
    assert_eq!(regions.collect::<Vec<_>>(), ["", "", "west", "west"]);
}

/// Whether all that was sent of an endpoint is what it is.
fn read_back(sent: &LbEndpoint, endpoint: &Endpoint) -> bool {
    let Some(HostIdentifier::Endpoint(host)) = &sent.host_identifier else { return false };
    let Some(address::Address::SocketAddress(socket)) =
        host.address.as_ref().and_then(|a| a.address.as_ref())
    else {
        return false;
    };
    let port = Some(PortSpecifier::PortValue(endpoint.address.port().into()));
    let text = |namespace: &str, key: &str| match &sent
        .metadata
        .as_ref()?
        .filter_metadata
        .get(namespace)?
        .fields
        .get(key)?
        .kind
    {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        other => panic!("{other:?}"),
    };
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let subset = endpoint.subset.as_deref().map(str::to_owned);
    socket.address == endpoint.address.ip().to_string()
        && socket.port_specifier == port
        && (sent.health_status == i32::from(HealthStatus::Draining)) == endpoint.draining
        && sent.load_balancing_weight.map(|weight| weight.value) == Some(endpoint.weight)
        && [text(METADATA, "node"), text(METADATA, "pod")] == [some(&endpoint.node), some(&endpoint.pod)]
        && [text(METADATA, "zone"), text(METADATA, "subset")] == [some(&endpoint.zone), subset.clone()]
        && text(ENVOY_LB, "shard") == subset
}

fn any_endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let one = (0u8..30, "[abc]?", any::<bool>(), 1u32..=1000, prop::option::weighted(0.2, "(blue|green)"));
    let list = prop::collection::vec((one, prop::bool::weighted(0.3)), 0..12);
    list.prop_map(|list| {
        let by_address: BTreeMap<u8, Endpoint> = list
            .into_iter()
            .map(|((last, zone, draining, weight, subset), away)| {
                let mut one = endpoint(last, &zone, draining && !away, weight);
                one.subset = subset.map(Arc::from);
                one.region = if away { "west".into() } else { Arc::default() };
                (last, one)
            })
            .collect();
        by_address.into_values().collect()
    })
}

fn any_policy() -> impl Strategy<Value = ZonePolicy> {
    prop::sample::select(vec![ZonePolicy::Prefer, ZonePolicy::Strict, ZonePolicy::Ignore])
}

proptest! {
    /// gRFC A27: what gRPC would reject.
    #[test]
    fn every_view_is_valid_for_grpc(endpoints in any_endpoints(), policy in any_policy(), zone in "[abcd]?") {
        let seen = seen(policy, &zone, &endpoints);
        let shape = shape(&seen);
        let mut priorities: Vec<u32> = shape.iter().map(|(priority, ..)| *priority).collect();
        priorities.dedup();
        prop_assert_eq!(&priorities, &(0..priorities.len() as u32).collect::<Vec<_>>(), "contiguous from 0, in order");
        prop_assert!(shape.iter().all(|(_, _, weight, count)| *weight > 0 && *count > 0));
        let mut places: Vec<_> = seen
            .endpoints
            .iter()
            .map(|group| (group.priority, group.locality.clone().unwrap().region, group.locality.clone().unwrap().zone))
            .collect();
        places.sort();
        places.dedup();
        prop_assert_eq!(places.len(), shape.len(), "no locality twice in one priority");
        let served: usize = shape.iter().map(|(.., count)| count).sum();
        let reached = |endpoint: &&Endpoint| *endpoint.zone == *zone || !endpoint.region.is_empty();
        let local = endpoints.iter().filter(reached).count();
        let expected = if policy == ZonePolicy::Strict && !zone.is_empty() { local } else { endpoints.len() };
        prop_assert_eq!(served, expected, "nothing is lost and nothing is there twice");
    }

    /// What is written by hand is what the generated code would have written, but for the order.
    #[test]
    fn every_view_is_read_back_in_full(endpoints in any_endpoints(), policy in any_policy(), zone in "[abcd]?") {
        let audience = Zoning::new(policy, &endpoints).audience(&zone.as_str().into());
        let resource = assignment(&view(&endpoints), &audience, &mut Localities::default());
        let message = ClusterLoadAssignment::decode(resource.body()).unwrap();
        prop_assert_eq!(message.encoded_len(), resource.body().len(), "no unknown field, nothing twice");
        prop_assert_eq!(&*message.cluster_name, "web.demo.svc.cluster.local:80");
        let sent = message.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
        for sent in sent {
            prop_assert!(endpoints.iter().any(|endpoint| read_back(sent, endpoint)), "{sent:?}");
        }
    }

    #[test]
    fn equal_content_gives_equal_versions(endpoints in any_endpoints(), policy in any_policy(), zone in "[abcd]?") {
        let encode = || {
            let audience = Zoning::new(policy, &endpoints).audience(&zone.as_str().into());
            assignment(&view(&endpoints), &audience, &mut Localities::default())
        };
        prop_assert_eq!(encode(), encode());
    }

    /// The preferred zone's priority is never one without a healthy endpoint, unless no zone has a healthy one.
    #[test]
    fn the_first_priority_can_serve(endpoints in any_endpoints(), zone in "[abcd]?") {
        let seen = seen(ZonePolicy::Prefer, &zone, &endpoints);
        let healthy = i32::from(HealthStatus::Healthy);
        let first = seen.endpoints.iter().filter(|locality| locality.priority == 0);
        let can_serve = first.flat_map(|locality| &locality.lb_endpoints).any(|e| e.health_status == healthy);
        let ours = || endpoints.iter().filter(|endpoint| endpoint.region.is_empty());
        let expected = match ours().count() {
            0 => !endpoints.is_empty(),
            _ => ours().any(|endpoint| !endpoint.draining),
        };
        prop_assert_eq!(can_serve, expected);
    }
}

mod bytes;
mod frontends;
