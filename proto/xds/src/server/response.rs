// SPDX-License-Identifier: Apache-2.0
//! A response as the pieces that it shares with all other clients' responses, and its wire forms.
//!
//! What must always be true: what is written is what an encoder of the published messages would write, and the bodies
//! are copied once: into the transport's buffer.
//! Source: `envoy/service/discovery/v3/discovery.proto`, `DeltaDiscoveryResponse` and `DiscoveryResponse`.

use std::sync::Arc;

use bytes::BufMut;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use xxhash_rust::xxh3::Xxh3Default;

use crate::{resource::EncodedResource, version::Version, wire};

/// What to write to one client.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// The type of everything in it.
    pub type_url: Arc<str>,
    /// Pairs the client's answer with this response.
    pub nonce: String,
    /// What is new to the client; state-of-the-world listeners and clusters: all there are.
    pub resources: Vec<EncodedResource>,
    /// Names of what is gone. Always empty in the state-of-the-world variant, which has no word for it.
    pub removed: Vec<Arc<str>>,
}

impl Response {
    /// Length of the delta form, in bytes.
    pub fn delta_len(&self) -> usize {
        let resources = self.resources.iter().map(|resource| wire::len(2, resource.delta_wire().len()));
        let removed = self.removed.iter().map(|name| wire::len(6, name.len()));
        resources.sum::<usize>()
            + wire::scalar_len(4, self.type_url.len())
            + wire::scalar_len(5, self.nonce.len())
            + removed.sum::<usize>()
    }

    /// Writes the delta form.
    pub fn encode_delta(&self, out: &mut impl BufMut) {
        for resource in &self.resources {
            wire::put(out, 2, resource.delta_wire());
        }
        wire::put_scalar(out, 4, self.type_url.as_bytes());
        wire::put_scalar(out, 5, self.nonce.as_bytes());
        for name in &self.removed {
            wire::put(out, 6, name.as_bytes());
        }
    }

    /// Length of the state-of-the-world form, in bytes.
    pub fn sotw_len(&self) -> usize {
        let resources = self.resources.iter().map(|resource| wire::len(2, resource.any_wire().len()));
        wire::len(1, Version::TEXT_LEN)
            + resources.sum::<usize>()
            + wire::scalar_len(4, self.type_url.len())
            + wire::scalar_len(5, self.nonce.len())
    }

    /// Writes the state-of-the-world form.
    pub fn encode_sotw(&self, out: &mut impl BufMut) {
        wire::put(out, 1, self.version().to_string().as_bytes());
        for resource in &self.resources {
            wire::put(out, 2, resource.any_wire());
        }
        wire::put_scalar(out, 4, self.type_url.as_bytes());
        wire::put_scalar(out, 5, self.nonce.as_bytes());
    }

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
            nonce: self.nonce.clone(),
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
            nonce: self.nonce.clone(),
            ..DiscoveryResponse::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::type_url::CLUSTER;

    fn response() -> impl Strategy<Value = Response> {
        let resource = ("\\PC{0,9}", prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(name, body)| EncodedResource::new(CLUSTER, name, body));
        let resources = prop::collection::vec(resource, 0..5);
        let removed = prop::collection::vec("\\PC{0,9}".prop_map(Arc::from), 0..5);
        ("[0-9]{0,3}", resources, removed).prop_map(|(nonce, resources, removed)| Response {
            type_url: CLUSTER.into(),
            nonce,
            resources,
            removed,
        })
    }

    proptest! {
        #[test]
        fn both_forms_are_what_any_encoder_writes(response in response()) {
            let mut out = Vec::new();
            response.encode_delta(&mut out);
            prop_assert_eq!(out.len(), response.delta_len());
            prop_assert_eq!(out, response.to_delta().encode_to_vec());
            let mut out = Vec::new();
            response.encode_sotw(&mut out);
            prop_assert_eq!(out.len(), response.sotw_len());
            prop_assert_eq!(out, response.to_sotw().encode_to_vec());
        }
    }

    #[test]
    fn equal_content_has_one_version_whatever_the_nonce() {
        let of = |nonce: &str, content: &'static str| Response {
            type_url: CLUSTER.into(),
            nonce: nonce.into(),
            resources: vec![EncodedResource::new(CLUSTER, "web", content)],
            removed: Vec::new(),
        };
        assert_eq!(of("1", "a").version(), of("7", "a").version());
        assert_ne!(of("1", "a").version(), of("1", "b").version());
    }
}
