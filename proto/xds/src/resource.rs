// SPDX-License-Identifier: Apache-2.0
//! A resource as it goes over the wire: encoded once, shared by all clients.
//!
//! What must always be true: the version is the hash of the body, and equal content has equal bytes.
//! Deliberately not here: per-client variants. A view that differs per zone is another resource in another source.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{config::endpoint::v3::ClusterLoadAssignment, service::discovery::v3::Resource},
    google::protobuf::Any,
};
use prost::Message;

use crate::{stable, type_url, version::Version};

/// One encoded resource. Cloning costs two reference counts.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedResource {
    type_url: &'static str,
    name: Arc<str>,
    version: Version,
    body: Bytes,
}

impl EncodedResource {
    /// A resource from its encoded message.
    pub fn new(type_url: &'static str, name: impl Into<Arc<str>>, body: Bytes) -> Self {
        Self { type_url, name: name.into(), version: Version::of(&body), body }
    }

    /// Encodes a message without map fields. Maps are encoded in random order, which would give equal content
    /// different versions; for endpoints use [`EncodedResource::assignment`].
    pub fn encode(type_url: &'static str, name: impl Into<Arc<str>>, message: &impl Message) -> Self {
        Self::new(type_url, name, message.encode_to_vec().into())
    }

    /// Encodes endpoints under their cluster's name, maps in the order of their keys.
    pub fn assignment(message: &ClusterLoadAssignment) -> Self {
        let body = stable::encode_assignment(message);
        Self::new(type_url::CLUSTER_LOAD_ASSIGNMENT, message.cluster_name.as_str(), body.into())
    }

    /// The resource's type.
    pub fn type_url(&self) -> &'static str {
        self.type_url
    }

    /// The resource's name, unique within its type.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Hash of the body.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The encoded message.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The wire form inside a delta response.
    pub fn to_delta(&self) -> Resource {
        Resource {
            name: self.name.to_string(),
            version: self.version.to_string(),
            resource: Some(Any { type_url: self.type_url.to_owned(), value: self.body.to_vec() }),
            ..Resource::default()
        }
    }
}
