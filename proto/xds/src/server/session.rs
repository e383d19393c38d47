// SPDX-License-Identifier: Apache-2.0
//! One ADS delta stream: routes requests and changes to the subscriptions per type.
//!
//! What must always be true: types are independent of each other except for the order in which they are served.
//! Deliberately not here: the rules within a type, see `subscription`.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};

use super::{
    Limits, ResourceSource, SessionError,
    subscription::{Request, Subscription},
};
use crate::{
    type_url,
    version::{Nonces, Version},
};

/// A resource that the client rejected and that has not changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection<'a> {
    /// The resource's type.
    pub type_url: &'a str,
    /// The resource's name.
    pub name: &'a str,
    /// The version that was rejected.
    pub version: Version,
    /// The client's words.
    pub reason: &'a str,
}

/// The serving end of one ADS delta stream. A new stream is a new session.
#[derive(Debug)]
pub struct DeltaSession {
    limits: Limits,
    nonces: Nonces,
    node: Option<Node>,
    /// In the order in which they are served.
    types: Vec<(Arc<str>, Subscription)>,
}

impl DeltaSession {
    /// A session for a stream that was just opened.
    pub fn new(limits: Limits) -> Self {
        Self { limits, nonces: Nonces::default(), node: None, types: Vec::new() }
    }

    /// Takes one request from the stream and returns what to write.
    ///
    /// An error ends the stream: answer with its text and drop the session.
    pub fn on_request(
        &mut self,
        mut request: DeltaDiscoveryRequest,
        source: &impl ResourceSource,
    ) -> Result<Vec<DeltaDiscoveryResponse>, SessionError> {
        self.check_sizes(&request)?;
        if self.node.is_none() {
            self.node = request.node.take();
        }
        let (index, first) = self.place(&request.type_url)?;
        let (type_url, subscription) = &mut self.types[index];
        if !request.response_nonce.is_empty() {
            subscription.acknowledge(&request.response_nonce, request.error_detail.as_ref());
        }
        subscription.change(Request {
            first,
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            held: request.initial_resource_versions,
        });
        let count = subscription.names();
        if count > self.limits.subscriptions {
            let limit = self.limits.subscriptions;
            return Err(SessionError::TooManySubscriptions { type_url: type_url.to_string(), count, limit });
        }
        Ok(self.flush(index, source).into_iter().collect())
    }

    /// Compares everything with the view: for when it is unknown what changed, or the view was swapped for another.
    pub fn on_update(&mut self, source: &impl ResourceSource) -> Vec<DeltaDiscoveryResponse> {
        for (_, subscription) in &mut self.types {
            subscription.rescan();
        }
        (0..self.types.len()).filter_map(|index| self.flush(index, source)).collect()
    }

    /// Compares the named resources of one type with the view, which already holds the change. Costs O(names).
    ///
    /// When several types changed, call this in the order of [`type_url::SERVING_ORDER`].
    pub fn on_changes(
        &mut self,
        type_url: &str,
        names: &[Arc<str>],
        source: &impl ResourceSource,
    ) -> Vec<DeltaDiscoveryResponse> {
        let Some(index) = self.types.iter().position(|(known, _)| **known == *type_url) else {
            return Vec::new();
        };
        let subscription = &mut self.types[index].1;
        for name in names {
            subscription.changed(name);
        }
        self.flush(index, source).into_iter().collect()
    }

    /// The client's node, from the first request that carried one.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// What the client rejected and still does not have.
    pub fn rejections(&self) -> impl Iterator<Item = Rejection<'_>> {
        self.types.iter().flat_map(|(type_url, subscription)| {
            subscription.rejections().map(move |(name, rejected)| Rejection {
                type_url,
                name,
                version: rejected.version,
                reason: &rejected.reason,
            })
        })
    }

    /// Whether the client has acknowledged all there is to tell.
    pub fn in_sync(&self) -> bool {
        self.types.iter().all(|(_, subscription)| subscription.in_sync())
    }

    fn flush(&mut self, index: usize, source: &impl ResourceSource) -> Option<DeltaDiscoveryResponse> {
        let (type_url, subscription) = &mut self.types[index];
        subscription.respond(type_url, source, self.limits.response_bytes, &mut self.nonces)
    }

    /// Index of the type's subscription, and whether this is the first request for it.
    fn place(&mut self, type_url: &str) -> Result<(usize, bool), SessionError> {
        if type_url.is_empty() {
            return Err(SessionError::MissingTypeUrl);
        }
        if let Some(index) = self.types.iter().position(|(known, _)| **known == *type_url) {
            return Ok((index, false));
        }
        if self.types.len() >= self.limits.types {
            return Err(SessionError::TooManyTypes { type_url: type_url.into(), limit: self.limits.types });
        }
        let rank = type_url::rank(type_url);
        let index = self.types.partition_point(|(known, _)| type_url::rank(known) <= rank);
        self.types.insert(index, (type_url.into(), Subscription::default()));
        Ok((index, true))
    }

    fn check_sizes(&self, request: &DeltaDiscoveryRequest) -> Result<(), SessionError> {
        let count = request.resource_names_subscribe.len()
            + request.resource_names_unsubscribe.len()
            + request.initial_resource_versions.len();
        let limit = self.limits.names_per_request;
        if count > limit {
            let type_url = crate::nack::cut(&request.type_url).to_owned();
            return Err(SessionError::TooManyNames { type_url, count, limit });
        }
        let names = request.resource_names_subscribe.iter().chain(request.initial_resource_versions.keys());
        let longest = names.map(String::len).chain([request.type_url.len()]).max().unwrap_or(0);
        let limit = self.limits.name_bytes;
        if longest > limit {
            return Err(SessionError::NameTooLong { bytes: longest, limit });
        }
        Ok(())
    }
}
