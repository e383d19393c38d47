// SPDX-License-Identifier: Apache-2.0
//! The demo's numbers, each with its reason.
//!
//! They belong together: capacity per pod is `WORKERS / SERVICE_TIME`, load per pod is the sum of `RATE` over the clients
//! divided by the pods, and the first is a little less than twice the second.

use std::time::Duration;

/// The nodes and their zones, as in `deploy/demo/nodes.yaml`.
pub(super) const NODES: [(&str, &str); 6] = [
    ("node-a1", "zone-a"),
    ("node-a2", "zone-a"),
    ("node-b1", "zone-b"),
    ("node-b2", "zone-b"),
    ("node-c1", "zone-c"),
    ("node-c2", "zone-c"),
];
/// Server pods on each node: twelve in all, four in a zone.
pub(super) const SERVERS_PER_NODE: usize = 2;
/// The pod that is slower than the others.
pub(super) const SLOW_POD: &str = "echo-a1";
/// The zone that goes: not the slow pod's, so that what remains is not equal either.
pub(super) const OUTAGE_ZONE: &str = "zone-c";
/// The node whose agent is killed.
pub(super) const KILLED_NODE: &str = "node-b1";
/// The node whose agent is stopped.
pub(super) const HUNG_NODE: &str = "node-c1";

/// The Service that both stages have.
pub(super) const SERVICE_YAML: &str = include_str!("../../../../deploy/demo/service.yaml");
/// The Service's address and port, as in `deploy/demo/service.yaml`.
pub(super) const TARGET: &str = "10.96.0.10:8080";
/// NAMESPACE and NAME of the Service.
pub(super) const SERVICE: (&str, &str) = ("demo", "echo");
/// Port of the Service.
pub(super) const SERVICE_PORT: u16 = 8080;
/// Port that the pods listen on.
pub(super) const POD_PORT: u16 = 50051;

/// Requests that a pod works on at once.
pub(super) const WORKERS: usize = 3;
/// Long against what the network and the machine's two cores add, so that queues at the pods decide the latency.
pub(super) const SERVICE_TIME_US: u64 = 12_000;
/// Enough to fill the slow pod at its even share (its capacity is then 150 requests a second), little enough that the
/// other three pods of its zone can carry what it does not take and stay within a tenth of the mean.
pub(super) const SLOW_FACTOR: f64 = 1.65;
/// Requests per second of each client: 125 for each pod, half of its capacity, and with a zone gone three quarters.
pub(super) const RATE: f64 = 250.0;
/// One for each pod of a zone. A random choice then gives a pod twice its share or more in nearly every run, as with
/// the few long-lived connections of real gRPC clients.
pub(super) const CONNECTIONS: usize = 4;
/// Of a request, from the time it is due. Long enough that only real overload or a real fault misses it.
pub(super) const REQUEST_DEADLINE_MS: u64 = 2_000;
/// Short-lived connections per second and client while agents are killed and stopped: enough that an agent's death
/// would hit dozens of them, few enough to leave the machine idle.
pub(super) const CHURN: f64 = 30.0;
/// The baseline draws its connections anew this many times and is measured over all draws, so that one lucky or
/// unlucky draw does not decide the comparison.
pub(super) const BASELINE_DRAWS: u32 = 2;

/// Measured per phase unless the command line says otherwise.
pub(super) const PHASE: Duration = Duration::from_secs(9);
/// From new connections to the first measured request: what overload has left in queues is gone after one deadline.
pub(super) const WARM_UP: Duration = Duration::from_millis(2_300);
/// Quiet load before a fault, so that the fault hits traffic in its stride.
pub(super) const BEFORE_FAULT: Duration = Duration::from_secs(1);
/// When the heartbeat of a hung agent counts as stale, by the agent's default.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(2);

/// For processes to start and introduce themselves.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(20);
/// For a change of manifests to be in force on every node. It takes milliseconds.
pub(super) const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);
/// For all clients to have new connections, through overload too.
pub(super) const RECONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// For the last requests of an interval to end.
pub(super) const REPORT_DEADLINE: Duration = Duration::from_millis(REQUEST_DEADLINE_MS + 5_000);

/// What the demo promises, from the project's targets.
pub(super) mod promise {
    /// Busiest endpoint over the mean, balanced per request, without the slow pod.
    pub(in crate::demo) const SKEW: f64 = 1.10;
    /// The slow pod's requests over the mean of the others: "visibly less".
    pub(in crate::demo) const SLOW_SHARE: f64 = 0.85;
    /// Requests served in the client's zone.
    pub(in crate::demo) const ZONE_LOCAL: f64 = 0.99;
    /// p99 balanced per request over the baseline's.
    pub(in crate::demo) const P99_RATIO: f64 = 0.5;
    /// Open connections, busiest minus least busy endpoint of a zone.
    pub(in crate::demo) const CONNECTION_SPREAD: u64 = 3;
}
