// SPDX-License-Identifier: Apache-2.0
//! Logs, metrics and readiness.
//!
//! | file | what it is |
//! |---|---|
//! | `logs` | the tracing subscriber, and panics that end the process |
//! | `metrics` | the facts as Prometheus metrics, read when they are scraped |
//! | `http` | `/metrics`, `/ready`, `/healthz` |
//!
//! Always true: nothing here polls; a scrape costs what it reads, and no scrape costs nothing.

mod http;
mod logs;
mod metrics;

pub use http::{HttpError, HttpServer};
pub use logs::{LogError, exit_on_panic, init_logs};
pub use metrics::Metrics;
