// SPDX-License-Identifier: Apache-2.0
//! What was new in a response that the client has not answered yet.

use std::sync::Arc;

use crate::{resource::EncodedResource, version::Version};

/// A response that was not answered yet, and what was new in it.
#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) nonce: u64,
    pub(super) sent: Sent,
}

/// What was new in a response.
#[derive(Debug)]
pub(super) enum Sent {
    /// As after most changes: it needs no list.
    One(EncodedResource),
    Several(Vec<(Arc<str>, Version)>),
}

// === impl Sent ===

impl Sent {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Version)> {
        let (one, several) = match self {
            Self::One(resource) => (Some((resource.name(), resource.version())), &[][..]),
            Self::Several(list) => (None, &list[..]),
        };
        one.into_iter().chain(several.iter().map(|(name, version)| (name, *version)))
    }
}
