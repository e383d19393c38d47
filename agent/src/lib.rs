// SPDX-License-Identifier: Apache-2.0
//! The node agent: endpoints from discovery, into BPF maps and into the request path.
//!
//! ```text
//! discovery ──xds──▶ store (one immutable snapshot) ─┬─▶ kernel: compile ▶ diff ▶ apply ─▶ BPF maps
//!                                                    └─▶ proxy: per-request pick ─▶ pods
//! pods: network namespaces of the node ──▶ a listener in each, in a socket map and served by the proxy
//! admin, telemetry: read everything, change nothing
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`store`] | the model, the snapshot, its single writer |
//! | [`xds`] | the client of discovery |
//! | [`kernel`] | programs, maps, links, pins |
//! | [`pods`] | namespaces found, listeners opened and registered |
//! | [`proxy`] | the request path: sniff, HTTP/2 per request, splice |
//! | [`admin`], [`cli`] | the unix-socket API and the commands that use it |
//! | [`clock`] | the monotonic clock that all of them tell time in |
//! | [`app`] | wiring: start order, readiness, heartbeat, drain |
//!
//! Always true: the snapshot has one writer; readers never see halves; whatever is invalid leaves the last good state in
//! force. `unsafe` is confined to [`kernel`], [`pods`] and the holder in [`app`].

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod kernel;
pub mod pods;
pub mod proxy;
pub mod store;
pub mod telemetry;
pub mod xds;
