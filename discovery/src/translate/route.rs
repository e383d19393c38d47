// SPDX-License-Identifier: Apache-2.0
//! Which requests go to which cluster: a `RouteConfiguration` per port for gRPC, and one over all for gateways.
//!
//! What must always be true: no domain is twice in the gateway's routes, because Envoy refuses all of them otherwise; a
//! request is sent again only when it cannot have reached an endpoint.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use envoy_types::pb::envoy::extensions::filters::http::header_to_metadata::v3::Config as HeaderToMetadata;
use envoy_types::pb::envoy::extensions::filters::http::header_to_metadata::v3::config::{KeyValuePair, Rule};
use envoy_types::pb::google::protobuf::{BoolValue, Duration, UInt32Value};
use evenkeel_xds::{ClusterName, EncodedResource, type_url};

use super::listener::{GATEWAY, HEADER_FILTER};
use super::{Frontend, pack};

/// The header in which a request names the subset that it wants.
const SUBSET_HEADER: &str = "x-evenkeel-subset";
/// Failures after which the request cannot have reached an endpoint.
const SAFE_TO_RETRY: &str = "connect-failure,refused-stream,reset-before-request";
/// Attempts after the first. More than two dead endpoints in a row are not bad luck.
const RETRIES: u32 = 2;

/// One port in the gateway's routes.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayRoute {
    /// The port's frontend.
    pub frontend: Arc<Frontend>,
    /// Whether names without a port mean this one: it is the Service's only TCP port, or HTTP's.
    pub is_default: bool,
}

/// A port's own routes: everything goes to its cluster. gRPC looks them up by the name that it dials, so that any
/// authority is meant.
pub fn route(frontend: &Frontend) -> EncodedResource {
    let message = RouteConfiguration {
        name: frontend.name.to_string(),
        virtual_hosts: vec![VirtualHost {
            name: frontend.name.to_string(),
            domains: vec!["*".to_owned()],
            routes: vec![to_cluster(&frontend.name)],
            ..Default::default()
        }],
        ..Default::default()
    };
    EncodedResource::encode(type_url::ROUTE_CONFIGURATION, frontend.name.clone(), &message)
}

/// The routes of a gateway to all ports.
pub fn gateway_routes<'a>(routes: impl Iterator<Item = &'a GatewayRoute>) -> EncodedResource {
    let message = RouteConfiguration {
        name: GATEWAY.to_owned(),
        virtual_hosts: routes.filter_map(virtual_host).collect(),
        // A cluster that is new here may reach Envoy a moment later; until then its requests fail, not the update.
        validate_clusters: Some(BoolValue { value: false }),
        ..Default::default()
    };
    EncodedResource::encode(type_url::ROUTE_CONFIGURATION, GATEWAY, &message)
}

fn virtual_host(route: &GatewayRoute) -> Option<VirtualHost> {
    let frontend = &*route.frontend;
    let name: ClusterName = frontend.name.parse().ok()?;
    let hosts = ["", ".svc", ".svc.cluster.local"]
        .map(|domain| format!("{}.{}{domain}", name.service, name.namespace));
    let with_port = hosts.iter().map(|host| format!("{host}:{}", name.port));
    let without = hosts.iter().filter(|_| route.is_default).cloned();
    Some(VirtualHost {
        name: frontend.name.to_string(),
        domains: with_port.chain(without).collect(),
        routes: vec![to_cluster(&frontend.name)],
        typed_per_filter_config: frontend
            .subset_label
            .as_deref()
            .map(|label| HashMap::from([(HEADER_FILTER.to_owned(), pack(&subset_rule(label)))]))
            .unwrap_or_default(),
        retry_policy: Some(RetryPolicy {
            retry_on: SAFE_TO_RETRY.to_owned(),
            num_retries: Some(UInt32Value { value: RETRIES }),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// Envoy ends a request after 15 s unless told otherwise, and streams may be long. Who wants a deadline sets one.
fn to_cluster(cluster: &str) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            timeout: Some(Duration::default()),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// The header becomes what the cluster's subset policy looks for.
fn subset_rule(label: &str) -> HeaderToMetadata {
    HeaderToMetadata {
        request_rules: vec![Rule {
            header: SUBSET_HEADER.to_owned(),
            on_header_present: Some(KeyValuePair {
                metadata_namespace: "envoy.lb".to_owned(),
                key: label.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }],
        ..Default::default()
    }
}
