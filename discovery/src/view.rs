// SPDX-License-Identifier: Apache-2.0
//! One Service as it is to be served: its slices merged, its ports resolved, its endpoints' zones known.
//!
//! A view is plain data, complete and ordered, so that two views of equal content are equal; translation needs nothing
//! else. It does not know clients. An address may legitimately be in several slices for a moment, while the slice
//! controller moves endpoints between them: equal ones merge silently, and one that is ready beats one that drains.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use crate::fault::{Fault, FaultKind};
use crate::objects::{Service, ServicePort, Slice, SliceEndpoint};
use crate::options::Options;

/// A Service that opted in.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// The Service itself.
    pub service: Service,
    /// Its options (those of `service`, known to be there).
    pub options: Options,
    /// One per port of the Service, in its order.
    pub ports: Vec<PortView>,
    /// Everything that is wrong with the Service and its slices, sorted.
    pub faults: Vec<Fault>,
}

/// A port with its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct PortView {
    /// The port.
    pub port: ServicePort,
    /// Sorted by address; no address twice.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint of a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its zone; empty if unknown.
    pub zone: String,
    /// Name of its Node, or empty.
    pub node: String,
    /// Name of its Pod, or empty.
    pub pod: String,
    /// Terminating, but still serving.
    pub draining: bool,
    /// 1 to [`crate::options::MAX_WEIGHT`].
    pub weight: u32,
}

/// Merges a Service with its slices. `None`: not opted in. Slices come in a stable order.
pub fn resolve(
    service: &Service,
    slices: &[&Slice],
    zones: &HashMap<String, String>,
    mut faults: Vec<Fault>,
) -> Option<ServiceView> {
    let options = service.options?;
    let ports = service
        .ports
        .iter()
        .map(|port| PortView {
            port: port.clone(),
            endpoints: endpoints(service, port, slices, zones, &mut faults),
        })
        .collect();
    faults.sort();
    faults.dedup();
    Some(ServiceView { service: service.clone(), options, ports, faults })
}

fn endpoints(
    service: &Service,
    port: &ServicePort,
    slices: &[&Slice],
    zones: &HashMap<String, String>,
    faults: &mut Vec<Fault>,
) -> Vec<Endpoint> {
    let name = (port.name.clone(), port.protocol);
    let mut merged: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    let mut served = false;
    for slice in slices {
        let Some(number) = slice.ports.get(&name) else { continue };
        served = true;
        for endpoint in &slice.endpoints {
            let new = located(endpoint, *number, slice.weight, zones);
            match merged.get_mut(&new.address) {
                None => {
                    merged.insert(new.address, new);
                }
                Some(old) => merge(old, new, service, slice, faults),
            }
        }
    }
    // The slice controller's placeholder for a Service without endpoints has no ports: that is no fault.
    let known: Vec<&str> =
        slices.iter().flat_map(|slice| slice.ports.keys()).map(|(name, _)| name.as_str()).collect();
    if !served && !known.is_empty() {
        faults.push(Fault::new(FaultKind::Port, missing_port(service, port, known)));
    }
    merged.into_values().collect()
}

fn missing_port(service: &Service, port: &ServicePort, mut known: Vec<&str>) -> String {
    known.sort_unstable();
    known.dedup();
    let protocol = match port.protocol {
        evenkeel_xds::Protocol::Tcp => "TCP",
        evenkeel_xds::Protocol::Udp => "UDP",
    };
    format!(
        "Service {}: port {} ({protocol}) is named {:?}, and no EndpointSlice has a {protocol} port of that name; \
         there are: {known:?}",
        service.key, port.port, port.name
    )
}

fn located(endpoint: &SliceEndpoint, port: u16, weight: u32, zones: &HashMap<String, String>) -> Endpoint {
    let zone = endpoint.zone.as_ref().or_else(|| zones.get(&endpoint.node));
    Endpoint {
        address: SocketAddr::new(endpoint.address, port),
        zone: zone.cloned().unwrap_or_default(),
        node: endpoint.node.clone(),
        pod: endpoint.pod.clone(),
        draining: endpoint.draining,
        weight,
    }
}

/// The same address in two slices.
fn merge(old: &mut Endpoint, new: Endpoint, service: &Service, slice: &Slice, faults: &mut Vec<Fault>) {
    let place = |endpoint: &Endpoint| {
        (endpoint.zone.clone(), endpoint.node.clone(), endpoint.pod.clone(), endpoint.weight)
    };
    if place(old) != place(&new) {
        faults.push(Fault::new(
            FaultKind::Duplicate,
            format!(
                "EndpointSlice {}: address {} is in another slice of Service {} as well, with another zone, node, pod \
                 or weight; the other slice's stays",
                slice.key,
                new.address.ip(),
                service.key
            ),
        ));
        return;
    }
    // A stale copy in one of the slices must not take a ready endpoint out.
    old.draining &= new.draining;
}
