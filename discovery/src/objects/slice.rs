// SPDX-License-Identifier: Apache-2.0
//! An EndpointSlice, reduced to the endpoints that may be used and the ports that they listen on.
//!
//! Zone hints of the API (`endpoints[].hints`) are not read: which zone serves which is our own plan.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_xds::Protocol;
use k8s_openapi::api::discovery::v1 as discovery;

use super::{Notes, Read, SERVICE_LABEL, key_of, read_protocol};
use crate::fault::FaultKind;
use crate::options;
use crate::source::ObjectKey;
use crate::strings::Strings;

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
    pub zone: Option<Arc<str>>,
    /// Name of its Node, or empty.
    pub node: Arc<str>,
    /// Name of its Pod, or empty.
    pub pod: Arc<str>,
    /// Terminating, but still serving.
    pub draining: bool,
}

// === impl Slice ===

impl Slice {
    /// Reads an EndpointSlice; `last` is the version in force until now.
    pub fn read(object: &discovery::EndpointSlice, last: Option<&Self>, strings: &mut Strings) -> Read<Self> {
        let key = key_of(&object.metadata);
        let mut notes = Notes::new(format!("EndpointSlice {key}"));
        let none = options::Pairs::new();
        let annotations = object.metadata.annotations.as_ref().unwrap_or(&none);
        let (weight, faults) =
            options::parse_weight(&notes.object, annotations, last.map(|last| last.weight));
        notes.faults.extend(faults);
        let service = object
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_LABEL))
            .map(|name| ObjectKey::new(key.namespace.clone(), name.clone()));
        let ports = read_slice_ports(object, &mut notes);
        let endpoints = match object.address_type.as_str() {
            family @ ("IPv4" | "IPv6") => {
                let last = last.map_or(&[][..], |last| &last.endpoints);
                read_endpoints(object, family, last, strings, &mut notes)
            }
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

fn read_endpoints(
    object: &discovery::EndpointSlice,
    family: &str,
    last: &[SliceEndpoint],
    strings: &mut Strings,
    notes: &mut Notes,
) -> Vec<SliceEndpoint> {
    let mut endpoints = Vec::with_capacity(object.endpoints.as_ref().map_or(0, Vec::len));
    // Addresses with their indices, sorted. A slice has a hundred endpoints, mostly, and a thousand at most.
    let mut seen: Vec<(IpAddr, usize)> = Vec::with_capacity(endpoints.capacity());
    for (index, endpoint) in object.endpoints.iter().flatten().enumerate() {
        let field = || format!("endpoints[{index}].addresses");
        let Some(text) = endpoint.addresses.first() else {
            notes.broken(&field(), "is empty; an endpoint needs an address");
            continue;
        };
        let address = match text.parse::<IpAddr>() {
            Ok(address) if address.is_ipv4() == (family == "IPv4") => address,
            Ok(_) => {
                notes.broken(&field(), &format!("{text:?} does not fit addressType {family}"));
                continue;
            }
            Err(_) => {
                notes.broken(&field(), &format!("{text:?} is not an IP address"));
                continue;
            }
        };
        match seen.binary_search_by_key(&address, |(address, _)| *address) {
            Err(at) => seen.insert(at, (address, index)),
            Ok(at) => {
                let first = seen[at].1;
                let what = format!("{text:?} is also the address of endpoints[{first}]; the first stays");
                notes.fault(FaultKind::Duplicate, &field(), &what);
                continue;
            }
        }
        let Some(draining) = usable(endpoint.conditions.as_ref()) else { continue };
        let before = last.get(endpoints.len());
        let zone = endpoint.zone.as_deref().filter(|zone| !zone.is_empty());
        let node = endpoint.node_name.as_deref().unwrap_or_default();
        endpoints.push(SliceEndpoint {
            address,
            zone: zone.map(|zone| {
                same(zone, before.and_then(|last| last.zone.as_ref())).unwrap_or_else(|| strings.share(zone))
            }),
            node: same(node, before.map(|last| &last.node)).unwrap_or_else(|| strings.share(node)),
            pod: match pod_of(endpoint) {
                "" => strings.share(""),
                // Unique: sharing it would only make the table large.
                pod => same(pod, before.map(|last| &last.pod)).unwrap_or_else(|| pod.into()),
            },
            draining,
        });
    }
    endpoints
}

/// The text of the version before, if it is this one: most of a slice stays as it is when it changes, and this is the
/// cheapest way to share it.
fn same(text: &str, before: Option<&Arc<str>>) -> Option<Arc<str>> {
    before.filter(|before| ***before == *text).cloned()
}

/// `Some(draining)` for an endpoint that may be used. Absent conditions count as ready, as the API defines them.
fn usable(conditions: Option<&discovery::EndpointConditions>) -> Option<bool> {
    let Some(conditions) = conditions else { return Some(false) };
    let ready = conditions.ready.unwrap_or(true);
    let serving = conditions.serving.unwrap_or(ready);
    if conditions.terminating.unwrap_or(false) { serving.then_some(true) } else { ready.then_some(false) }
}

/// Name of the endpoint's Pod, or empty.
fn pod_of(endpoint: &discovery::Endpoint) -> &str {
    match &endpoint.target_ref {
        Some(target) if target.kind.as_deref() == Some("Pod") => target.name.as_deref().unwrap_or_default(),
        _ => "",
    }
}
