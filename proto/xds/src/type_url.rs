// SPDX-License-Identifier: Apache-2.0
//! The resource types that we serve, and the order in which they are served.
//!
//! What must always be true: the order is the protocol document's, so that traffic never finds a name before what it
//! stands for (make before break): Services and clusters first, then endpoints, then listeners, then the routes of
//! listeners.
//! Deliberately not here: what the types contain.

use std::sync::{Arc, LazyLock};

/// The project's own `Service`: addresses, ports and balancing of one Kubernetes Service.
pub const SERVICE: &str = "type.googleapis.com/evenkeel.discovery.v1.Service";

/// How to reach one port of a Service, as Envoy defines it (CDS).
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// The endpoints of one port of a Service, as Envoy defines them (EDS).
pub const CLUSTER_LOAD_ASSIGNMENT: &str =
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// What a client asks for by the name that it dials, or a socket of a gateway (LDS).
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";

/// Which cluster a request of a listener goes to (RDS).
pub const ROUTE_CONFIGURATION: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

/// The order in which pending types are served.
pub const SERVING_ORDER: [&str; 5] =
    [SERVICE, CLUSTER, CLUSTER_LOAD_ASSIGNMENT, LISTENER, ROUTE_CONFIGURATION];

/// Place of a type in [`SERVING_ORDER`]; unknown types come last.
pub fn rank(type_url: &str) -> usize {
    SERVING_ORDER.iter().position(|known| *known == type_url).unwrap_or(SERVING_ORDER.len())
}

/// The text as an `Arc`: the types that are served have one copy each, whoever asks for them.
pub(crate) fn shared(type_url: &str) -> Arc<str> {
    static SERVED: LazyLock<[Arc<str>; SERVING_ORDER.len()]> = LazyLock::new(|| SERVING_ORDER.map(Arc::from));
    SERVED.get(rank(type_url)).map_or_else(|| type_url.into(), Arc::clone)
}

/// The message name without its prefix and package, for people: `Service`, `ClusterLoadAssignment`.
pub fn short_name(type_url: &str) -> &str {
    type_url.rsplit(['.', '/']).next().unwrap_or(type_url)
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::{
        cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment, listener::v3::Listener,
        route::v3::RouteConfiguration,
    };
    use prost::Name;

    use super::*;

    #[test]
    fn what_is_referred_to_comes_before_what_refers_to_it_and_unknown_types_last() {
        assert!(rank(SERVICE) < rank(CLUSTER_LOAD_ASSIGNMENT));
        assert!(rank(CLUSTER) < rank(CLUSTER_LOAD_ASSIGNMENT));
        assert!(rank(CLUSTER_LOAD_ASSIGNMENT) < rank(LISTENER));
        assert!(rank(LISTENER) < rank(ROUTE_CONFIGURATION));
        assert!(rank(ROUTE_CONFIGURATION) < rank("type.googleapis.com/other"));
    }

    #[test]
    fn what_is_served_has_one_copy_and_the_rest_is_as_it_came() {
        for known in SERVING_ORDER {
            assert_eq!(&*shared(known), known);
            assert!(Arc::ptr_eq(&shared(known), &shared(known)));
        }
        assert_eq!(&*shared("type.googleapis.com/other"), "type.googleapis.com/other");
    }

    #[test]
    fn the_short_name_is_the_message_name() {
        assert_eq!(short_name(SERVICE), "Service");
        assert_eq!(short_name(CLUSTER_LOAD_ASSIGNMENT), "ClusterLoadAssignment");
        assert_eq!(short_name(""), "");
    }

    #[test]
    fn the_types_are_those_of_the_messages() {
        assert_eq!(CLUSTER, Cluster::type_url());
        assert_eq!(CLUSTER_LOAD_ASSIGNMENT, ClusterLoadAssignment::type_url());
        assert_eq!(LISTENER, Listener::type_url());
        assert_eq!(ROUTE_CONFIGURATION, RouteConfiguration::type_url());
    }
}
