// SPDX-License-Identifier: Apache-2.0
//! A resource as it goes over the wire: encoded once, shared by all clients of both variants.
//!
//! What must always be true: the version is the hash of the body, equal content has equal bytes, and what is here goes to
//! the transport as it is, without a copy per client.
//! Deliberately not here: per-client variants. A view that differs per zone is another resource in another source.

use std::{fmt, ops::Range, sync::Arc};

use envoy_types::pb::{
    envoy::{config::endpoint::v3::ClusterLoadAssignment, service::discovery::v3::Resource},
    google::protobuf::Any,
};
use prost::Message;

use crate::{stable, type_url, version::Version, wire};

/// Number of the field `resources` in responses of both variants, and of `resource` in a `Resource`.
const RESOURCES: u32 = 2;

/// One encoded resource. Cloning costs one reference count.
#[derive(Clone)]
pub struct EncodedResource(Arc<Inner>);

struct Inner {
    type_url: &'static str,
    name: Arc<str>,
    version: Version,
    /// A `resources` field of a delta response: key, length, and an `envoy.service.discovery.v3.Resource`.
    field: Box<[u8]>,
    /// The `Resource` in it.
    resource: usize,
    /// The key of the `google.protobuf.Any` in that. It has the number that `resources` has in a state-of-the-world
    /// response, so this is its field.
    any_field: Range<usize>,
    /// The `Any` itself.
    any: usize,
    /// The message in that.
    body: Range<usize>,
}

// === impl EncodedResource ===

impl EncodedResource {
    /// A resource from its encoded message.
    pub fn new(type_url: &'static str, name: impl Into<Arc<str>>, body: impl AsRef<[u8]>) -> Self {
        let (name, body) = (name.into(), body.as_ref());
        let version = Version::of(body);
        let text = version.to_string();
        let any = wire::scalar_len(1, type_url.len()) + wire::scalar_len(2, body.len());
        let total = wire::len(1, text.len()) + wire::len(2, any) + wire::scalar_len(3, name.len());
        let mut out = Vec::with_capacity(wire::len(RESOURCES, total));
        wire::put_head(&mut out, RESOURCES, total);
        let resource = out.len();
        // In the order of the fields' numbers, as any encoder writes them: version, resource, name.
        wire::put(&mut out, 1, text.as_bytes());
        let any_field = out.len();
        wire::put_head(&mut out, RESOURCES, any);
        let any = out.len();
        wire::put_scalar(&mut out, 1, type_url.as_bytes());
        wire::put_scalar(&mut out, 2, body);
        let end = out.len();
        wire::put_scalar(&mut out, 3, name.as_bytes());
        Self(Arc::new(Inner {
            type_url,
            name,
            version,
            field: out.into_boxed_slice(),
            resource,
            any_field: any_field..end,
            any,
            body: end - body.len()..end,
        }))
    }

    /// Encodes a message without map fields. Maps are encoded in random order, which would give equal content
    /// different versions; for endpoints use [`EncodedResource::assignment`].
    pub fn encode(type_url: &'static str, name: impl Into<Arc<str>>, message: &impl Message) -> Self {
        Self::new(type_url, name, message.encode_to_vec())
    }

    /// Encodes endpoints under their cluster's name, maps in the order of their keys.
    pub fn assignment(message: &ClusterLoadAssignment) -> Self {
        Self::assignment_named(message.cluster_name.as_str(), message)
    }

    /// The same, under a name that is shared with other resources; it has to be the cluster's.
    pub fn assignment_named(name: impl Into<Arc<str>>, message: &ClusterLoadAssignment) -> Self {
        Self::new(type_url::CLUSTER_LOAD_ASSIGNMENT, name, stable::encode_assignment(message))
    }

    /// The resource's type.
    pub fn type_url(&self) -> &'static str {
        self.0.type_url
    }

    /// The resource's name, unique within its type.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Hash of the body.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// The encoded message.
    pub fn body(&self) -> &[u8] {
        &self.0.field[self.0.body.clone()]
    }

    /// The encoded `envoy.service.discovery.v3.Resource`.
    pub fn delta_wire(&self) -> &[u8] {
        &self.0.field[self.0.resource..]
    }

    /// The encoded `google.protobuf.Any`.
    pub fn any_wire(&self) -> &[u8] {
        &self.0.field[self.0.any..self.0.any_field.end]
    }

    /// The resource as a field of a `DeltaDiscoveryResponse`: key, length, [`EncodedResource::delta_wire`].
    pub(crate) fn delta_field(&self) -> &[u8] {
        &self.0.field
    }

    /// The resource as a field of a `DiscoveryResponse`: key, length, [`EncodedResource::any_wire`].
    pub(crate) fn sotw_field(&self) -> &[u8] {
        &self.0.field[self.0.any_field.clone()]
    }

    /// The message inside a delta response, built: for whoever does not write to a wire.
    pub fn to_delta(&self) -> Resource {
        Resource {
            name: self.name().to_string(),
            version: self.version().to_string(),
            resource: Some(self.to_any()),
            ..Resource::default()
        }
    }

    /// The message inside a state-of-the-world response, built.
    pub fn to_any(&self) -> Any {
        Any { type_url: self.type_url().to_owned(), value: self.body().to_vec() }
    }
}

impl PartialEq for EncodedResource {
    fn eq(&self, other: &Self) -> bool {
        let key = |resource: &Self| (resource.0.type_url, resource.0.name.clone(), resource.0.version);
        // The version stands for the body.
        Arc::ptr_eq(&self.0, &other.0) || key(self) == key(other)
    }
}

impl fmt::Debug for EncodedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedResource")
            .field("type_url", &self.type_url())
            .field("name", self.name())
            .field("version", &self.version())
            .field("bytes", &self.body().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};

    use super::*;

    #[test]
    fn the_wire_forms_are_what_any_encoder_writes() {
        for (name, body) in [("web", &b"body"[..]), ("", b"x"), ("empty", b""), ("long", &[7; 70_000])] {
            let resource = EncodedResource::new(type_url::SERVICE, name, body);
            assert_eq!(resource.body(), body);
            assert_eq!(resource.delta_wire(), resource.to_delta().encode_to_vec());
            assert_eq!(resource.any_wire(), resource.to_any().encode_to_vec());
            let delta = DeltaDiscoveryResponse { resources: vec![resource.to_delta()], ..Default::default() };
            assert_eq!(resource.delta_field(), delta.encode_to_vec());
            let sotw = DiscoveryResponse { resources: vec![resource.to_any()], ..Default::default() };
            assert_eq!(resource.sotw_field(), sotw.encode_to_vec());
        }
    }
}
