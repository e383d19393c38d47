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
//! ([`wire`]), which is also several times as fast; other messages have maps of at most one entry.

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
use evenkeel_xds::{EncodedResource, Protocol, ServiceName, type_url};
use prost::{Message, Name};

pub use self::assignment::{Audience, Zoning, assignment};
pub use self::cluster::cluster;
pub use self::listener::{GATEWAY, GatewayError, LISTEN_KEY, api_listener, gateway_listener, gateway_of};
pub use self::route::{GatewayRoute, gateway_routes, route};

use crate::options::Options;
use crate::view::{PortView, ServiceView};

/// The key in endpoints' metadata under which the node, the pod, the zone and the subset are.
pub const METADATA: &str = "evenkeel.io";

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
        cluster: view.port.cluster.to_string(),
    }
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
