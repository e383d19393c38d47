// SPDX-License-Identifier: Apache-2.0
//! Small TCP peers for tests of connections: a server that says who it is and whom it sees, and a client that counts
//! what it got. Both are subcommands, run inside pods.
//!
//! Deliberately not here: HTTP/2 and load ([`crate::peer`]).

pub mod connect;
pub mod echo;
