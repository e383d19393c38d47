// SPDX-License-Identifier: Apache-2.0
//! The client of discovery: one ADS stream in, batches for the store out.
//!
//! ```text
//! last-good file ─▶ flow (protocol, decoding, store) ◀─▶ stream (tonic) ◀─▶ discovery
//!        ▲                 │ accepted resources
//!        └──── keeper ◀────┘
//! ```
//!
//! The agent subscribes to all Services; the clusters that the accepted Services name drive the subscription to endpoints.
//! Each response becomes one batch and one snapshot. After a start from the last-good file, or after a lost stream, the
//! client resumes with the versions that it holds, so that nothing is sent twice.
//!
//! What must always be true: a broken resource is rejected alone, by name, and what was in force of it stays; a lost stream or
//! an unreachable discovery changes nothing that is in force; the file holds accepted resources only.
//!
//! Start it with [`run`], watch it through [`status`]. Deliberately not here: the protocol (`evenkeel_xds`), the checks
//! ([`crate::store::decode`]), the file's format ([`crate::store::persist`]).

pub mod backoff;
mod flow;
mod keeper;
mod status;
mod stream;
mod task;
mod tls;

pub use status::{Rejected, Source, Status, status};
pub use task::{XdsConfig, run};
