// SPDX-License-Identifier: Apache-2.0
//! The two variants of the protocol: what differs between them, and nothing else.
//!
//! Source: `xds_protocol.rst`, "Grouping Resources into Responses" and "Deleting Resources".

use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    },
    google::rpc::Status,
};

use super::{
    Acknowledgement, Message, Response,
    subscription::{Grouping, Interest},
};
use crate::type_url::{CLUSTER, LISTENER, SERVICE};

/// The incremental variant (`DeltaAggregatedResources`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delta {}

/// State of the world (`StreamAggregatedResources`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateOfTheWorld {}

/// What a request of either variant has to say about its sender.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The type that it is about.
    pub type_url: &'a str,
    /// The client, which only the first request of a stream has to name.
    pub node: Option<&'a Node>,
    /// Why the client rejects the last response, if it does.
    pub error: Option<&'a Status>,
}

/// [`Delta`] or [`StateOfTheWorld`].
pub trait Variant: sealed::Rules + Send + Sync + 'static {
    /// What clients send.
    type Request: prost::Message + Default + 'static;

    /// `delta` or `sotw`: for people.
    const NAME: &'static str;

    /// The parts of a request that both variants have.
    fn head(request: &Self::Request) -> Head<'_>;

    /// What an encoded request says, if it does nothing but acknowledge and that can be seen at a glance.
    fn acknowledgement(_message: &[u8]) -> Option<Acknowledgement<'_>> {
        None
    }

    /// A response as this variant's message.
    fn message(response: Response) -> Message;

    /// Takes the request apart.
    #[doc(hidden)]
    fn open(request: Self::Request) -> sealed::Parts;
}

/// What a request says, in the terms of either variant.
pub(super) mod sealed {
    use super::{Grouping, Interest, Node, Status};

    #[derive(Debug)]
    pub struct Parts {
        pub(in super::super) type_url: String,
        pub(in super::super) node: Option<Node>,
        pub(in super::super) nonce: String,
        pub(in super::super) error: Option<Status>,
        pub(in super::super) interest: Interest,
    }

    /// Keeps other crates from adding variants.
    pub trait Rules {
        #[doc(hidden)]
        fn grouping(type_url: &str) -> Grouping;
    }
}

// === impl Variant ===

impl sealed::Rules for Delta {
    fn grouping(_: &str) -> Grouping {
        Grouping::Differences
    }
}

impl Variant for Delta {
    type Request = DeltaDiscoveryRequest;
    const NAME: &'static str = "delta";

    fn head(request: &Self::Request) -> Head<'_> {
        Head {
            type_url: &request.type_url,
            node: request.node.as_ref(),
            error: request.error_detail.as_ref(),
        }
    }

    fn acknowledgement(message: &[u8]) -> Option<Acknowledgement<'_>> {
        Acknowledgement::delta(message)
    }

    fn message(response: Response) -> Message {
        Message::delta(response)
    }

    fn open(request: Self::Request) -> sealed::Parts {
        sealed::Parts {
            type_url: request.type_url,
            node: request.node,
            nonce: request.response_nonce,
            error: request.error_detail,
            interest: Interest::Difference {
                subscribe: request.resource_names_subscribe,
                unsubscribe: request.resource_names_unsubscribe,
                held: request.initial_resource_versions,
            },
        }
    }
}

impl sealed::Rules for StateOfTheWorld {
    fn grouping(type_url: &str) -> Grouping {
        match type_url {
            // Ours is not in the protocol document. Whole, because otherwise a removal could not be told.
            LISTENER | CLUSTER | SERVICE => Grouping::Whole,
            _ => Grouping::Parts,
        }
    }
}

impl Variant for StateOfTheWorld {
    type Request = DiscoveryRequest;
    const NAME: &'static str = "sotw";

    fn head(request: &Self::Request) -> Head<'_> {
        Head {
            type_url: &request.type_url,
            node: request.node.as_ref(),
            error: request.error_detail.as_ref(),
        }
    }

    fn message(response: Response) -> Message {
        Message::sotw(response)
    }

    fn open(request: Self::Request) -> sealed::Parts {
        // `version_info` is not read: it says which version the client had, perhaps of other names and of another
        // stream, and error_detail says whether it took the last one.
        sealed::Parts {
            type_url: request.type_url,
            node: request.node,
            nonce: request.response_nonce,
            error: request.error_detail,
            interest: Interest::All(request.resource_names),
        }
    }
}
