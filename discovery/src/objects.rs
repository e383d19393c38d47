// SPDX-License-Identifier: Apache-2.0
//! Kubernetes objects, checked and reduced to what balancing needs.
//!
//! Reading an object never fails as a whole: it yields what is usable and the faults. `broken` says that something the
//! user meant could not be read at all (an address, a port number); then whoever holds an earlier good version of the
//! object keeps that. Deliberately not here: relations between objects ([`crate::view`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use evenkeel_proto::discovery::Application;
use evenkeel_xds::{ClusterName, Protocol};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::fault::{Fault, FaultKind};
use crate::options::{self, Options};
use crate::source::ObjectKey;

/// The label by which an EndpointSlice names its Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The label by which a Node names its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// A Service, whether opted in or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `None`: not opted in, or nothing to balance.
    pub options: Option<Options>,
    /// Cluster IPs in the order given.
    pub addresses: Vec<IpAddr>,
    /// TCP and UDP ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// May be empty if it is the only one.
    pub name: String,
    /// The port that clients dial.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What it speaks, if that is said.
    pub application: Application,
    /// Name of its ClusterLoadAssignment.
    pub cluster: String,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Namespace and name of its Service; `None`: it belongs to none.
    pub service: Option<ObjectKey>,
    /// Port number by name and protocol.
    pub ports: BTreeMap<(String, Protocol), u16>,
    /// Endpoints that may be used, in the order given.
    pub endpoints: Vec<SliceEndpoint>,
    /// Weight of each endpoint.
    pub weight: u32,
}

/// An endpoint of a slice: ready, or serving while it terminates.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceEndpoint {
    /// Its first address; Kubernetes gives no meaning to others.
    pub address: IpAddr,
    /// As the slice says; the Node's label decides otherwise.
    pub zone: Option<String>,
    /// Name of its Node, or empty.
    pub node: String,
    /// Name of its Pod, or empty.
    pub pod: String,
    /// Terminating, but still serving.
    pub draining: bool,
}

/// What reading an object gave.
#[derive(Debug)]
pub struct Read<T> {
    /// What is usable of it.
    pub object: T,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
    /// Something that was meant could not be read: an earlier good version is better than this.
    pub broken: bool,
}

/// The key of an object; what has no namespace is in `default`, as for `kubectl`.
pub fn key_of(meta: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(
        meta.namespace.clone().filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".into()),
        meta.name.clone().unwrap_or_default(),
    )
}

/// A Node's zone.
pub fn zone_of(node: &core::Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(ZONE_LABEL).map(String::as_str).filter(|zone| !zone.is_empty())
}

// === impl Service ===

impl Service {
    /// Reads a Service; `last` are the options in force until now.
    pub fn read(object: &core::Service, last: Option<Options>) -> Read<Self> {
        let key = key_of(&object.metadata);
        let mut notes = Notes::new(format!("Service {key}"));
        let none = options::Pairs::new();
        let labels = object.metadata.labels.as_ref().unwrap_or(&none);
        let annotations = object.metadata.annotations.as_ref().unwrap_or(&none);
        let (mut options, faults) = options::parse(&notes.object, labels, annotations, last);
        notes.faults.extend(faults);

        let mut addresses = Vec::new();
        let mut ports = Vec::new();
        if options.is_some() {
            let spec = object.spec.clone().unwrap_or_default();
            if let Some(reason) = nothing_to_balance(&spec) {
                notes.faults.push(Fault::new(
                    FaultKind::NothingToBalance,
                    format!("{}: there is nothing to balance: {reason}; it is left untouched", notes.object),
                ));
                options = None;
            } else {
                addresses = read_addresses(&spec, &mut notes);
                ports = read_ports(&key, &spec, &mut notes);
            }
        }
        notes.done(Self { key, options, addresses, ports })
    }
}

fn nothing_to_balance(spec: &core::ServiceSpec) -> Option<&'static str> {
    let listed = || spec.cluster_ips.as_ref().and_then(|listed| listed.first()).map(String::as_str);
    let first = spec.cluster_ip.as_deref().or_else(listed);
    if spec.type_.as_deref() == Some("ExternalName") {
        Some("spec.type is ExternalName")
    } else if first == Some("None") {
        Some("spec.clusterIP is None (headless)")
    } else {
        None
    }
}

fn read_addresses(spec: &core::ServiceSpec, notes: &mut Notes) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.clone().unwrap_or_default();
    let texts = if listed.is_empty() { spec.cluster_ip.clone().into_iter().collect() } else { listed };
    let mut addresses = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        match text.parse::<IpAddr>() {
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
            Err(_) => notes.broken("spec.clusterIPs", &format!("{text:?} is not an IP address")),
        }
    }
    if addresses.is_empty() {
        notes.broken(
            "spec.clusterIP",
            "is missing, so there is no address whose connections could be balanced",
        );
    }
    addresses
}

fn read_ports(key: &ObjectKey, spec: &core::ServiceSpec, notes: &mut Notes) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let field = format!("spec.ports[{index}]");
        let Some(protocol) = read_protocol(port.protocol.as_deref()) else {
            let protocol = port.protocol.as_deref().unwrap_or_default();
            notes.fault(
                FaultKind::Field,
                &format!("{field}.protocol"),
                &format!("{protocol:?} is not balanced; TCP and UDP are"),
            );
            continue;
        };
        let cluster = u16::try_from(port.port)
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| format!("{} is not a port number (1 to 65535)", port.port))
            .and_then(|number| {
                ClusterName::new(&key.name, &key.namespace, number, protocol)
                    .map(|cluster| (number, cluster.to_string()))
                    .map_err(|error| error.to_string())
            });
        match cluster {
            Err(reason) => notes.broken(&format!("{field}.port"), &reason),
            Ok((number, _)) if !seen.insert((number, protocol)) => {
                notes.fault(
                    FaultKind::Duplicate,
                    &format!("{field}.port"),
                    &format!("{number} is there twice; the first stays"),
                );
            }
            Ok((number, cluster)) => ports.push(ServicePort {
                name: port.name.clone().unwrap_or_default(),
                port: number,
                protocol,
                application: application(port.app_protocol.as_deref(), port.name.as_deref(), protocol),
                cluster,
            }),
        }
    }
    ports
}

fn read_protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

/// What a port speaks: `appProtocol` decides, else its name, else nobody has said.
fn application(app_protocol: Option<&str>, name: Option<&str>, protocol: Protocol) -> Application {
    if protocol != Protocol::Tcp {
        return Application::Opaque;
    }
    match app_protocol.map(str::to_ascii_lowercase).as_deref() {
        Some("kubernetes.io/h2c" | "grpc") => Application::Http2,
        Some(_) => Application::Opaque,
        None => match name {
            Some(name) if name.starts_with("grpc") || name.starts_with("http2") => Application::Http2,
            _ => Application::Unspecified,
        },
    }
}

// === impl Slice ===

impl Slice {
    /// Reads an EndpointSlice; `last` is the weight in force until now.
    pub fn read(object: &discovery::EndpointSlice, last: Option<u32>) -> Read<Self> {
        let key = key_of(&object.metadata);
        let mut notes = Notes::new(format!("EndpointSlice {key}"));
        let none = options::Pairs::new();
        let annotations = object.metadata.annotations.as_ref().unwrap_or(&none);
        let (weight, faults) = options::parse_weight(&notes.object, annotations, last);
        notes.faults.extend(faults);
        let service = object
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_LABEL))
            .map(|name| ObjectKey::new(key.namespace.clone(), name.clone()));
        let ports = read_slice_ports(object, &mut notes);
        let endpoints = match object.address_type.as_str() {
            family @ ("IPv4" | "IPv6") => read_endpoints(object, family, &mut notes),
            other => {
                notes.broken("addressType", &format!("{other:?} is not balanced; allowed: IPv4, IPv6"));
                Vec::new()
            }
        };
        notes.done(Self { key, service, ports, endpoints, weight })
    }
}

fn read_slice_ports(
    object: &discovery::EndpointSlice,
    notes: &mut Notes,
) -> BTreeMap<(String, Protocol), u16> {
    let mut ports = BTreeMap::new();
    for (index, port) in object.ports.iter().flatten().enumerate() {
        let field = format!("ports[{index}]");
        let Some(protocol) = read_protocol(port.protocol.as_deref()) else { continue };
        let name = port.name.clone().unwrap_or_default();
        match port.port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0) {
            None => notes.broken(
                &format!("{field}.port"),
                &format!(
                    "{} is not a port number (1 to 65535)",
                    port.port.map_or("null".into(), |port| port.to_string())
                ),
            ),
            Some(_) if ports.contains_key(&(name.clone(), protocol)) => {
                notes.fault(
                    FaultKind::Duplicate,
                    &format!("{field}.name"),
                    &format!("{name:?} is there twice; the first stays"),
                );
            }
            Some(number) => {
                ports.insert((name, protocol), number);
            }
        }
    }
    ports
}

fn read_endpoints(object: &discovery::EndpointSlice, family: &str, notes: &mut Notes) -> Vec<SliceEndpoint> {
    let mut endpoints = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, endpoint) in object.endpoints.iter().flatten().enumerate() {
        let field = format!("endpoints[{index}].addresses");
        let Some(text) = endpoint.addresses.first() else {
            notes.broken(&field, "is empty; an endpoint needs an address");
            continue;
        };
        let address = match text.parse::<IpAddr>() {
            Ok(address) if address.is_ipv4() == (family == "IPv4") => address,
            Ok(_) => {
                notes.broken(&field, &format!("{text:?} does not fit addressType {family}"));
                continue;
            }
            Err(_) => {
                notes.broken(&field, &format!("{text:?} is not an IP address"));
                continue;
            }
        };
        if let Some(first) = seen.get(&address) {
            let what = format!("{text:?} is also the address of endpoints[{first}]; the first stays");
            notes.fault(FaultKind::Duplicate, &field, &what);
            continue;
        }
        seen.insert(address, index);
        let Some(draining) = usable(endpoint.conditions.as_ref()) else { continue };
        endpoints.push(SliceEndpoint {
            address,
            zone: endpoint.zone.clone().filter(|zone| !zone.is_empty()),
            node: endpoint.node_name.clone().unwrap_or_default(),
            pod: pod_of(endpoint),
            draining,
        });
    }
    endpoints
}

/// `Some(draining)` for an endpoint that may be used. Absent conditions count as ready, as the API defines them.
fn usable(conditions: Option<&discovery::EndpointConditions>) -> Option<bool> {
    let Some(conditions) = conditions else { return Some(false) };
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    if conditions.terminating.unwrap_or(false) { serving.then_some(true) } else { ready.then_some(false) }
}

fn pod_of(endpoint: &discovery::Endpoint) -> String {
    match &endpoint.target_ref {
        Some(target) if target.kind.as_deref() == Some("Pod") => target.name.clone().unwrap_or_default(),
        _ => String::new(),
    }
}

// === impl Notes ===

/// What is found while one object is read.
struct Notes {
    object: String,
    faults: Vec<Fault>,
    broken: bool,
}

impl Notes {
    fn new(object: String) -> Self {
        Self { object, faults: Vec::new(), broken: false }
    }

    fn fault(&mut self, kind: FaultKind, field: &str, what: &str) {
        self.faults.push(Fault::new(kind, format!("{}: {field}: {what}", self.object)));
    }

    fn broken(&mut self, field: &str, what: &str) {
        self.broken = true;
        self.fault(FaultKind::Field, field, what);
    }

    fn done<T>(self, object: T) -> Read<T> {
        Read { object, faults: self.faults, broken: self.broken }
    }
}
