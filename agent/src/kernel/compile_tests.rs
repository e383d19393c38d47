// SPDX-License-Identifier: Apache-2.0
//! Tier 1: what an image says of a snapshot.

use std::num::NonZeroU32;

use evenkeel_balance::priority::Health;

use super::*;
use crate::store::{
    Application, Balance, Batch, ClusterSpec, EndpointSpec, Port, ServiceName, ServiceSpec, Store, ZonePolicy,
};

fn port(number: u16, protocol: Protocol, application: Application) -> Port {
    Port { name: "".into(), number, protocol, application, cluster: format!("echo:{number}").into() }
}

fn service(balance: Balance, ports: Vec<Port>) -> ServiceSpec {
    ServiceSpec {
        name: ServiceName { namespace: "demo".into(), name: "echo".into() },
        balance,
        strategy: "least-request".into(),
        zone: ZonePolicy::Prefer,
        addresses: vec!["10.96.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        ports,
        faults: Vec::new(),
    }
}

fn endpoint(address: &str, weight: u32, priority: u32) -> EndpointSpec {
    EndpointSpec {
        address: address.parse().unwrap(),
        zone: "a".into(),
        node: "n".into(),
        pod: "p".into(),
        priority,
        weight: NonZeroU32::new(weight).unwrap(),
        health: Health::Healthy,
    }
}

fn key(address: &str, port: u16) -> ServiceKey {
    ServiceKey::new(address.parse::<std::net::IpAddr>().unwrap().into(), port, evenkeel_abi::PROTOCOL_TCP)
}

fn listed(image: &Image, key: &ServiceKey) -> Vec<(String, u32)> {
    let show = |e: &Weighted| (std::net::IpAddr::from(e.backend.address).to_string(), e.weight);
    image.services[key].endpoints.iter().map(show).collect()
}

fn store(spec: ServiceSpec, endpoints: Vec<EndpointSpec>) -> (Store, crate::store::StoreWriter) {
    let (store, mut writer) = Store::new(1);
    let clusters =
        spec.ports.iter().map(|p| (p.cluster.clone(), ClusterSpec { endpoints: endpoints.clone() }));
    writer.apply(Batch { clusters: clusters.collect(), services: vec![spec], ..Batch::default() });
    (store, writer)
}

#[test]
fn each_address_gets_the_active_endpoints_of_its_family_with_their_weights() {
    let ports = vec![port(80, Protocol::Tcp, Application::Unknown)];
    let endpoints =
        vec![endpoint("10.0.0.2:80", 3, 0), endpoint("[fd00::2]:80", 2, 0), endpoint("10.0.0.9:80", 1, 1)];
    let (store, _writer) = store(service(Balance::Connection, ports), endpoints);
    let image = compile(&store.current(), &Image::default());
    assert_eq!(listed(&image, &key("10.96.0.1", 80)), [("10.0.0.2".into(), 3)]);
    assert_eq!(listed(&image, &key("fd00::1", 80)), [("fd00::2".into(), 2)]);
}

#[test]
fn only_ports_balanced_per_request_are_flagged_and_udp_is_left_out() {
    let ports = vec![
        port(80, Protocol::Tcp, Application::Http2),
        port(81, Protocol::Tcp, Application::Opaque),
        port(53, Protocol::Udp, Application::Unknown),
    ];
    let (store, _writer) = store(service(Balance::Request, ports), vec![endpoint("10.0.0.2:80", 1, 0)]);
    let image = compile(&store.current(), &Image::default());
    assert_eq!(image.services[&key("10.96.0.1", 80)].flags, service_flags::REQUEST);
    assert_eq!(image.services[&key("10.96.0.1", 81)].flags, 0);
    assert_eq!(image.services.len(), 4, "two addresses, two TCP ports");
}

#[test]
fn what_did_not_change_is_shared_with_the_image_before() {
    let ports =
        vec![port(80, Protocol::Tcp, Application::Http2), port(81, Protocol::Tcp, Application::Http2)];
    let (store, mut writer) = store(service(Balance::Request, ports), vec![endpoint("10.0.0.2:80", 1, 0)]);
    let first = compile(&store.current(), &Image::default());
    let changed = ClusterSpec { endpoints: vec![endpoint("10.0.0.3:80", 1, 0)] };
    writer.apply(Batch { clusters: vec![("echo:81".into(), changed)], ..Batch::default() });
    let second = compile(&store.current(), &first);
    let endpoints = |image: &Image, port| image.services[&key("10.96.0.1", port)].endpoints.clone();
    assert!(Arc::ptr_eq(&endpoints(&first, 80), &endpoints(&second, 80)));
    assert_eq!(listed(&second, &key("10.96.0.1", 81)), [("10.0.0.3".into(), 1)]);
    assert_eq!(second, compile(&store.current(), &Image::default()), "sharing changes nothing");
}
