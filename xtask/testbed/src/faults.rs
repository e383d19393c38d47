// SPDX-License-Identifier: Apache-2.0
//! Network faults: partitions and policies, as packet filters of one node. A [`Fault`] heals when dropped.
//!
//! The faults of processes (killed, hung) are methods of [`crate::Process`], those of nodes of [`crate::Node`].

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::baseline::nft;
use crate::node::Node;
use crate::pod::Pod;

/// A fault in force.
#[must_use = "a fault heals when it is dropped"]
pub struct Fault {
    node: Node,
    table: String,
    healed: bool,
}

impl Fault {
    fn install(node: &Node, rules: &[String]) -> Result<Self> {
        static FAULTS: AtomicU32 = AtomicU32::new(0);
        let table = format!("fault-{}", FAULTS.fetch_add(1, Ordering::Relaxed));
        let rules = rules.join("\n");
        let chains: String = ["input", "output", "forward"]
            .iter()
            .map(|hook| {
                format!("chain {hook} {{ type filter hook {hook} priority 0; policy accept;\n{rules}\n}}\n")
            })
            .collect();
        nft(node, &format!("table inet {table} {{\n{chains}}}\n"))?;
        Ok(Self { node: node.clone(), table, healed: false })
    }

    /// Ends the fault.
    ///
    /// # Errors
    /// The filter cannot be removed.
    pub fn heal(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.healed, true) || !self.node.alive() {
            return Ok(());
        }
        nft(&self.node, &format!("delete table inet {}\n", self.table))
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("a fault on {} does not heal: {error:#}", self.node.name());
        }
    }
}

/// Drops everything between `node` (and its pods) and `address`.
///
/// # Errors
/// No `nft`, or the kernel refuses the rules.
pub fn partition(node: &Node, address: IpAddr) -> Result<Fault> {
    let family = family(address);
    Fault::install(
        node,
        &[format!("{family} saddr {address} drop"), format!("{family} daddr {address} drop")],
    )
}

/// Drops what `client` sends to `server`, at the server's node: what a NetworkPolicy that forbids it does.
///
/// # Errors
/// As [`partition`].
pub fn deny(client: &Pod, server: &Pod) -> Result<Fault> {
    let pair = |from: IpAddr, to: IpAddr| format!("{0} saddr {from} {0} daddr {to} drop", family(from));
    Fault::install(
        server.node(),
        &[
            pair(client.address().into(), server.address().into()),
            pair(client.address6().into(), server.address6().into()),
        ],
    )
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}
