// SPDX-License-Identifier: Apache-2.0
//! The serving end: one ADS stream as a plain struct.
//!
//! [`DeltaSession`] is fed requests and told of changes; it answers with the responses to write. What it serves comes
//! from a [`ResourceSource`], an immutable view that the caller may swap at any time, so one session serves one view
//! per client zone without knowing of zones.
//!
//! What must always be true:
//! * at most one response per type is unacknowledged; what changes meanwhile is coalesced into the next one, so a
//!   client that never answers costs no more memory than its subscriptions;
//! * a response is cut near [`Limits::response_bytes`]; the rest follows the acknowledgement;
//! * what a client rejected is not sent again until its content changes or the client asks for it by name;
//! * exceeding a limit ends the stream with a reason; nothing else does.
//!
//! Deliberately not here: sockets; timers; state-of-the-world sessions (a later type beside this one, over the same
//! source); time-to-live of resources.

mod session;
mod subscription;

use crate::resource::EncodedResource;
pub use session::{DeltaSession, Rejection};
pub(crate) use subscription::WILDCARD;

/// One immutable view of all resources, as one client sees them.
pub trait ResourceSource {
    /// The resource of this name, if there is one.
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource>;

    /// Visits all resources of a type: what a wildcard subscription covers. Each name once, in any order.
    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource));
}

/// What one stream may make the server hold or do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Names in one request: subscribe, unsubscribe and initial versions together.
    pub names_per_request: usize,
    /// Names that one stream is subscribed to, per type.
    pub subscriptions: usize,
    /// Resource types on one stream.
    pub types: usize,
    /// Bytes in a resource name or type URL.
    pub name_bytes: usize,
    /// Size near which a response is cut, in bytes. A single larger resource is sent alone.
    pub response_bytes: usize,
}

impl Default for Limits {
    /// Room for a node that talks to every port of a very large cluster; responses fit gRPC's usual 4 MiB.
    fn default() -> Self {
        Self {
            names_per_request: 200_000,
            subscriptions: 100_000,
            types: 16,
            name_bytes: 1024,
            response_bytes: 2 << 20,
        }
    }
}

/// Why a stream has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A request named no type.
    #[error("the request has no type_url")]
    MissingTypeUrl,
    /// More names in one request than allowed.
    #[error("the request for {type_url} has {count} names; at most {limit} are allowed in one request")]
    TooManyNames {
        /// The request's type.
        type_url: String,
        /// Names in it.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// More subscriptions than allowed.
    #[error("{count} subscriptions to {type_url}; at most {limit} are allowed on one stream")]
    TooManySubscriptions {
        /// The type.
        type_url: String,
        /// What the request would have led to.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// More types than allowed.
    #[error("{type_url} is one type too many; at most {limit} are allowed on one stream")]
    TooManyTypes {
        /// The type that was refused.
        type_url: String,
        /// The limit.
        limit: usize,
    },
    /// A name longer than allowed.
    #[error("a name of {bytes} bytes; at most {limit} are allowed")]
    NameTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl SessionError {
    /// Whether a limit was exceeded (`RESOURCE_EXHAUSTED`) rather than a rule broken (`INVALID_ARGUMENT`).
    pub fn is_exhaustion(&self) -> bool {
        !matches!(self, Self::MissingTypeUrl)
    }
}
