// SPDX-License-Identifier: Apache-2.0
//! The endpoint discovery service: Kubernetes objects in, xDS out.
//!
//! ```text
//! source ──changes──▶ index ──views──▶ snapshot ──▶ serve (one task per ADS stream)
//!  (files now,        (single writer,   (immutable,     ▲
//!   API server later)  plain methods)    per revision)  └ translate: view × client zone → bytes (pure)
//! ```
//!
//! What must always be true:
//!
//! * The last good state stays in force. An object, file, label or annotation that cannot be understood is a
//!   [`fault::Fault`]: logged once, counted, and carried in the Service's resource; it never empties anything.
//! * One writer ([`app`]'s indexer) changes the index; everybody else reads immutable [`snapshot::Snapshot`]s.
//! * Equal content gives equal bytes, so versions are hashes of content: a restarted server, or a second replica, sends
//!   nothing to a client that already holds it.
//!
//! Deliberately not here: the rules of xDS (`evenkeel-xds`), and anything about nodes' kernels.
#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod fault;
pub mod http;
pub mod index;
pub mod metrics;
pub mod objects;
pub mod options;
pub mod serve;
pub mod snapshot;
pub mod source;
pub mod translate;
pub mod view;
