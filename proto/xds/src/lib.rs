// SPDX-License-Identifier: Apache-2.0
//! The rules of xDS as state machines, both ends: messages in, messages out.
//!
//! [`server::DeltaSession`] and [`server::SotwSession`] are the serving end of one ADS stream in the two variants of the
//! protocol, [`client::DeltaClient`] is the asking end across streams. Messages are those of `envoy-types`. Because neither end owns a socket, tests drive them against each other with
//! lost streams, rejected resources and any interleaving (`tests/pair.rs`), and hold them to the published protocol
//! sentence by sentence (`tests/conformance.rs`).
//!
//! What must always be true: no input makes either end panic; both ends converge on the content that the client
//! accepts; nothing that the client holds is sent to it again unless it asks; memory is bounded by what is subscribed.
//!
//! Deliberately not here: sockets, clocks, tasks, what resources mean, and a state-of-the-world client: our agents speak
//! delta.
//!
//! Source of the rules: the xDS protocol document of Envoy (`xds_protocol.rst`) and the comments of `discovery.proto`.
#![forbid(unsafe_code)]

pub mod client;
pub mod nack;
pub mod names;
pub mod resource;
pub mod server;
mod stable;
pub mod type_url;
pub mod version;
mod wire;

pub use client::{Change, DeltaClient, Event, Interest, Outcome};
pub use names::{ClusterName, NameError, Protocol, ServiceName};
pub use resource::EncodedResource;
pub use server::{
    Changes, DeltaSession, Limits, Rejection, ResourceSource, Response, Session, SessionError, SessionReport,
    SotwSession,
};
pub use version::Version;
