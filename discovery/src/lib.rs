// SPDX-License-Identifier: Apache-2.0
//! The endpoint discovery service: Kubernetes objects in, xDS out.
//!
//! ```text
//! sources ──changes──▶ index ──views──▶ snapshot ──▶ serve (one task per ADS stream)
//!  (our cluster and    (single writer,   (immutable,     ▲
//!   fallbacks: API      plain methods)    per revision)  └ translate: view × client zone → bytes (pure)
//!   server or files)
//! ```
//!
//! What must always be true:
//!
//! * The last good state stays in force. An object, file, label or annotation that cannot be understood is a
//!   [`fault::Fault`]: logged once, counted, and carried in the Service's resource; it never empties anything.
//! * One writer (the indexer) changes the index; everybody else reads immutable [`snapshot::Snapshot`]s.
//! * Equal content gives equal bytes, so versions are hashes of content: a restarted server, or a second replica, sends
//!   nothing to a client that already holds it.
//!
//! Deliberately not here: the rules of xDS (`evenkeel-xds`), and anything about nodes' kernels.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod auth;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod events;
pub mod fault;
pub mod feed;
pub mod http;
pub mod index;
mod indexer;
pub mod link;
pub mod load;
pub mod metrics;
pub mod objects;
pub mod options;
pub mod overview;
pub mod pace;
pub mod registry;
pub mod serve;
pub mod snapshot;
pub mod source;
pub mod strings;
pub mod tls;
pub mod translate;
pub mod view;
