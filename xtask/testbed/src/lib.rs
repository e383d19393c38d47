// SPDX-License-Identifier: Apache-2.0
//! Nodes and pods as namespaces on one machine, real traffic between them, and the faults that real nodes have.
//!
//! What it is: [`Fabric`] holds a bridge in a network namespace; each [`Node`] has mount, pid, cgroup, network,
//! uts and ipc namespaces of its own and a small init; each [`Pod`] has a network namespace and a cgroup, made the
//! way a CNI plugin makes them. The real binaries are started inside and observed from outside.
//!
//! What must always be true: nothing is created in the host's network namespace or under the host's `/run`;
//! dropping the [`Fabric`] removes everything; so does the death of its creator, by any signal ([`cleanup`]).
//!
//! What is deliberately not here: anything of the products' internals. They are started as binaries and talked to
//! over their command lines, sockets and HTTP.

pub mod agent;
pub mod apiserver;
pub mod baseline;
pub mod binaries;
pub mod cgroup;
pub mod cleanup;
pub mod cluster;
pub mod demo;
pub mod discovery;
pub mod fabric;
pub mod faults;
mod hierarchy;
mod init;
pub mod manifest;
mod namespace;
pub mod node;
pub mod pause;
pub mod peer;
pub mod pod;
pub mod probe;
pub mod process;
pub mod sockets;
mod sysctl;
mod veth;
pub mod wait;

pub use agent::{Agent, AgentOptions};
pub use baseline::{Baseline, BaselineService};
pub use cluster::{Cluster, ClusterOptions, ProxyMode};
pub use discovery::{Discovery, DiscoveryOptions};
pub use fabric::Fabric;
pub use init::node_init;
pub use manifest::{EndpointSpec, Manifests, PortSpec, ServiceSpec};
pub use node::Node;
pub use pod::Pod;
pub use process::{Exit, Process, Spawn};
pub use wait::eventually;
