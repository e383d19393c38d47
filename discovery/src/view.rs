// SPDX-License-Identifier: Apache-2.0
//! One Service as it is to be served: its slices merged, its ports resolved, its endpoints' zones known.
//!
//! A view is plain data, complete and ordered, so that two views of equal content are equal; translation needs nothing
//! else. It does not know clients. An address may legitimately be in several slices for a moment, while the slice
//! controller moves endpoints between them: equal ones merge silently, and one that is ready beats one that drains.
//! An address that is both here and in a fallback cluster is here.

use std::net::SocketAddr;
use std::sync::Arc;

use evenkeel_xds::Protocol;

use crate::fault::{Fault, FaultKind};
use crate::objects::{Service, ServicePort, Slice, SliceEndpoint};
use crate::options::Options;

/// Zone by name of the Node. Persistent, because snapshots share it.
pub type Zones = imbl::HashMap<Arc<str>, Arc<str>>;

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
    /// The pod label that `subset` of each endpoint is the value of, if the Service asks for subsets.
    pub subset_label: Option<Arc<str>>,
    /// Sorted by address; no address twice.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint of a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Name of the fallback cluster that it is in; empty: ours.
    pub region: Arc<str>,
    /// Its zone; empty if unknown.
    pub zone: Arc<str>,
    /// Name of its Node, or empty.
    pub node: Arc<str>,
    /// Name of its Pod, or empty.
    pub pod: Arc<str>,
    /// Its Pod's value of the subset label, if it has one.
    pub subset: Option<Arc<str>>,
    /// Terminating, but still serving.
    pub draining: bool,
    /// 1 to [`crate::options::MAX_WEIGHT`].
    pub weight: u32,
}

/// The slices of a Service in one cluster, in a stable order.
#[derive(Clone, Debug)]
pub struct Slices<'a> {
    /// The slices.
    pub slices: Vec<&'a Slice>,
    /// Where that cluster's Nodes are.
    pub zones: &'a Zones,
}

/// The same Service in a fallback cluster.
#[derive(Clone, Debug)]
pub struct Abroad<'a> {
    /// The cluster's name.
    pub cluster: &'a Arc<str>,
    /// What is there.
    pub places: Slices<'a>,
}

/// All that a view is made of.
pub struct Ask<'a> {
    /// The Service.
    pub service: Service,
    /// Its options.
    pub options: Options,
    /// Its slices.
    pub home: Slices<'a>,
    /// The same Service in its fallback cluster, if it has one.
    pub abroad: Option<Abroad<'a>>,
    /// The subset of a Pod by its name.
    pub subset: &'a dyn Fn(&str) -> Option<Arc<str>>,
}

/// Sorted by address; no address twice.
type Merged = Vec<Endpoint>;

/// Merges a Service with its slices. `faults` are those known before.
pub fn resolve(ask: Ask<'_>, mut faults: Vec<Fault>) -> ServiceView {
    let ports = ask.service.ports.iter().map(|port| resolve_port(&ask, port, &mut faults)).collect();
    faults.sort();
    faults.dedup();
    ServiceView { service: ask.service, options: ask.options, ports, faults }
}

fn resolve_port(ask: &Ask<'_>, port: &ServicePort, faults: &mut Vec<Fault>) -> PortView {
    let (served, mut endpoints) = add_home(ask, port, faults);
    if !served && let Some(reason) = missing_port(port, &ask.home.slices) {
        faults.push(Fault::new(FaultKind::Port, format!("Service {}: {reason}", ask.service.key)));
    }
    if let Some(abroad) = &ask.abroad
        && !add_abroad(ask, abroad, port, &mut endpoints, faults)
        && let Some(reason) = missing_port(port, &abroad.places.slices)
    {
        let (cluster, key) = (abroad.cluster, &ask.service.key);
        faults.push(Fault::new(FaultKind::Port, format!("cluster {cluster}: Service {key}: {reason}")));
    }
    let subset_label = ask.options.subset_label.clone();
    PortView { port: port.clone(), subset_label, endpoints }
}

/// Returns whether a slice serves the port, and its endpoints.
fn add_home(ask: &Ask<'_>, port: &ServicePort, faults: &mut Vec<Fault>) -> (bool, Merged) {
    let mut served = false;
    let mut found: Vec<(Endpoint, &Slice)> =
        Vec::with_capacity(ask.home.slices.iter().map(|slice| slice.endpoints.len()).sum());
    for (slice, number) in carriers(port, &ask.home.slices) {
        served = true;
        for endpoint in &slice.endpoints {
            let mut new = located(endpoint, number, slice.weight, ask.home.zones);
            if ask.options.subset_label.is_some() && !new.pod.is_empty() {
                new.subset = (ask.subset)(&new.pod);
            }
            found.push((new, slice));
        }
    }
    // Stable: of one address the first slice's comes first.
    found.sort_by_key(|(endpoint, _)| endpoint.address);
    let mut merged = Merged::with_capacity(found.len());
    for (new, slice) in found {
        match merged.last_mut() {
            Some(old) if old.address == new.address => merge(old, new, &ask.service, slice, faults),
            _ => merged.push(new),
        }
    }
    (served, merged)
}

/// Returns whether a slice serves the port. What drains there is no use here.
fn add_abroad(
    ask: &Ask<'_>,
    abroad: &Abroad<'_>,
    port: &ServicePort,
    merged: &mut Merged,
    faults: &mut Vec<Fault>,
) -> bool {
    let (mut served, mut both, ours) = (false, 0usize, merged.len());
    for (slice, number) in carriers(port, &abroad.places.slices) {
        served = true;
        for endpoint in slice.endpoints.iter().filter(|endpoint| !endpoint.draining) {
            let mut new = located(endpoint, number, slice.weight, abroad.places.zones);
            new.region = abroad.cluster.clone();
            match merged[..ours].binary_search_by_key(&new.address, |old| old.address) {
                Ok(_) => both += 1,
                Err(_) => merged.push(new),
            }
        }
    }
    merged.sort_by_key(|endpoint| endpoint.address);
    // While the slice controller moves it, an endpoint is in two slices there as well: the first is taken.
    merged.dedup_by_key(|endpoint| endpoint.address);
    if both > 0 {
        let (cluster, key, number) = (abroad.cluster, &ask.service.key, port.port);
        faults.push(Fault::new(
            FaultKind::Duplicate,
            format!(
                "cluster {cluster}: Service {key}: port {number}: {both} addresses are endpoints of our own cluster as \
                 well and are taken as ours; pods of both clusters need different addresses"
            ),
        ));
    }
    served
}

/// Slices that serve the port, with the number that it has in each: a name may mean another number in each.
fn carriers<'a>(port: &ServicePort, slices: &'a [&'a Slice]) -> impl Iterator<Item = (&'a Slice, u16)> {
    let name = (port.name.clone(), port.protocol);
    slices.iter().filter_map(move |slice| Some((*slice, *slice.ports.get(&name)?)))
}

/// The slice controller's placeholder for a Service without endpoints has no ports: that is no fault.
fn missing_port(port: &ServicePort, slices: &[&Slice]) -> Option<String> {
    let mut known: Vec<&str> =
        slices.iter().flat_map(|slice| slice.ports.keys()).map(|(name, _)| name.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    let protocol = protocol_name(port.protocol);
    (!known.is_empty()).then(|| {
        format!(
            "port {} ({protocol}) is named {:?}, and no EndpointSlice has a {protocol} port of that name; there are: \
             {known:?}",
            port.port, port.name
        )
    })
}

/// As Kubernetes writes it.
pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

fn located(endpoint: &SliceEndpoint, port: u16, weight: u32, zones: &Zones) -> Endpoint {
    let zone = endpoint.zone.as_ref().or_else(|| zones.get(&endpoint.node));
    Endpoint {
        address: SocketAddr::new(endpoint.address, port),
        region: Arc::default(),
        zone: zone.cloned().unwrap_or_default(),
        node: endpoint.node.clone(),
        pod: endpoint.pod.clone(),
        subset: None,
        draining: endpoint.draining,
        weight,
    }
}

/// The same address in two slices.
fn merge(old: &mut Endpoint, new: Endpoint, service: &Service, slice: &Slice, faults: &mut Vec<Fault>) {
    let same = old.zone == new.zone && old.node == new.node && old.pod == new.pod && old.weight == new.weight;
    if !same {
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
