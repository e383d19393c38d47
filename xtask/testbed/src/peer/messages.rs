// SPDX-License-Identifier: Apache-2.0
//! What peers and their orchestrator tell each other, one JSON object per line.
//!
//! Everything is counted by the peer that saw it and added up by whoever asks. Times are Unix microseconds, so that the
//! orchestrator can hold a failure against the instant of the fault it injected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Orchestrator to peer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
pub enum Command {
    /// Client: a new measuring interval starts now. Requests belong to the interval in which they were due.
    Reset,
    /// Client: the interval ends now; answered with [`Line::Report`] once its last request has ended.
    Report,
    /// Client: replace all long-lived connections, losing nothing; answered with [`Line::Reconnected`].
    Reconnect,
    /// Client: open this many short-lived connections per second besides; zero stops it.
    Churn {
        /// Connections per second.
        rps: f64,
    },
}

/// Peer to orchestrator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The first line of every peer.
    Hello {
        /// The pod's name.
        name: String,
    },
    /// A server's state, every [`LIVE_EVERY_MS`](crate::peer::messages::LIVE_EVERY_MS).
    Server(ServerLive),
    /// What a client saw since its last such line.
    Client(ClientLive),
    /// The answer to [`Command::Report`].
    Report(Report),
    /// The answer to [`Command::Reconnect`].
    Reconnected,
}

/// Milliseconds between two live lines of a peer: what a terminal can usefully show.
pub const LIVE_EVERY_MS: u64 = 250;

/// A server's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLive {
    /// Requests that arrived since the start.
    pub requests: u64,
    /// Connections open now.
    pub open_connections: u64,
    /// Requests waiting or being worked on now.
    pub in_flight: u64,
    /// Connections accepted since the start, by the address they came from.
    pub sources: BTreeMap<IpAddr, u64>,
}

/// What a client saw since its last live line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLive {
    /// Requests that ended, well or not.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Connections that could not be opened.
    pub new_connection_errors: u64,
    /// Requests served in the client's own zone.
    pub zone_local: u64,
    /// Latencies as (microseconds, how many).
    pub latencies: Vec<(u64, u64)>,
}

/// One measuring interval of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The client's pod.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Length of the interval.
    pub interval_ms: u64,
    /// Requests due in the interval on the long-lived connections.
    pub requests: u64,
    /// Of these, how many were answered with status OK.
    pub succeeded: u64,
    /// Latencies from the time a request was due, as (microseconds, how many). A request that missed its deadline counts
    /// with the deadline; one that was cut off does not count here.
    pub latencies: Vec<(u64, u64)>,
    /// Answered requests by pod.
    pub pods: BTreeMap<String, u64>,
    /// Answered requests by zone.
    pub zones: BTreeMap<String, u64>,
    /// Failed requests, the first [`FAILURES_KEPT`] of them.
    pub failures: Vec<Failure>,
    /// All failed requests.
    pub failures_total: u64,
    /// Long-lived connections opened.
    pub connects: u64,
    /// Short-lived connections tried.
    pub churned: u64,
    /// Connections that could not be opened, the first [`FAILURES_KEPT`] of them.
    pub new_connection_errors: Vec<NewConnectionError>,
    /// All connections that could not be opened.
    pub new_connection_errors_total: u64,
    /// Responses in which the server saw another address than the client pod's own.
    pub source_mismatches: u64,
    /// For each long-lived connection the pods that answered on it in the interval.
    pub connections: Vec<BTreeSet<String>>,
}

/// Failures beyond this are counted but not listed, so that a report stays small whatever happens.
pub const FAILURES_KEPT: usize = 10_000;

/// A request that was not answered with status OK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When it was due.
    pub at_us: u64,
    /// What happened to it.
    pub kind: FailureKind,
    /// Whether it was the only request of a short-lived connection.
    pub churn: bool,
}

/// What happened to a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// No connection could be had until the deadline.
    NoConnection,
    /// The connection or stream was cut off.
    Reset,
    /// No complete answer before the deadline.
    Deadline,
    /// An answer that is not HTTP 200 with `grpc-status: 0` and a well-formed reply.
    Status,
}

/// A connection that could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewConnectionError {
    /// When `connect` was called.
    pub at_us: u64,
    /// What failed.
    pub kind: NewConnectionErrorKind,
    /// The operating system's or the protocol's words.
    pub detail: String,
}

/// How a connection failed to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewConnectionErrorKind {
    /// `connect` returned an error.
    Connect,
    /// `connect` did not return in time.
    ConnectTimeout,
    /// Connected, then cut off before the peer answered in HTTP/2; maybe before the client had looked.
    HandshakeReset,
    /// Connected, but no answer in HTTP/2 in time.
    HandshakeTimeout,
}
