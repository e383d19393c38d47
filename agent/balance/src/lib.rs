// SPDX-License-Identifier: Apache-2.0
//! Pure balancing: which endpoints serve, in what proportion, and which one takes the next request.
//!
//! Always true here: no I/O, no clock, no randomness of its own (see `clippy.toml`). Time and random numbers are
//! arguments, so that the same code runs in the agent, in the kernel's slot tables and in a simulator, and gives the
//! same answer for the same input on any machine.
//!
//! * [`priority`]: from endpoints with priorities and health to the set that serves now, with the reason;
//! * [`alias`]: any weights to a table from which a weighted draw costs the same for all;
//! * [`picker`]: who takes the next request, given a view of the loads;
//! * [`rng`]: the generator trait and a small seeded generator.
//!
//! Deliberately not here: sockets, requests, xDS, BPF maps. To add a picker, write one file in `picker/` and one line
//! in its registry.
#![forbid(unsafe_code)]

pub mod alias;
pub mod picker;
pub mod priority;
pub mod rng;
