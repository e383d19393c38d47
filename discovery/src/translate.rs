// SPDX-License-Identifier: Apache-2.0
//! A Service's view × a client's zone → xDS resources. Pure and deterministic: equal content gives equal bytes.
//!
//! The zone policy becomes priorities of ordinary ClusterLoadAssignments, so that Envoy and proxyless gRPC follow it
//! without knowing of it. What must always be true, because gRPC rejects the resource otherwise (gRFC A27): priorities
//! are contiguous from 0, every locality has a weight, no locality is in one priority twice, no address is twice.
//!
//! Many zones see the same bytes. [`audience`] says which, so that each variant is encoded once and the number of
//! variants is bounded by the zones that have endpoints, not by what clients claim.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, HealthStatus, Locality, Metadata, SocketAddress, address, socket_address,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, UInt32Value, Value};
use evenkeel_proto::discovery as proto;
use evenkeel_proto::discovery::ZonePolicy;
use evenkeel_xds::{EncodedResource, Protocol, ServiceName, type_url};

use crate::view::{Endpoint, PortView, ServiceView};

/// The key in endpoints' metadata under which the node and the pod are.
pub const METADATA: &str = "evenkeel.io";

/// Clients that are sent the same endpoints in the same priorities.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// All endpoints at one priority.
    Everything,
    /// Endpoints of this zone first, all others behind them.
    Prefer(Arc<str>),
    /// Endpoints of this zone and no others.
    Only(Arc<str>),
    /// No endpoints: the policy is strict and the zone has none.
    Nothing,
}

/// Which variant a client in `zone` (empty: unknown) is sent.
pub fn audience(policy: ZonePolicy, zone: &Arc<str>, endpoints: &[Endpoint]) -> Audience {
    if zone.is_empty() {
        return Audience::Everything;
    }
    let local = |endpoint: &&Endpoint| endpoint.zone == **zone;
    match policy {
        ZonePolicy::Ignore => Audience::Everything,
        ZonePolicy::Strict => match endpoints.iter().any(|endpoint| local(&endpoint)) {
            true => Audience::Only(zone.clone()),
            false => Audience::Nothing,
        },
        // Without a healthy local endpoint the others are all there is, and priorities have to start at 0.
        ZonePolicy::Prefer | ZonePolicy::Unspecified => {
            match endpoints.iter().filter(local).any(|endpoint| !endpoint.draining) {
                true => Audience::Prefer(zone.clone()),
                false => Audience::Everything,
            }
        }
    }
}

/// The project's own resource for a Service: the same for all clients.
pub fn service(view: &ServiceView) -> EncodedResource {
    let key = &view.service.key;
    let message = proto::Service {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        balance: view.options.balance.into(),
        strategy: view.options.strategy.into(),
        zone: view.options.zone.into(),
        addresses: view.service.addresses.iter().map(ToString::to_string).collect(),
        ports: view.ports.iter().map(port_message).collect(),
        faults: view.faults.iter().map(|fault| fault.message.clone()).collect(),
    };
    let name = ServiceName { namespace: key.namespace.clone(), name: key.name.clone() };
    EncodedResource::encode(type_url::SERVICE, name.to_string(), &message)
}

fn port_message(view: &PortView) -> proto::Port {
    proto::Port {
        name: view.port.name.clone(),
        port: view.port.port.into(),
        protocol: match view.port.protocol {
            Protocol::Tcp => proto::Protocol::Tcp.into(),
            Protocol::Udp => proto::Protocol::Udp.into(),
        },
        application: view.port.application.into(),
        cluster: view.port.cluster.clone(),
    }
}

/// A port's endpoints as this audience is to see them.
pub fn assignment(view: &PortView, audience: &Audience) -> EncodedResource {
    EncodedResource::assignment(&ClusterLoadAssignment {
        cluster_name: view.port.cluster.clone(),
        endpoints: localities(view, audience),
        ..Default::default()
    })
}

fn localities(view: &PortView, audience: &Audience) -> Vec<LocalityLbEndpoints> {
    let mut groups: BTreeMap<(u32, &str), Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &view.endpoints {
        if let Some(priority) = priority(&endpoint.zone, audience) {
            groups.entry((priority, &endpoint.zone)).or_default().push(endpoint);
        }
    }
    groups.into_iter().map(|((priority, zone), members)| locality(priority, zone, &members)).collect()
}

/// `None`: the audience does not get this zone's endpoints.
fn priority(zone: &str, audience: &Audience) -> Option<u32> {
    match audience {
        Audience::Everything => Some(0),
        Audience::Prefer(local) => Some(u32::from(zone != &**local)),
        Audience::Only(local) => (zone == &**local).then_some(0),
        Audience::Nothing => None,
    }
}

fn locality(priority: u32, zone: &str, members: &[&Endpoint]) -> LocalityLbEndpoints {
    let weight: u32 = members.iter().map(|endpoint| endpoint.weight).sum();
    LocalityLbEndpoints {
        locality: Some(Locality { zone: zone.to_owned(), ..Default::default() }),
        lb_endpoints: members.iter().map(|endpoint| lb_endpoint(endpoint)).collect(),
        load_balancing_weight: Some(UInt32Value { value: weight }),
        priority,
        ..Default::default()
    }
}

fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let health = if endpoint.draining { HealthStatus::Draining } else { HealthStatus::Healthy };
    let socket = SocketAddress {
        protocol: socket_address::Protocol::Tcp.into(),
        address: endpoint.address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(endpoint.address.port().into())),
        ..Default::default()
    };
    LbEndpoint {
        health_status: health.into(),
        metadata: metadata(endpoint),
        load_balancing_weight: Some(UInt32Value { value: endpoint.weight }),
        host_identifier: Some(HostIdentifier::Endpoint(EnvoyEndpoint {
            address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
            ..Default::default()
        })),
    }
}

fn metadata(endpoint: &Endpoint) -> Option<Metadata> {
    let fields: HashMap<String, Value> = [("node", &endpoint.node), ("pod", &endpoint.pod)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), Value { kind: Some(Kind::StringValue(value.clone())) }))
        .collect();
    (!fields.is_empty()).then(|| Metadata {
        filter_metadata: HashMap::from([(METADATA.to_owned(), Struct { fields })]),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests;
