// SPDX-License-Identifier: Apache-2.0
//! What the agent knows of Services and endpoints: one immutable [`Snapshot`], one writer, any number of readers.
//!
//! The writer ([`StoreWriter`]) takes batches of accepted resources and publishes one new snapshot per batch; parts that did
//! not change are shared with the one before. Readers hold a [`Store`]: [`Store::current`] costs an atomic load, and
//! [`Store::changes`] wakes on each publication. The load of an endpoint ([`EndpointLoad`]) is the one mutable thing: it
//! belongs to the address and survives from snapshot to snapshot, so that a change of the list forgets nothing.
//!
//! Deliberately not here: where resources come from ([`crate::xds`]) and what is made of them ([`crate::kernel`],
//! [`crate::proxy`]).

mod build;
pub mod decode;
mod load;
mod model;
pub mod persist;
mod snapshot;

pub use build::{Batch, Store, StoreWriter};
pub use load::{EndpointLoad, InFlight, Outcome};
pub use model::{
    Application, Balance, Cluster, Endpoint, Port, Protocol, Service, ServiceName, ServiceSpec, ZonePolicy,
};
pub use model::{ClusterSpec, EndpointSpec};
pub use snapshot::{Frontend, Snapshot};
