// SPDX-License-Identifier: Apache-2.0
//! Links, addresses and routes, as scripts for `ip -batch`.
//!
//! The address plan, in one place: node N has 172.30.0.N and fd30::N; its pods have 10.244.N.P and fd44:N::P, with
//! the node as gateway at .1; Services live in 10.96.0.0/16 and fd96::/112, and the fabric (.254)
//! takes them for its own and listens nowhere, so that a connect which nobody redirected is refused at once. (An ICMP
//! "unreachable" would not do: it often arrives while `connect` still holds the socket, which then waits a second.)
//! Everything is routed, also between pods of one node, so that rules of the node see all of a pod's traffic.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::namespace;
use crate::wait::eventually;

/// Highest number of an ordinary node: routes to all of them are laid at once, so that nodes may come in any order.
pub(crate) const MAX_NODES: u8 = 24;
/// The number of the control node.
pub(crate) const CONTROL: u8 = 250;
/// The number of the fabric itself on the nodes' subnet: their default gateway.
const GATEWAY: u8 = 254;
/// Longest time for the bridge to begin.
const FORWARDING: Duration = Duration::from_secs(5);
/// Service addresses of both families.
const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd96::/112"];

pub(crate) fn node_address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, node)
}

pub(crate) fn node_address6(node: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd30, 0, 0, 0, 0, 0, 0, u16::from(node))
}

pub(crate) fn pod_address(node: u8, pod: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, pod)
}

pub(crate) fn pod_address6(node: u8, pod: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd44, u16::from(node), 0, 0, 0, 0, 0, u16::from(pod))
}

/// The bridge, and routes that make it refuse connects to Services.
pub(crate) fn fabric() -> String {
    let mut script = format!(
        "link set lo up\nlink add br0 type bridge\naddr add {}/24 dev br0\naddr add {}/64 dev br0 nodad\nlink set br0 up\n",
        node_address(GATEWAY),
        node_address6(GATEWAY)
    );
    for net in SERVICES {
        let _ = writeln!(script, "route add local {net} dev lo");
    }
    // Its answers must find back to pods.
    for node in 1..=MAX_NODES {
        script.push_str(&route_to_pods(node));
    }
    script
}

/// A node's link, run in the fabric's namespace. `netns` is the node's.
pub(crate) fn node_link(node: u8, netns: &Path) -> String {
    format!(
        "link add n{node} type veth peer name eth0 netns {}\nlink set n{node} master br0\nlink set n{node} up\n",
        netns.display()
    )
}

/// Takes a node's link away, run in the fabric's namespace.
pub(crate) fn unplug(node: u8) -> String {
    format!("link del n{node}\n")
}

/// A node's addresses and routes, run in its namespace.
pub(crate) fn node_routes(node: u8) -> String {
    let mut script = format!(
        "link set lo up\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n\
         route add default via {}\nroute add default via {}\n",
        node_address(node),
        node_address6(node),
        node_address(GATEWAY),
        node_address6(GATEWAY),
    );
    for other in 1..=MAX_NODES {
        if other == node {
            // A pod that is gone is unreachable at once, not after a neighbour timeout.
            let (net4, net6) = (pod_address(node, 0), pod_address6(node, 0));
            let _ = writeln!(script, "route add unreachable {net4}/24\nroute add unreachable {net6}/64");
        } else {
            script.push_str(&route_to_pods(other));
        }
    }
    script
}

fn route_to_pods(node: u8) -> String {
    let (net4, net6) = (pod_address(node, 0), pod_address6(node, 0));
    let (via4, via6) = (node_address(node), node_address6(node));
    format!("route add {net4}/24 via {via4}\nroute add {net6}/64 via {via6}\n")
}

/// A pod's link and its routes on the node, run in the node's mount and network namespaces.
pub(crate) fn pod_link(node: u8, pod: u8, netns: &str) -> String {
    let (gateway4, gateway6) = (pod_address(node, 1), pod_address6(node, 1));
    format!(
        "link add p{pod} type veth peer name eth0 netns {netns}\naddr add {gateway4}/32 dev p{pod}\n\
         addr add {gateway6}/128 dev p{pod} nodad\nlink set p{pod} up\nroute add {}/32 dev p{pod}\nroute add {}/128 dev p{pod}\n",
        pod_address(node, pod),
        pod_address6(node, pod),
    )
}

/// A pod's own addresses and routes, run in its namespace.
pub(crate) fn pod_routes(node: u8, pod: u8) -> String {
    let (gateway4, gateway6) = (pod_address(node, 1), pod_address6(node, 1));
    format!(
        "link set lo up\naddr add {}/32 dev eth0\naddr add {}/128 dev eth0 nodad\nlink set eth0 up\n\
         route add {gateway4}/32 dev eth0 scope link\nroute add default via {gateway4}\n\
         route add {gateway6}/128 dev eth0\nroute add default via {gateway6} dev eth0\n",
        pod_address(node, pod),
        pod_address6(node, pod),
    )
}

/// Waits until the bridge forwards for a node: it begins some time after the link is up, and drops until then.
pub(crate) fn await_forwarding(ip: impl Fn() -> Result<Command>, node: u8) -> Result<()> {
    eventually(&format!("the bridge forwards for node {node}"), FORWARDING, || {
        let mut command = ip()?;
        command.args(["-d", "link", "show", &format!("n{node}")]);
        let output = namespace::run(command, "")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(text.contains("bridge_slave state forwarding"), "{text}");
        Ok(())
    })
}

/// Runs `script` with `ip -batch`; `command` is an `ip` that will run where the script belongs.
pub(crate) fn apply(mut command: Command, script: &str) -> Result<()> {
    command.args(["-batch", "-"]);
    namespace::run(command, script).with_context(|| format!("while running:\n{script}"))?;
    Ok(())
}
