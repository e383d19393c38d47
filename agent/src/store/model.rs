// SPDX-License-Identifier: Apache-2.0
//! The model: Services with their ports, clusters with their endpoints.
//!
//! `…Spec` types are what a resource says, already validated; [`Cluster`] adds what the agent concludes from it (who serves,
//! by which picker). All are immutable.

use std::{fmt, net::IpAddr, net::SocketAddr, num::NonZeroU32, sync::Arc};

use evenkeel_balance::{
    picker::{Picker, Strategy},
    priority::{Health, Plan},
};

use super::EndpointLoad;

/// `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Label `evenkeel.io/balance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Per connection, in the kernel.
    Connection,
    /// HTTP/2 ports per request, other ports per connection.
    Request,
}

/// Annotation `evenkeel.io/zone`. Discovery has already turned it into priorities; kept to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZonePolicy {
    /// The client's zone first.
    Prefer,
    /// The client's zone only.
    Strict,
    /// All zones alike.
    Ignore,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => evenkeel_abi::PROTOCOL_TCP,
            Self::Udp => evenkeel_abi::PROTOCOL_UDP,
        }
    }
}

/// What a port speaks, as far as the Service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// Not said: sniff.
    Unknown,
    /// HTTP/2 in clear text.
    Http2,
    /// Something that is never opened: balanced per connection.
    Opaque,
}

/// A Service as discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name, which is also the resource name.
    pub name: ServiceName,
    /// How it wants to be balanced.
    pub balance: Balance,
    /// Name in `evenkeel.io/strategy`; may be one that this agent cannot build.
    pub strategy: Arc<str>,
    /// See [`ZonePolicy`].
    pub zone: ZonePolicy,
    /// Cluster IPs.
    pub addresses: Vec<IpAddr>,
    /// Ports, in the order of the Service.
    pub ports: Vec<Port>,
    /// What discovery found wrong with the labels and annotations.
    pub faults: Vec<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name; may be empty.
    pub name: Arc<str>,
    /// Number, host byte order, not zero.
    pub number: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// What it speaks.
    pub application: Application,
    /// Name of the cluster that holds its endpoints.
    pub cluster: Arc<str>,
}

/// Endpoints of one port as discovery lists them for this node's zone. Addresses are distinct.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClusterSpec {
    /// Sorted as received; priorities are contiguous from zero.
    pub endpoints: Vec<EndpointSpec>,
}

/// One endpoint as discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its zone; empty when unknown.
    pub zone: Arc<str>,
    /// Its node; empty when unknown.
    pub node: Arc<str>,
    /// Its pod; empty when unknown.
    pub pod: Arc<str>,
    /// xDS priority, 0 is the best.
    pub priority: u32,
    /// Relative weight.
    pub weight: NonZeroU32,
    /// Health as reported by discovery.
    pub health: Health,
}

/// An endpoint with its load.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What discovery says.
    pub spec: EndpointSpec,
    /// Shared by every snapshot and every cluster that lists this address.
    pub load: Arc<EndpointLoad>,
}

/// A Service in a snapshot.
#[derive(Debug)]
pub struct Service {
    /// What discovery says.
    pub spec: ServiceSpec,
    /// The strategy in force: the one asked for, or the default when this agent cannot build it.
    pub strategy: Strategy,
    /// Endpoints of each port, same order as `spec.ports`. An empty cluster where discovery has not sent one yet.
    pub clusters: Vec<Arc<Cluster>>,
    /// Everything wrong with it, discovery's faults and ours, one sentence each.
    pub faults: Vec<String>,
}

impl Service {
    /// The ports with their clusters.
    pub fn ports(&self) -> impl Iterator<Item = (&Port, &Arc<Cluster>)> {
        self.spec.ports.iter().zip(&self.clusters)
    }

    /// Whether connections to `port` go to the request path: the Service is balanced per request, the port is TCP and not
    /// known to speak something else.
    #[must_use]
    pub fn per_request(&self, port: &Port) -> bool {
        self.spec.balance == Balance::Request
            && port.protocol == Protocol::Tcp
            && port.application != Application::Opaque
    }
}

/// The endpoints of a port, who of them serves, and the picker over those.
#[derive(Debug)]
pub struct Cluster {
    /// Name of the cluster.
    pub name: Arc<str>,
    /// All endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Who serves; indices into `endpoints`.
    pub plan: Plan,
    /// Over `plan.active`: index `i` of a pick is `endpoints[plan.active[i]]`.
    pub picker: Box<dyn Picker>,
    /// The strategy the picker was built for.
    pub strategy: Strategy,
}

impl Cluster {
    /// The endpoints that serve, in plan order.
    pub fn active(&self) -> impl ExactSizeIterator<Item = &Endpoint> {
        self.plan.active.iter().map(|i| &self.endpoints[*i])
    }
}
