// SPDX-License-Identifier: Apache-2.0
//! A node's init: PID 1 of its pid namespace, a small spawn server on a socket to the node's creator.
//!
//! What must always be true: when the socket closes (its creator is gone, however) init ends, and the kernel ends
//! everything in the node with it; every child is reaped, and the end of each spawned one is reported.
//!
//! Deliberately not here: links and addresses ([`crate::veth`]) and anything about what is spawned.

mod channel;
mod machine;
mod serve;
mod setup;
mod wire;

pub(crate) use channel::{Channel, Started};
pub(crate) use machine::Machine;
pub use setup::node_init;
pub(crate) use wire::{Request, SpawnRequest};
