// SPDX-License-Identifier: Apache-2.0
//! Views in, resources out. Tier 1: pure, with laws.

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::objects::ServicePort;

fn endpoint(last: u8, zone: &str, draining: bool, weight: u32) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, last], 8080).into(),
        zone: zone.into(),
        node: format!("node-{last}"),
        pod: format!("pod-{last}"),
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
    PortView { port, endpoints: endpoints.to_vec() }
}

fn seen(policy: ZonePolicy, zone: &str, endpoints: &[Endpoint]) -> ClusterLoadAssignment {
    let audience = audience(policy, &zone.into(), endpoints);
    let resource = assignment(&view(endpoints), &audience);
    ClusterLoadAssignment::decode(&resource.body()[..]).unwrap()
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
    assert_eq!((text("node"), text("pod")), ("node-1".into(), "pod-1".into()));
}

fn any_endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    let one = (0u8..30, "[abc]?", any::<bool>(), 1u32..=1000);
    prop::collection::vec(one, 0..12).prop_map(|list| {
        let by_address: BTreeMap<u8, Endpoint> = list
            .into_iter()
            .map(|(last, zone, draining, weight)| (last, endpoint(last, &zone, draining, weight)))
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
        let mut places: Vec<_> = shape.iter().map(|(priority, zone, ..)| (priority, zone)).collect();
        places.dedup();
        prop_assert_eq!(places.len(), shape.len(), "no locality twice in one priority");
        let served: usize = shape.iter().map(|(.., count)| count).sum();
        let local = endpoints.iter().filter(|endpoint| endpoint.zone == zone).count();
        let expected = if policy == ZonePolicy::Strict && !zone.is_empty() { local } else { endpoints.len() };
        prop_assert_eq!(served, expected, "nothing is lost and nothing is there twice");
    }

    #[test]
    fn equal_content_gives_equal_versions(endpoints in any_endpoints(), policy in any_policy(), zone in "[abcd]?") {
        let encode = || {
            let audience = audience(policy, &zone.as_str().into(), &endpoints);
            assignment(&view(&endpoints), &audience)
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
        prop_assert_eq!(can_serve, endpoints.iter().any(|endpoint| !endpoint.draining));
    }
}
