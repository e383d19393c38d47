// SPDX-License-Identifier: Apache-2.0
//! Where requests come in: an API listener per port for gRPC, and a socket for an Envoy that asks for one.
//!
//! gRPC resolves `xds:///NAME` by asking for the listener NAME (gRFC A27). Envoy as a gateway says in its node metadata
//! where it is to listen (`evenkeel.io/listen: "0.0.0.0:8080"`); any other listener is the user's own, and may use the
//! routes named `evenkeel` or those of one port.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address as AnyAddress;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, Node, SocketAddress};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Filter, FilterChain, Listener};
use envoy_types::pb::envoy::extensions::filters::http::header_to_metadata::v3::Config as HeaderToMetadata;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
};
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::pb::google::protobuf::value::Kind;
use evenkeel_xds::{EncodedResource, type_url};
use prost::{Message, Name};

use super::{Frontend, ads, pack};

/// The name of the gateway's listener and of its routes.
pub const GATEWAY: &str = "evenkeel";
/// The key in a node's metadata that says where a gateway is to listen.
pub const LISTEN_KEY: &str = "evenkeel.io/listen";
/// The name of the filter that reads the subset's header; routes refer to it.
pub(super) const HEADER_FILTER: &str = "envoy.filters.http.header_to_metadata";

/// The name of the filter that sends requests on.
const ROUTER: &str = "envoy.filters.http.router";

/// Why a gateway is not told to listen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("node metadata {LISTEN_KEY} is {value:?}; allowed: ADDR:PORT, such as \"0.0.0.0:8080\"")]
pub struct GatewayError {
    /// What the metadata holds.
    value: String,
}

/// What gRPC asks for when it resolves `xds:///NAME`: a pointer to the port's routes.
pub fn api_listener(frontend: &Frontend) -> EncodedResource {
    let manager = connection_manager(&frontend.name, vec![filter(ROUTER, &Router::default())]);
    let message = Listener {
        name: frontend.name.to_string(),
        api_listener: Some(ApiListener { api_listener: Some(pack(&manager)) }),
        ..Default::default()
    };
    EncodedResource::encode(type_url::LISTENER, frontend.name.clone(), &message)
}

/// The listener that this node asks for in its metadata. `None`: it asks for none.
///
/// # Errors
/// [`GatewayError`] if it asks for one that cannot be.
pub fn gateway_of(node: &Node) -> Result<Option<EncodedResource>, GatewayError> {
    let asked = node.metadata.as_ref().and_then(|metadata| metadata.fields.get(LISTEN_KEY));
    match asked.map(|value| value.kind.as_ref()) {
        None => Ok(None),
        Some(Some(Kind::StringValue(text))) => match text.parse() {
            Ok(address) => Ok(Some(gateway_listener(address))),
            Err(_) => Err(GatewayError { value: text.chars().take(64).collect() }),
        },
        Some(_) => Err(GatewayError { value: "not a text".to_owned() }),
    }
}

/// A listener for plain HTTP/1.1 and HTTP/2 with the routes to all ports.
pub fn gateway_listener(address: SocketAddr) -> EncodedResource {
    let filters =
        vec![filter(HEADER_FILTER, &HeaderToMetadata::default()), filter(ROUTER, &Router::default())];
    let mut manager = connection_manager(GATEWAY, filters);
    // It is the first to see the client, so its peer's address is the client's.
    manager.use_remote_address = Some(BoolValue { value: true });
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
        ..Default::default()
    };
    let message = Listener {
        name: GATEWAY.to_owned(),
        address: Some(Address { address: Some(AnyAddress::SocketAddress(socket)) }),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(FilterConfig::TypedConfig(pack(&manager))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    EncodedResource::encode(type_url::LISTENER, GATEWAY, &message)
}

fn connection_manager(routes: &str, http_filters: Vec<HttpFilter>) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: routes.to_owned(),
        http_filters,
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: routes.to_owned(),
        })),
        ..Default::default()
    }
}

fn filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack(config))),
        ..Default::default()
    }
}
