// SPDX-License-Identifier: Apache-2.0
//! The admin API: what a running agent tells its owner, as gRPC on a unix socket.
//!
//! | file | what it is |
//! |---|---|
//! | `facts` | what can be asked, as one trait |
//! | `describe` | snapshot and facts into messages |
//! | `explain` | why a connect to an address goes where it goes |
//! | `resolve` | a Service by the name a person typed |
//! | `server` | the RPCs |
//! | `socket` | the unix socket: owner only, handed over without a gap |
//!
//! Always true: reads only, nothing here can change what traffic does; only root and the agent's own user are answered.

mod describe;
mod explain;
pub mod facts;
mod resolve;
mod server;
mod socket;

pub use facts::Facts;
pub use server::serve;
pub use socket::{AdminSocket, PreparedSocket, SocketError};
