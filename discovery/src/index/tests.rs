// SPDX-License-Identifier: Apache-2.0
//! Objects in, views out. Tier 1: pure.

use std::net::SocketAddr;

use evenkeel_proto::discovery::{Application, Balance};
use serde_json::{Value, json};

use super::*;
use crate::fault::FaultKind;
use crate::options::{BALANCE, WEIGHT};

fn service(port_name: &str) -> Value {
    json!({
        "metadata": {"namespace": "demo", "name": "web", "labels": {BALANCE: "request"}, "annotations": {}},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": port_name, "port": 80}]},
    })
}

fn slice(name: &str, endpoints: Value) -> Value {
    json!({
        "metadata": {"namespace": "demo", "name": name, "labels": {objects::SERVICE_LABEL: "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

fn node(name: &str, zone: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {objects::ZONE_LABEL: zone}}})
}

fn endpoint(address: &str) -> Value {
    json!({"addresses": [address], "nodeName": "n1"})
}

impl Index {
    fn service(&mut self, object: Value) -> &mut Self {
        self.apply_service(&serde_json::from_value(object).unwrap());
        self
    }

    fn slice(&mut self, object: Value) -> &mut Self {
        self.apply_slice(&serde_json::from_value(object).unwrap());
        self
    }

    fn node(&mut self, object: Value) -> &mut Self {
        self.apply_node(&serde_json::from_value(object).unwrap());
        self
    }

    fn web(&self) -> Resolved {
        self.resolve(&web())
    }

    fn faults(&self) -> Vec<String> {
        self.web().faults.into_iter().map(|fault| fault.message).collect()
    }

    /// Address, zone, draining, weight of the first port's endpoints.
    fn endpoints(&self) -> Vec<(String, String, bool, u32)> {
        let view = self.web().view.expect("the Service is opted in");
        let endpoints = view.ports[0].endpoints.iter();
        endpoints.map(|e| (e.address.to_string(), e.zone.to_string(), e.draining, e.weight)).collect()
    }

    fn addresses(&self) -> Vec<String> {
        self.endpoints().into_iter().map(|endpoint| endpoint.0).collect()
    }
}

fn web() -> ObjectKey {
    ObjectKey::new("demo", "web")
}

#[test]
fn a_labelled_service_and_its_slice_become_a_view() {
    let mut index = Index::default();
    let mut draining = endpoint("10.0.0.3");
    draining["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
    let mut unready = endpoint("10.0.0.4");
    unready["conditions"] = json!({"ready": false});
    let mut elsewhere = endpoint("10.0.0.2");
    elsewhere["zone"] = json!("zone-b");
    index
        .node(node("n1", "zone-a"))
        .service(service("grpc"))
        .slice(slice("web-1", json!([endpoint("10.0.0.1"), elsewhere, draining, unready])));
    assert_eq!(index.faults(), Vec::<String>::new());
    let expected = [
        ("10.0.0.1:8080", "zone-a", false, 1),
        ("10.0.0.2:8080", "zone-b", false, 1),
        ("10.0.0.3:8080", "zone-a", true, 1),
    ];
    let expected =
        expected.map(|(address, zone, draining, weight)| (address.into(), zone.into(), draining, weight));
    assert_eq!(index.endpoints(), expected);
    let view = index.web().view.unwrap();
    assert_eq!(view.options.balance, Balance::Request);
    assert_eq!(&*view.ports[0].port.cluster, "web.demo.svc.cluster.local:80");
    assert_eq!(view.ports[0].port.application, Application::Http2);
}

#[test]
fn a_service_that_has_not_opted_in_has_no_view() {
    let mut index = Index::default();
    let mut plain = service("grpc");
    plain["metadata"]["labels"] = json!({});
    index.service(plain).slice(slice("web-1", json!([endpoint("bad address")])));
    assert_eq!(index.web(), Resolved { view: None, faults: vec![] });
}

#[test]
fn a_slice_that_changes_shares_what_stays_as_it_was_with_the_version_before() {
    let mut index = Index::default();
    let endpoint = |last: u8, pod: &str| json!({"addresses": [format!("10.0.0.{last}")], "zone": "zone-a", "targetRef": {"kind": "Pod", "name": pod}});
    let pods = |index: &Index| -> Vec<Arc<str>> {
        let view = index.web().view.unwrap();
        view.ports[0].endpoints.iter().map(|endpoint| endpoint.pod.clone()).collect()
    };
    let texts = |pods: &[Arc<str>]| pods.iter().map(ToString::to_string).collect::<Vec<_>>();
    index.service(service("grpc")).slice(slice("web-1", json!([endpoint(1, "a"), endpoint(2, "b")])));
    let before = pods(&index);
    index.slice(slice("web-1", json!([endpoint(1, "a"), endpoint(3, "c"), endpoint(4, "d")])));
    let after = pods(&index);
    assert_eq!(texts(&after), ["a", "c", "d"]);
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    index.slice(slice("web-1", json!([endpoint(3, "c"), endpoint(4, "d")])));
    assert_eq!(texts(&pods(&index)), ["c", "d"]);
    index.slice(slice("web-1", json!([endpoint(3, "c")])));
    index.slice(slice("web-2", json!([endpoint(4, "d")])));
    assert_eq!(texts(&pods(&index)), ["c", "d"]);
}

#[test]
fn what_a_port_speaks_comes_from_app_protocol_then_from_its_name() {
    let mut index = Index::default();
    let port = |name: &str, app: Value, protocol: &str, port: u16| json!({"name": name, "appProtocol": app, "protocol": protocol, "port": port});
    let mut object = service("");
    object["spec"]["ports"] = json!([
        port("a", json!("kubernetes.io/h2c"), "TCP", 1),
        port("b", json!("GRPC"), "TCP", 2),
        port("grpc", json!("https"), "TCP", 3),
        port("http2-x", json!(null), "TCP", 4),
        port("http", json!(null), "TCP", 5),
        port("grpc-u", json!(null), "UDP", 6),
    ]);
    let view = index.service(object).web().view.unwrap();
    let spoken: Vec<_> = view.ports.iter().map(|port| port.port.application).collect();
    use Application::{Http2, Opaque, Unspecified};
    assert_eq!(spoken, [Http2, Http2, Opaque, Http2, Unspecified, Opaque]);
    assert_eq!(&*view.ports[5].port.cluster, "web.demo.svc.cluster.local:6/udp");
}

#[test]
fn a_node_that_gets_its_zone_later_moves_its_endpoints() {
    let mut index = Index::default();
    index.service(service("grpc")).slice(slice("web-1", json!([endpoint("10.0.0.1")])));
    assert_eq!(index.endpoints()[0].1, "", "unknown so far");
    index.take_dirty();
    index.node(node("n2", "zone-b"));
    assert!(index.take_dirty().is_empty(), "nothing runs on n2");
    index.node(node("n1", "zone-a"));
    assert_eq!(index.take_dirty(), BTreeSet::from([web()]));
    assert_eq!(index.endpoints()[0].1, "zone-a");
    index.node(node("n1", "zone-a"));
    assert!(index.take_dirty().is_empty(), "a heartbeat is no change");
}

#[test]
fn duplicate_addresses_in_one_slice_are_a_fault_and_the_first_stays() {
    let mut index = Index::default();
    let mut second = endpoint("10.0.0.1");
    second["nodeName"] = json!("n2");
    index
        .node(node("n1", "zone-a"))
        .service(service("grpc"))
        .slice(slice("web-1", json!([endpoint("10.0.0.1"), second])));
    assert_eq!(
        index.faults(),
        [
            "EndpointSlice demo/web-1: endpoints[1].addresses: \"10.0.0.1\" is also the address of endpoints[0]; the \
          first stays"
        ]
    );
    assert_eq!(index.endpoints(), [("10.0.0.1:8080".into(), "zone-a".into(), false, 1)]);
}

#[test]
fn the_same_endpoint_in_two_slices_merges_silently_and_ready_beats_draining() {
    let mut index = Index::default();
    let mut stale = endpoint("10.0.0.1");
    stale["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
    index
        .service(service("grpc"))
        .slice(slice("web-1", json!([stale])))
        .slice(slice("web-2", json!([endpoint("10.0.0.1")])));
    assert_eq!(index.faults(), Vec::<String>::new());
    assert_eq!(index.endpoints(), [("10.0.0.1:8080".into(), String::new(), false, 1)]);
}

#[test]
fn an_address_in_two_slices_with_different_nodes_is_a_fault() {
    let mut index = Index::default();
    let mut other = endpoint("10.0.0.1");
    other["nodeName"] = json!("n2");
    index
        .service(service("grpc"))
        .slice(slice("web-1", json!([endpoint("10.0.0.1")])))
        .slice(slice("web-2", json!([other])));
    assert_eq!(index.web().faults[0].kind, FaultKind::Duplicate);
    assert!(index.faults()[0].starts_with("EndpointSlice demo/web-2: address 10.0.0.1 is in another slice"));
}

#[test]
fn a_port_name_that_no_slice_has_is_a_fault_of_that_port_only() {
    let mut index = Index::default();
    let mut object = service("grpc");
    object["spec"]["ports"] = json!([{"name": "grpc", "port": 80}, {"name": "admin", "port": 81}]);
    index.service(object).slice(slice("web-1", json!([endpoint("10.0.0.1")])));
    assert_eq!(
        index.faults(),
        [
            "Service demo/web: port 81 (TCP) is named \"admin\", and no EndpointSlice has a TCP port of that name; there \
          are: [\"grpc\"]"
        ]
    );
    assert_eq!(index.addresses(), ["10.0.0.1:8080"]);
    assert!(index.web().view.unwrap().ports[1].endpoints.is_empty());
}

#[test]
fn a_service_without_endpoints_has_no_fault() {
    let mut index = Index::default();
    let mut placeholder = slice("web-1", json!([]));
    placeholder["ports"] = json!([]);
    index.service(service("grpc")).slice(placeholder);
    assert_eq!((index.faults(), index.addresses()), (vec![], vec![]));
}

#[test]
fn a_weight_of_zero_keeps_the_slices_last_good_weight() {
    let mut index = Index::default();
    let weighted = |weight: &str| {
        let mut object = slice("web-1", json!([endpoint("10.0.0.1")]));
        object["metadata"]["annotations"] = json!({WEIGHT: weight});
        object
    };
    index.service(service("grpc")).slice(weighted("5")).slice(weighted("0"));
    assert_eq!(index.endpoints()[0].3, 5);
    assert!(index.faults()[0].contains("annotation evenkeel.io/weight is \"0\"; allowed: a whole number"));
    index.slice(weighted("6"));
    assert_eq!((index.endpoints()[0].3, index.faults()), (6, vec![]));
}

#[test]
fn an_address_that_cannot_be_read_keeps_the_last_good_slice() {
    let mut index = Index::default();
    index
        .service(service("grpc"))
        .slice(slice("web-1", json!([endpoint("10.0.0.1"), endpoint("10.0.0.2")])))
        .slice(slice("web-1", json!([endpoint("10.0.0.1"), endpoint("10.0.0.299")])));
    assert_eq!(index.addresses(), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(
        index.faults(),
        ["EndpointSlice demo/web-1: endpoints[1].addresses: \"10.0.0.299\" is not an IP address"]
    );
    index.slice(slice("web-1", json!([endpoint("10.0.0.1")])));
    assert_eq!((index.addresses(), index.faults()), (vec!["10.0.0.1:8080".to_owned()], vec![]));
}

#[test]
fn without_a_last_good_slice_the_readable_endpoints_are_used() {
    let mut index = Index::default();
    index.service(service("grpc")).slice(slice("web-1", json!([endpoint("10.0.0.1"), endpoint("fd00::1")])));
    assert_eq!(index.addresses(), ["10.0.0.1:8080"]);
    assert!(index.faults()[0].ends_with("\"fd00::1\" does not fit addressType IPv4"));
}

#[test]
fn a_service_port_out_of_range_keeps_the_last_good_service() {
    let mut index = Index::default();
    index.service(service("grpc"));
    let mut broken = service("grpc");
    broken["spec"]["ports"][0]["port"] = json!(70_000);
    index.service(broken);
    let view = index.web().view.unwrap();
    assert_eq!(view.ports[0].port.port, 80);
    assert_eq!(
        index.faults(),
        ["Service demo/web: spec.ports[0].port: 70000 is not a port number (1 to 65535)"]
    );
}

#[test]
fn headless_and_external_name_services_have_nothing_to_balance() {
    for spec in [
        json!({"clusterIP": "None", "ports": [{"port": 80}]}),
        json!({"clusterIPs": ["None"], "ports": [{"port": 80}]}),
        json!({"type": "ExternalName", "externalName": "example.com"}),
    ] {
        let mut index = Index::default();
        let mut object = service("grpc");
        object["spec"] = spec;
        index.service(object);
        assert_eq!(index.web().view, None);
        assert!(index.faults()[0].starts_with("Service demo/web: there is nothing to balance: spec."));
    }
}

#[test]
fn a_dual_stack_service_has_both_addresses_and_endpoints_of_both_families() {
    let mut index = Index::default();
    let mut object = service("grpc");
    object["spec"]["clusterIPs"] = json!(["10.96.0.1", "fd00::1"]);
    let mut six = slice("web-6", json!([endpoint("fd44::1")]));
    six["addressType"] = json!("IPv6");
    index.service(object).slice(slice("web-4", json!([endpoint("10.0.0.1")]))).slice(six);
    assert_eq!(index.web().view.unwrap().service.addresses.len(), 2);
    assert_eq!(index.addresses(), ["10.0.0.1:8080", "[fd44::1]:8080"]);
    assert!(index.addresses().iter().all(|address| address.parse::<SocketAddr>().is_ok()));
}

#[test]
fn removing_objects_leaves_nothing_behind() {
    let mut index = Index::default();
    index.service(service("grpc")).slice(slice("web-1", json!([endpoint("10.0.0.1")])));
    index.take_dirty();
    index.remove_slice(&ObjectKey::new("demo", "web-1"));
    assert_eq!(index.take_dirty(), BTreeSet::from([web()]));
    assert_eq!(index.addresses(), Vec::<String>::new());
    index.remove_service(&web());
    assert_eq!(index.take_dirty(), BTreeSet::from([web()]));
    assert_eq!(index.web(), Resolved { view: None, faults: vec![] });
    assert!(index.home.is_empty());
    assert_eq!(index.counts().map(|(_, count)| count), [0; 7]);
}

#[test]
fn a_slice_that_changes_its_service_touches_both() {
    let mut index = Index::default();
    index.slice(slice("x", json!([endpoint("10.0.0.1")])));
    index.take_dirty();
    let mut moved = slice("x", json!([endpoint("10.0.0.1")]));
    moved["metadata"]["labels"][objects::SERVICE_LABEL] = json!("api");
    index.slice(moved);
    assert_eq!(index.take_dirty(), BTreeSet::from([web(), ObjectKey::new("demo", "api")]));
}

#[test]
fn equal_content_touches_nothing() {
    let mut index = Index::default();
    index.service(service("grpc")).slice(slice("web-1", json!([endpoint("10.0.0.1")])));
    index.take_dirty();
    index.service(service("grpc")).slice(slice("web-1", json!([endpoint("10.0.0.1")])));
    assert_eq!(index.take_dirty(), BTreeSet::new());
}

#[test]
fn slices_without_a_service_are_counted() {
    let mut index = Index::default();
    let orphans =
        |index: &Index| index.counts().iter().find(|(kind, _)| *kind == "slices_without_service").unwrap().1;
    let mut nobodys = slice("x", json!([]));
    nobodys["metadata"]["labels"] = json!({});
    index.slice(slice("web-1", json!([]))).slice(slice("web-2", json!([]))).slice(nobodys.clone());
    assert_eq!(orphans(&index), 3);
    index.slice(nobodys).service(service("grpc")).service(service("other"));
    assert_eq!(orphans(&index), 1);
    index.remove_service(&web());
    index.remove_slice(&ObjectKey::new("demo", "web-1"));
    index.remove_slice(&ObjectKey::new("demo", "x"));
    assert_eq!(orphans(&index), 1);
}

mod several;
