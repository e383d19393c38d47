// SPDX-License-Identifier: Apache-2.0
//! Who a stream's client is, from what it says of itself.
//!
//! What must always be true: a client's words are cut before they are kept.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use evenkeel_xds::EncodedResource;

use crate::snapshot::{ClientView, Snapshot};
use crate::translate::{self, GatewayError};

/// How much of a client's words is kept, in characters.
const MAX_CHARS: usize = 512;
/// Keys in a node's metadata under which the name of its Kubernetes Node may be, the first that is there counts.
const NODE_KEYS: [&str; 2] = ["evenkeel.io/node", "NODE_NAME"];

/// A stream's client.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Client {
    /// Its node's id.
    pub(super) id: Arc<str>,
    /// The zone that it says it is in; empty if it does not say.
    zone: Arc<str>,
    /// The Kubernetes Node that it says it is on, if it does not say the zone.
    node: Arc<str>,
    /// The listener that it has asked for.
    gateway: Option<EncodedResource>,
}

impl Client {
    /// The client, and what it has asked for that it cannot have.
    pub(super) fn of(node: &Node) -> (Self, Option<GatewayError>) {
        let zone = node.locality.as_ref().map_or("", |locality| &locality.zone);
        let field = |key: &&str| match &node.metadata.as_ref()?.fields.get(*key)?.kind {
            Some(Kind::StringValue(text)) => Some(text.as_str()),
            _ => None,
        };
        let on = NODE_KEYS.iter().find_map(field).unwrap_or(&node.id);
        let (gateway, error) = match translate::gateway_of(node) {
            Ok(gateway) => (gateway, None),
            Err(error) => (None, Some(error)),
        };
        (Self { id: cut(&node.id), zone: cut(zone), node: cut(on), gateway }, error)
    }

    /// The snapshot as it is for this client, which has seen `old`. A Node's zone seldom changes, and others' never.
    pub(super) fn view_after(&self, old: &ClientView, snapshot: Arc<Snapshot>) -> ClientView {
        match self.zone.is_empty() && !snapshot.has_zones_of(old.snapshot()) {
            true => self.view(snapshot),
            false => old.on(snapshot),
        }
    }

    /// The snapshot as it is for this client. A Node's zone may become known, or change, with any snapshot.
    pub(super) fn view(&self, snapshot: Arc<Snapshot>) -> ClientView {
        let zone = match &*self.zone {
            "" => snapshot.zone_of_node(&self.node).cloned().unwrap_or_default(),
            _ => self.zone.clone(),
        };
        ClientView::new(snapshot, zone, self.gateway.clone())
    }
}

/// The beginning of a client's words.
pub(super) fn cut(words: &str) -> Arc<str> {
    words.chars().take(MAX_CHARS).collect::<String>().into()
}
