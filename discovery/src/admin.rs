// SPDX-License-Identifier: Apache-2.0
//! What a running service tells its owner, as gRPC on a unix socket: the admin API, and CSDS.
//!
//! | file | what it is |
//! |---|---|
//! | `desk` | the handles that answers are read from |
//! | `describe` | Services and clients into messages |
//! | `load` | reported load into messages |
//! | `resolve` | a client by the name that a person typed |
//! | `server` | the RPCs of the admin API |
//! | `csds` | the client status discovery service |
//!
//! What must always be true: reads only; nothing here makes a stream or the indexer wait; only root and the service's own
//! user are answered. Deliberately not here: the unix socket and what a person means by a Service's name
//! ([`evenkeel_console`]); access over TCP, where names of all Services and clients do not belong.

mod csds;
mod describe;
mod desk;
mod load;
mod resolve;
mod server;

pub use self::desk::Desk;
pub use self::server::serve;
