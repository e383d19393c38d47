// SPDX-License-Identifier: Apache-2.0
//! What one stream may make the server hold or do, and why a stream has to end.

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
    /// Rejections per type that are remembered with the client's words; of further ones only the fact is.
    pub reasons: usize,
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
            reasons: 1000,
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
