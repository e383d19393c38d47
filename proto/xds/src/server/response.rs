// SPDX-License-Identifier: Apache-2.0
//! A response as the pieces that it shares with all other clients' responses. Its wire forms are in `message`.
//!
//! Source: `envoy/service/discovery/v3/discovery.proto`, `DeltaDiscoveryResponse` and `DiscoveryResponse`.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use xxhash_rust::xxh3::Xxh3Default;

use crate::{
    resource::EncodedResource,
    version::{Nonce, Version},
};

/// What to write to one client.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// The type of everything in it.
    pub type_url: Arc<str>,
    /// Pairs the client's answer with this response.
    pub nonce: Nonce,
    /// What is new to the client; state-of-the-world listeners and clusters: all there are.
    pub resources: Vec<EncodedResource>,
    /// Names of what is gone. Always empty in the state-of-the-world variant, which has no word for it.
    pub removed: Vec<Arc<str>>,
}

impl Response {
    /// The `version_info` of the state-of-the-world form: a hash over what is in the response, so that any replica gives
    /// equal content the same version.
    pub fn version(&self) -> Version {
        let mut hash = Xxh3Default::new();
        for resource in &self.resources {
            hash.update(resource.name().as_bytes());
            // No name contains this byte, so no two lists of resources have the same bytes.
            hash.update(&[0xff]);
            hash.update(&resource.version().to_bytes());
        }
        Version::from_hash(hash.digest128())
    }

    /// The delta message, built: for whoever does not write to a wire.
    pub fn to_delta(&self) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse {
            type_url: self.type_url.to_string(),
            nonce: self.nonce.to_string(),
            resources: self.resources.iter().map(EncodedResource::to_delta).collect(),
            removed_resources: self.removed.iter().map(ToString::to_string).collect(),
            ..DeltaDiscoveryResponse::default()
        }
    }

    /// The state-of-the-world message, built.
    pub fn to_sotw(&self) -> DiscoveryResponse {
        DiscoveryResponse {
            version_info: self.version().to_string(),
            resources: self.resources.iter().map(EncodedResource::to_any).collect(),
            type_url: self.type_url.to_string(),
            nonce: self.nonce.to_string(),
            ..DiscoveryResponse::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_url::CLUSTER;

    #[test]
    fn equal_content_has_one_version_whatever_the_nonce() {
        let of = |nonce: u64, content: &'static str| Response {
            type_url: CLUSTER.into(),
            nonce: Nonce::new(nonce),
            resources: vec![EncodedResource::new(CLUSTER, "web", content)],
            removed: Vec::new(),
        };
        assert_eq!(of(1, "a").version(), of(7, "a").version());
        assert_ne!(of(1, "a").version(), of(1, "b").version());
    }
}
