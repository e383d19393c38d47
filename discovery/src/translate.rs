// SPDX-License-Identifier: Apache-2.0
//! A Service's view × a client's zone → xDS resources. Pure and deterministic: equal content gives equal bytes.
//!
//! | resource | name | for | differs by client |
//! |---|---|---|---|
//! | `Service` | `NAMESPACE/NAME` | agents | no |
//! | `ClusterLoadAssignment` | the port's | everybody | by zone ([`Audience`]) |
//! | `Cluster`, `RouteConfiguration`, API `Listener` | the port's, TCP only | gRPC; clusters: Envoy too | no |
//! | `RouteConfiguration` | `evenkeel` | Envoy as a gateway | no |
//! | `Listener` | `evenkeel` | Envoy that asked to listen | by what it asked |
//!
//! A port's resources are named `NAME.NAMESPACE.svc.cluster.local:PORT`. Maps are the danger here: protobuf leaves their
//! order open, and prost writes them in the order of a randomly seeded hash map. Endpoints are written by hand
//! ([`wire`]), which is also several times as fast, as are Services, which each change of endpoints writes to be compared;
//! other messages have maps of at most one entry.

mod assignment;
mod cluster;
mod listener;
mod route;
mod wire;

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{AggregatedConfigSource, ApiVersion, ConfigSource};
use envoy_types::pb::google::protobuf::Any;
use evenkeel_proto::discovery as proto;
use evenkeel_xds::{EncodedResource, Protocol, type_url};
use prost::{Message, Name};

pub use self::assignment::{Audience, Localities, Zoning, assignment};
pub use self::cluster::cluster;
pub use self::listener::{GATEWAY, GatewayError, LISTEN_KEY, api_listener, gateway_listener, gateway_of};
pub use self::route::{GatewayRoute, gateway_routes, route};

use crate::objects::ServicePort;
use crate::options::Options;
use crate::view::{PortView, ServiceView};

/// The key in endpoints' metadata under which the node, the pod, the zone and the subset are.
pub const METADATA: &str = "evenkeel.io";

/// Enough for a `Service` with a few ports, to reserve memory once.
const USUAL_SERVICE_BYTES: usize = 256;

/// All that a port's resources are made of, its endpoints aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Frontend {
    /// The name of all its resources.
    pub name: Arc<str>,
    /// What it speaks.
    pub application: proto::Application,
    /// How one endpoint is chosen.
    pub strategy: proto::Strategy,
    /// The pod label by which endpoints are told apart.
    pub subset_label: Option<Arc<str>>,
}

// === impl Frontend ===

impl Frontend {
    /// `None`: not a TCP port, so neither Envoy's HTTP nor gRPC can use it.
    pub fn of(port: &PortView, options: &Options) -> Option<Self> {
        (port.port.protocol == Protocol::Tcp).then(|| Self {
            name: port.port.cluster.clone(),
            application: port.port.application,
            strategy: options.strategy,
            subset_label: options.subset_label.clone(),
        })
    }
}

/// The project's own resource for a Service: the same for all clients. `last` is what it was: a change of endpoints does
/// not change it, and is the most frequent change.
pub fn service(view: &ServiceView, last: Option<&EncodedResource>) -> EncodedResource {
    let body = service_body(view);
    match last {
        Some(last) if last.body() == body => last.clone(),
        _ => EncodedResource::new(type_url::SERVICE, view.service.key.path(), body),
    }
}

/// A `Service`.
fn service_body(view: &ServiceView) -> Vec<u8> {
    let (key, options) = (&view.service.key, &view.options);
    let mut out = Vec::with_capacity(USUAL_SERVICE_BYTES);
    wire::text(&mut out, 1, &key.namespace);
    wire::text(&mut out, 2, &key.name);
    wire::number(&mut out, 3, options.balance as u32);
    wire::number(&mut out, 4, options.strategy as u32);
    wire::number(&mut out, 5, options.zone as u32);
    for address in &view.service.addresses {
        wire::address(&mut out, 6, *address);
    }
    for port in &view.ports {
        wire::message(&mut out, 7, |out| port_body(out, &port.port));
    }
    for fault in &view.faults {
        wire::text(&mut out, 8, &fault.message);
    }
    out
}

/// A `Port`.
fn port_body(out: &mut Vec<u8>, port: &ServicePort) {
    let protocol = match port.protocol {
        Protocol::Tcp => proto::Protocol::Tcp,
        Protocol::Udp => proto::Protocol::Udp,
    };
    wire::text(out, 1, &port.name);
    wire::number(out, 2, port.port.into());
    wire::number(out, 3, protocol as u32);
    wire::number(out, 4, port.application as u32);
    wire::text(out, 5, &port.cluster);
}

/// "On the stream on which this came."
fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests;
