// SPDX-License-Identifier: Apache-2.0
//! What can be asked of a running agent: plain values behind one trait.
//!
//! The seam between those who run (`app`) and those who show (`admin`, `telemetry`): reading changes nothing, takes no lock
//! for long, and works at any moment of the agent's life. Tests put a table behind it.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use evenkeel_abi::Stance;

use crate::store::{EndpointLoad, ServiceName, Snapshot};

/// Everything that may be asked.
pub trait Facts: Send + Sync + 'static {
    /// Who this agent is.
    fn identity(&self) -> Identity;
    /// What of readiness is fulfilled.
    fn readiness(&self) -> Readiness;
    /// The snapshot in force.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// The connection to discovery.
    fn discovery(&self) -> DiscoveryFacts;
    /// Programs and maps.
    fn kernel(&self) -> KernelFacts;
    /// The proxy.
    fn request_path(&self) -> RequestPathFacts;
    /// The pods' namespaces of this node that were found.
    fn pods(&self) -> Vec<PodFacts>;
    /// Client connections in the request path.
    fn connections(&self) -> Vec<ConnectionFacts>;
    /// Open sockets that the kernel placed, by endpoint and IP protocol number.
    fn open_sockets(&self) -> HashMap<(SocketAddr, u8), u64>;
    /// Whether the request path leaves an endpoint out because connects to it failed.
    fn backing_off(&self, load: &EndpointLoad) -> bool;
    /// Requests by Service since the agent's start.
    fn service_requests(&self) -> Vec<(ServiceName, Requests)>;
    /// What a person should look at and the snapshot does not know: map errors, rejected resources.
    fn faults(&self) -> Vec<String>;
}

/// Who this agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Version of the binary.
    pub version: &'static str,
    /// Name of the node.
    pub node: String,
    /// Zone of the node; empty when unknown.
    pub zone: String,
    /// Generation: the larger of two agents is the newer.
    pub generation: u64,
    /// Time since the start.
    pub uptime: Duration,
}

/// The conditions of readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Programs are attached.
    pub attached: bool,
    /// A first snapshot, of discovery or of the last-good file, is in the maps.
    pub snapshot: bool,
    /// The namespaces that were there at the start have their listeners.
    pub namespaces: bool,
    /// The heartbeat is fresh.
    pub heartbeat: bool,
    /// The agent is on its way out.
    pub draining: bool,
}

/// The connection to discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryFacts {
    /// Where it is.
    pub address: String,
    /// Whether a stream is open.
    pub connected: bool,
    /// Time since the last message; since the start when there was none.
    pub last_message: Duration,
    /// Streams opened since the start.
    pub streams_opened: u64,
    /// Resources that are rejected now.
    pub resources_rejected: u64,
    /// Where the snapshot in force comes from: `discovery`, `last-good file` or `nothing yet`.
    pub source: &'static str,
    /// Why the last stream ended; empty when none did.
    pub last_error: String,
    /// How often streams ended or could not be opened, by kind of reason.
    pub failures: BTreeMap<&'static str, u64>,
}

/// Programs and maps.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelFacts {
    /// Folder of the pins.
    pub pins: PathBuf,
    /// Where the programs are attached.
    pub cgroup: PathBuf,
    /// Age of the heartbeat; `None` before the first.
    pub heartbeat_age: Option<Duration>,
    /// Age from which it is stale.
    pub stale_after: Duration,
    /// Age from which every connect is left alone.
    pub stand_aside_after: Duration,
    /// Outcome counters by name, summed over CPUs.
    pub counters: Vec<(&'static str, u64)>,
    /// Fill of the maps.
    pub maps: Vec<Pressure>,
    /// Publications of snapshots: the newest in the maps, their total time, and the time of the last.
    pub publications: Publications,
}

/// Fill of one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Its name.
    pub map: &'static str,
    /// Entries in use.
    pub used: u64,
    /// Entries there are.
    pub capacity: u64,
}

/// Which snapshots were brought into the maps, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Publications {
    /// Revision of the newest snapshot of which all went in; zero before the first.
    pub revision: u64,
    /// How many.
    pub count: u64,
    /// All of them together.
    pub total: Duration,
    /// The last one.
    pub last: Duration,
    /// Operations on maps that failed.
    pub failed_operations: u64,
}

/// The proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestPathFacts {
    /// Client connections open now.
    pub client_connections: u64,
    /// Upstream connections open now.
    pub upstream_connections: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Requests begun since the start.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
}

/// Requests of one Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Begun.
    pub requests: u64,
    /// Failed.
    pub failures: u64,
}

/// A pod's namespace on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Name of the namespace (its file), or how else it was found.
    pub name: String,
    /// Whether the request path listens there on IPv4.
    pub listens_v4: bool,
    /// Whether it listens on IPv6.
    pub listens_v6: bool,
    /// Why it does not, where it does not.
    pub fault: Option<String>,
}

/// A client connection in the request path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// Name of the pod's namespace.
    pub pod: String,
    /// The Service it was meant for.
    pub service: String,
    /// The client's address and port.
    pub client: String,
    /// The endpoint; empty when requests go to many.
    pub endpoint: String,
    /// `http2`, `spliced`, or `sniffing` before it is known.
    pub application: &'static str,
    /// Requests so far.
    pub requests: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// How long it has been open.
    pub age: Duration,
}

// === impl Readiness ===

impl Readiness {
    /// What is missing, one sentence each, in the order of the start; empty when ready.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let Self { attached, snapshot, namespaces, heartbeat, draining } = *self;
        [
            (attached, "the kernel programs are not attached yet"),
            (snapshot, "no endpoints yet, neither from discovery nor from the last-good file"),
            (namespaces, "the pods' network namespaces have not been scanned yet"),
            (heartbeat, "the heartbeat is not fresh"),
            (!draining, "the agent is draining"),
        ]
        .into_iter()
        .filter_map(|(fulfilled, sentence)| (!fulfilled).then_some(sentence))
        .collect()
    }
}

// === impl KernelFacts ===

impl KernelFacts {
    /// What the age of the heartbeat makes the programs do; the same rule as theirs.
    #[must_use]
    pub fn stance(&self) -> Stance {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match self.heartbeat_age {
            None => Stance::Aside,
            // The rule takes moments; only their distance matters, and a moment of zero means never.
            Some(age) => evenkeel_abi::stance(
                ns(age).saturating_add(1),
                1,
                ns(self.stale_after),
                ns(self.stand_aside_after),
            ),
        }
    }
}

/// The word for a stance in the API.
#[must_use]
pub fn stance_word(stance: Stance) -> &'static str {
    match stance {
        Stance::Serve => "serve",
        Stance::Kernel => "kernel",
        Stance::Aside => "aside",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Readiness =
        Readiness { attached: true, snapshot: true, namespaces: true, heartbeat: true, draining: false };

    #[test]
    fn each_condition_of_readiness_has_its_own_sentence() {
        assert!(READY.missing().is_empty());
        let lacking = [
            Readiness { attached: false, ..READY },
            Readiness { snapshot: false, ..READY },
            Readiness { namespaces: false, ..READY },
            Readiness { heartbeat: false, ..READY },
            Readiness { draining: true, ..READY },
        ];
        let mut sentences: Vec<_> = lacking.iter().flat_map(Readiness::missing).collect();
        assert_eq!(sentences.len(), lacking.len());
        sentences.sort_unstable();
        sentences.dedup();
        assert_eq!(sentences.len(), lacking.len());
        assert_eq!(Readiness::default().missing().len(), 4, "an agent that just started lacks everything");
    }
}
