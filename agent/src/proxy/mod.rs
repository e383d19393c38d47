// SPDX-License-Identifier: Apache-2.0
//! The request path: connections that the kernel handed over, HTTP/2 balanced per request, everything else spliced.
//!
//! ```text
//! accepted socket ─▶ accept: original destination ─▶ sniff ─┬─ HTTP/2 ─▶ session ─▶ request ─▶ pick ─▶ pool ─▶ forward
//!                     └ no record: reset                    └─ other ──▶ splice: pick per connection, copy
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `accept` | an accepted socket until it is known what it carries |
//! | `sniff` | the two byte matchers: client preface, server SETTINGS |
//! | `socket` | a TCP stream with bytes put back, that can be reset while somebody else owns it |
//! | `splice` | bytes both ways |
//! | `upstream` | dialling from inside the pod's namespace |
//! | `pool` | HTTP/2 connections to endpoints, one pool per pod |
//! | `session` | one HTTP/2 connection of a client |
//! | `request` | one request: attempts until one is answered |
//! | `forward` | bodies, trailers and resets in both directions |
//! | `reply` | the answers that the proxy gives itself |
//! | `pick` | the snapshot's picker with what was tried already |
//! | `stats` | counters and the list of connections |
//!
//! Always true:
//! * upstream sockets are made in the client pod's namespace ([`Sockets`]), so the server sees the pod's address;
//! * a connection without a record of its original destination is reset, whoever opened it;
//! * a request is sent a second time only where the first cannot have been processed: the connect failed, the stream was
//!   refused, or it lies above a GOAWAY's last id (RFC 9113, sections 6.8 and 8.7); never once a response has begun;
//! * nothing is buffered without bound: flow-control credit is given back as the other side accepts the bytes;
//! * every request in flight holds a guard of its endpoint's load, released when the response has ended, whatever the end.
//!
//! Deliberately not here: where namespaces come from ([`crate::pods`]), who serves ([`crate::store`]), TLS (never opened).

mod accept;
mod forward;
mod pick;
mod pool;
mod reply;
mod request;
mod session;
mod sniff;
mod socket;
mod splice;
mod state;
mod stats;
mod upstream;

pub use state::{Config, Origins, Pod, Proxy};
pub use stats::{ConnectionRow, ProxyStats, Snapshot as StatsSnapshot};
pub use upstream::{DialError, Sockets};
