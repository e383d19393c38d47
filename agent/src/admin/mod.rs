// SPDX-License-Identifier: Apache-2.0
//! The admin API: what a running agent tells its owner, as gRPC on a unix socket.
//!
//! | file | what it is |
//! |---|---|
//! | `facts` | what can be asked, as one trait |
//! | `describe` | snapshot and facts into messages |
//! | `explain` | why a connect to an address goes where it goes |
//! | `server` | the RPCs |
//!
//! Always true: reads only, nothing here can change what traffic does; only root and the agent's own user are answered.
//!
//! Deliberately not here: the unix socket and what a person means by a name ([`evenkeel_console`]).

mod describe;
mod explain;
pub mod facts;
mod server;

pub use facts::Facts;
pub use server::serve;
