// SPDX-License-Identifier: Apache-2.0
//! What is known of a client, for people and for CSDS. Made when somebody asks; costs what it lists.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;

use crate::version::Version;

/// All that a session knows of its client.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionReport {
    /// The client, as it introduced itself, without the long lists of what it can do.
    pub node: Option<Node>,
    /// One per type that was asked for, in the order in which types are served.
    pub types: Vec<TypeReport>,
}

/// What is known of one type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TypeReport {
    /// The type.
    pub type_url: Arc<str>,
    /// Whether the client asked for all there are.
    pub wildcard: bool,
    /// What it asked for by name, sorted.
    pub names: Vec<Arc<str>>,
    /// What it was told last, sorted by name. It holds these unless they are unacknowledged or rejected.
    pub told: Vec<(Arc<str>, Version)>,
    /// Sent, and not yet answered.
    pub unacknowledged: Vec<(Arc<str>, Version)>,
    /// What it has to be told and was not yet, because it has not answered the last response.
    pub pending: Vec<Arc<str>>,
    /// What it rejected and has not been sent anything better for: name, version, its words.
    pub rejected: Vec<(Arc<str>, Version, Arc<str>)>,
    /// Whether it has acknowledged all there is to tell.
    pub in_sync: bool,
}

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
