// SPDX-License-Identifier: Apache-2.0
//! The asking end: what one client wants and holds, across any number of streams.
//!
//! [`DeltaClient`] writes the first requests of a stream, checks responses resource by resource, and answers them. It
//! remembers names and versions; what the resources mean is the caller's: `validate` turns a resource into a value or
//! gives a reason why not, and the caller applies the resulting events as one batch.
//!
//! What must always be true:
//! * only what was accepted is remembered, so a reconnect asks again for what was rejected;
//! * a bad resource never takes good ones of the same response with it, and what was held of its name stays in force;
//! * every response of a live stream gets exactly one reply.
//!
//! Deliberately not here: connecting, backing off, files, and the contents of resources.

mod delta;
mod interest;

pub use delta::{Change, DeltaClient, Event, Outcome, Rejected};
pub use interest::Interest;
