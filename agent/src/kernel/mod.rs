// SPDX-License-Identifier: Apache-2.0
//! The agent's side of the kernel programs: what they are loaded from, attached to, told and asked.
//!
//! ```text
//! snapshot ─compile─▶ image ─diff─▶ operations ─apply─▶ SERVICES, SLOTS, BACKENDS      (writer: one per process)
//! pods ─▶ LISTENERS, PODS        heartbeat ─▶ CONTROL        proxy ◀─ ORIGINS        telemetry ◀─ COUNTERS, LOADS
//! ```
//!
//! [`Kernel::open`] probes the node, loads the programs over new maps or over those that an earlier agent left pinned, and
//! attaches them or swaps them in. It hands out parts, each used by one other module:
//!
//! | part | for |
//! |---|---|
//! | [`KernelWriter`] | publishing snapshots: `publish`, `tick` |
//! | [`Heartbeat`] | `claim` the node, `beat`, learn of a newer agent |
//! | [`Listeners`], [`Pods`] | registering the pods' listeners and addresses |
//! | [`Origins`] | where an accepted connection wanted to go |
//! | [`Loads`], [`Counters`] | what the programs counted |
//! | [`Events`], [`KernelLog`] | what the programs say at once |
//! | [`ExitHook`] | the kernel says that this agent has died |
//!
//! Until the first [`Heartbeat::claim`] the programs leave every connect alone.
//!
//! Always true: programs and maps outlive the agent; nothing here ends with the process but its listeners. An agent that
//! finds maps of another ABI changes nothing. [`detach`] takes everything away.
//!
//! Deliberately not here: which endpoints serve (the snapshot says), namespaces and sockets ([`crate::pods`]).

mod apply;
mod array;
mod attach;
mod bpf;
pub mod cgroup;
mod compile;
mod counters;
mod diff;
mod error;
mod events;
mod exit;
mod heartbeat;
mod image;
mod loader;
mod maps;
mod open;
mod ownership;
pub mod probe;
mod reconcile;
mod space;
#[cfg(test)]
mod testing;
mod writer;

pub use apply::{BpfSink, MapSink};
pub use attach::detach;
pub use compile::compile;
pub use counters::Counters;
pub use diff::{Capacity, Full, GRACE, Operation, Tables};
pub use error::KernelError;
pub use events::{Events, KernelLog};
pub use exit::ExitHook;
pub use heartbeat::{ALIVE, Beat, Heartbeat, judge};
pub use image::{Image, ServiceImage, Weighted};
pub use maps::{Family, Listeners, Loads, Origins, Pods, backend, origin_key};
pub use open::{Config, Kernel};
pub use ownership::Ownership;
pub use reconcile::{Contents, recover};
pub use writer::{KernelWriter, Report, WriteError};
