// SPDX-License-Identifier: Apache-2.0
//! A resource as it goes over the wire: encoded once, shared by all clients of both variants.
//!
//! What must always be true: the version is the hash of the body, equal content has equal bytes, and a response is made
//! by copying what is here, once, into the transport's buffer.
//! Deliberately not here: per-client variants. A view that differs per zone is another resource in another source.

use std::{fmt, ops::Range, sync::Arc};

use envoy_types::pb::{
    envoy::{config::endpoint::v3::ClusterLoadAssignment, service::discovery::v3::Resource},
    google::protobuf::Any,
};
use prost::Message;

use crate::{stable, type_url, version::Version, wire};

/// One encoded resource. Cloning costs one reference count.
#[derive(Clone)]
pub struct EncodedResource(Arc<Inner>);

struct Inner {
    type_url: &'static str,
    name: Arc<str>,
    version: Version,
    /// An `envoy.service.discovery.v3.Resource`: what a delta response has per resource.
    wire: Box<[u8]>,
    /// The `google.protobuf.Any` in it: what a state-of-the-world response has.
    any: Range<usize>,
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
        let mut out = Vec::with_capacity(total);
        // In the order of the fields' numbers, as any encoder writes them: version, resource, name.
        wire::put(&mut out, 1, text.as_bytes());
        wire::put_head(&mut out, 2, any);
        let start = out.len();
        wire::put_scalar(&mut out, 1, type_url.as_bytes());
        wire::put_scalar(&mut out, 2, body);
        let end = out.len();
        wire::put_scalar(&mut out, 3, name.as_bytes());
        Self(Arc::new(Inner {
            type_url,
            name,
            version,
            wire: out.into_boxed_slice(),
            any: start..end,
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
        &self.0.wire[self.0.body.clone()]
    }

    /// The encoded `envoy.service.discovery.v3.Resource`.
    pub fn delta_wire(&self) -> &[u8] {
        &self.0.wire
    }

    /// The encoded `google.protobuf.Any`.
    pub fn any_wire(&self) -> &[u8] {
        &self.0.wire[self.0.any.clone()]
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
    use super::*;

    #[test]
    fn the_wire_forms_are_what_any_encoder_writes() {
        for (name, body) in [("web", &b"body"[..]), ("", b"x"), ("empty", b""), ("long", &[7; 70_000])] {
            let resource = EncodedResource::new(type_url::SERVICE, name, body);
            assert_eq!(resource.body(), body);
            assert_eq!(resource.delta_wire(), resource.to_delta().encode_to_vec());
            assert_eq!(resource.any_wire(), resource.to_any().encode_to_vec());
        }
    }
}
