// SPDX-License-Identifier: Apache-2.0
//! Every byte of an assignment, against messages that are built and left to prost. Where a message has a map, its bytes
//! are put together from the encodings of parts with one entry each, because prost has no order for more.

use envoy_types::pb::envoy::config::core::v3::{Address, Locality, SocketAddress};
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy_types::pb::envoy::config::endpoint::v3::{Endpoint as Host, LocalityLbEndpoints};
use envoy_types::pb::google::protobuf::{Struct, UInt32Value, Value};

use super::*;
use crate::fault::{Fault, FaultKind};
use crate::objects::Service;
use crate::source::ObjectKey;

/// What is written, said in the plainest way.
fn plainly(view: &PortView, audience: &Audience) -> Vec<u8> {
    let mut places: BTreeMap<(u32, &str, &str), Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in view.endpoints.iter().filter(|endpoint| endpoint.region.is_empty()) {
        let priority = match audience {
            Audience::Everything => 0,
            Audience::Prefer(zone) => u32::from(endpoint.zone != *zone),
            Audience::Only(zone) if endpoint.zone == *zone => 0,
            Audience::Only(_) | Audience::Nothing => continue,
        };
        places.entry((priority, "", &endpoint.zone)).or_default().push(endpoint);
    }
    let behind = places.keys().last().map_or(0, |(priority, ..)| priority + 1);
    for endpoint in view.endpoints.iter().filter(|endpoint| !endpoint.region.is_empty()) {
        places.entry((behind, &endpoint.region, &endpoint.zone)).or_default().push(endpoint);
    }
    let name = ClusterLoadAssignment { cluster_name: view.port.cluster.to_string(), ..Default::default() };
    let mut out = name.encode_to_vec();
    for ((priority, region, zone), members) in places {
        field(&mut out, 2, &plain_locality(priority, region, zone, &members));
    }
    let policy = Policy { overprovisioning_factor: number(100_000), ..Default::default() };
    out.extend(ClusterLoadAssignment { policy: Some(policy), ..Default::default() }.encode_to_vec());
    out
}

fn plain_locality(priority: u32, region: &str, zone: &str, members: &[&Endpoint]) -> Vec<u8> {
    let locality = Locality { region: region.into(), zone: zone.into(), ..Default::default() };
    let mut out = LocalityLbEndpoints { locality: Some(locality), ..Default::default() }.encode_to_vec();
    for endpoint in members {
        field(&mut out, 2, &plain_endpoint(endpoint));
    }
    let weight = |draining: bool| -> u32 {
        members.iter().filter(|one| one.draining == draining).map(|one| one.weight).sum()
    };
    let weight = if weight(false) > 0 { weight(false) } else { weight(true) };
    let rest = LocalityLbEndpoints { load_balancing_weight: number(weight), priority, ..Default::default() };
    out.extend(rest.encode_to_vec());
    out
}

fn plain_endpoint(endpoint: &Endpoint) -> Vec<u8> {
    let socket = SocketAddress {
        address: endpoint.address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(endpoint.address.port().into())),
        ..Default::default()
    };
    let address = Some(Address { address: Some(address::Address::SocketAddress(socket)) });
    let health = if endpoint.draining { HealthStatus::Draining } else { HealthStatus::Healthy };
    let head = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Host { address, ..Default::default() })),
        health_status: health.into(),
        ..Default::default()
    };
    let mut out = head.encode_to_vec();
    let subset = endpoint.subset.as_deref().unwrap_or_default();
    let ours =
        [("node", &*endpoint.node), ("pod", &*endpoint.pod), ("subset", subset), ("zone", &*endpoint.zone)];
    let mut metadata = Vec::new();
    for (key, pairs) in [(ENVOY_LB, &[("shard", subset)][..]), (METADATA, &ours[..])] {
        let fields = plain_struct(pairs);
        if !fields.is_empty() {
            let mut entry = Vec::new();
            prost::encoding::string::encode(1, &key.to_owned(), &mut entry);
            field(&mut entry, 2, &fields);
            field(&mut metadata, 1, &entry);
        }
    }
    if !metadata.is_empty() {
        field(&mut out, 3, &metadata);
    }
    let tail = LbEndpoint { load_balancing_weight: number(endpoint.weight), ..Default::default() };
    out.extend(tail.encode_to_vec());
    out
}

fn plain_struct(pairs: &[(&str, &str)]) -> Vec<u8> {
    let said = pairs.iter().filter(|(_, value)| !value.is_empty());
    let one = said.map(|(key, value)| {
        let value = Value { kind: Some(Kind::StringValue((*value).to_owned())) };
        Struct { fields: [((*key).to_owned(), value)].into() }.encode_to_vec()
    });
    one.collect::<Vec<_>>().concat()
}

fn field(out: &mut Vec<u8>, tag: u32, body: &[u8]) {
    prost::encoding::bytes::encode(tag, &body.to_vec(), out);
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn any_audience() -> impl Strategy<Value = Audience> {
    prop_oneof![
        Just(Audience::Everything),
        Just(Audience::Nothing),
        "[abcd]?".prop_map(|zone| Audience::Prefer(zone.into())),
        "[abcd]?".prop_map(|zone| Audience::Only(zone.into())),
    ]
}

#[test]
fn a_service_has_the_bytes_of_the_plain_encoding_and_stays_the_same_resource_while_they_do() {
    let options = Options {
        balance: proto::Balance::Request,
        strategy: proto::Strategy::Maglev,
        zone: ZonePolicy::Strict,
        subset_label: None,
        fallback: None,
    };
    let port = |name: &str, number, protocol| ServicePort {
        name: name.into(),
        port: number,
        protocol,
        application: proto::Application::Http2,
        cluster: format!("web.demo.svc.cluster.local:{number}").into(),
    };
    let ports = vec![port("grpc", 80, Protocol::Tcp), port("", 65_535, Protocol::Udp)];
    let mut view = ServiceView {
        service: Service {
            key: ObjectKey::new("demo", "web"),
            options: Some(options.clone()),
            addresses: vec![[10, 96, 0, 1].into(), "fd00::1".parse().unwrap()],
            ports: ports.clone(),
            created: None,
        },
        options,
        ports: ports.into_iter().map(|port| PortView { port, ..view(&[]) }).collect(),
        faults: vec![Fault::new(FaultKind::Port, "x".repeat(200))],
    };
    let plain = |protocol: proto::Protocol, port: &PortView| proto::Port {
        name: port.port.name.clone(),
        port: port.port.port.into(),
        protocol: protocol.into(),
        application: proto::Application::Http2.into(),
        cluster: port.port.cluster.to_string(),
    };
    let expected = proto::Service {
        namespace: "demo".into(),
        name: "web".into(),
        balance: proto::Balance::Request.into(),
        strategy: proto::Strategy::Maglev.into(),
        zone: ZonePolicy::Strict.into(),
        addresses: vec!["10.96.0.1".into(), "fd00::1".into()],
        ports: vec![plain(proto::Protocol::Tcp, &view.ports[0]), plain(proto::Protocol::Udp, &view.ports[1])],
        faults: vec!["x".repeat(200)],
    };
    let first = service(&view, None);
    assert_eq!(first.body(), expected.encode_to_vec());
    assert_eq!(&**first.name(), "demo/web");
    view.ports[0].endpoints = vec![endpoint(1, "a", false, 1)];
    let second = service(&view, Some(&first));
    assert_eq!(second.body().as_ptr(), first.body().as_ptr());
    view.faults.clear();
    assert_ne!(service(&view, Some(&second)), second);
}

proptest! {
    /// One after another, as clients come: each may find localities that another's variant has already.
    #[test]
    fn every_variant_has_the_bytes_of_the_plain_encoding_whichever_came_before_it(
        endpoints in any_endpoints(), audiences in prop::collection::vec(any_audience(), 1..6)
    ) {
        let (view, mut localities) = (view(&endpoints), Localities::default());
        for audience in audiences {
            let resource = assignment(&view, &audience, &mut localities);
            prop_assert_eq!(resource.body(), plainly(&view, &audience), "{:?}", audience);
        }
    }
}
