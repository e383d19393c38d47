// SPDX-License-Identifier: Apache-2.0
//! A simulator: discrete events in virtual time, to judge a balancing policy before it meets traffic.
//!
//! Always true here: every choice is made by the pickers of `evenkeel-balance`, never by a copy of them; a run is a
//! function of scenario, policy and seed, the same bytes on any machine; memory does not grow with simulated time.
//!
//! * [`model`]: the world and the policies, as plain data;
//! * [`engine`]: runs one policy in one world;
//! * [`outcome`]: what came out;
//! * [`scenario`], [`trace`]: both from files, strictly;
//! * [`report`]: a table, JSON, drawings;
//! * [`cli`]: the command `evenkeel simulate`.
//!
//! Deliberately not here: sockets, clocks, the agent's wiring.
#![forbid(unsafe_code)]

pub mod cli;
pub mod engine;
pub mod model;
pub mod outcome;
pub mod report;
pub mod scenario;
pub mod trace;

pub use engine::run;
