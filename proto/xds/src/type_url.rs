// SPDX-License-Identifier: Apache-2.0
//! The resource types that we serve, and the order in which they are served.
//!
//! What must always be true: a type comes before the types that its resources refer to by name, so that a client
//! learns of a cluster's name before its endpoints (make before break, as the protocol document asks).
//! Deliberately not here: what the types contain.

/// The project's own `Service`: addresses, ports and balancing of one Kubernetes Service.
pub const SERVICE: &str = "type.googleapis.com/evenkeel.discovery.v1.Service";

/// The endpoints of one port of a Service, as Envoy defines them.
pub const CLUSTER_LOAD_ASSIGNMENT: &str =
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// The order in which pending types are served.
pub const SERVING_ORDER: [&str; 2] = [SERVICE, CLUSTER_LOAD_ASSIGNMENT];

/// Place of a type in [`SERVING_ORDER`]; unknown types come last.
pub fn rank(type_url: &str) -> usize {
    SERVING_ORDER.iter().position(|known| *known == type_url).unwrap_or(SERVING_ORDER.len())
}

/// The message name without its prefix and package, for people: `Service`, `ClusterLoadAssignment`.
pub fn short_name(type_url: &str) -> &str {
    type_url.rsplit(['.', '/']).next().unwrap_or(type_url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_come_before_their_endpoints_and_unknown_types_last() {
        assert!(rank(SERVICE) < rank(CLUSTER_LOAD_ASSIGNMENT));
        assert!(rank(CLUSTER_LOAD_ASSIGNMENT) < rank("type.googleapis.com/other"));
    }

    #[test]
    fn the_short_name_is_the_message_name() {
        assert_eq!(short_name(SERVICE), "Service");
        assert_eq!(short_name(CLUSTER_LOAD_ASSIGNMENT), "ClusterLoadAssignment");
        assert_eq!(short_name(""), "");
    }
}
