// SPDX-License-Identifier: Apache-2.0
//! The baseline: what kube-proxy's nftables mode installs on a node, in its shape.
//!
//! A map from service address to a chain per Service, there a random pick, a chain per endpoint with the DNAT, and
//! masquerading only for a pod that reaches itself. So servers see the client pod's own address, as on a real node.
//! Installed in one transaction, in the node's own network namespace.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;

use crate::node::Node;

/// Path of the `nft` command, if it is not in `PATH`.
pub const NFT: &str = "EVENKEEL_NFT";

/// A Service as the baseline sees it.
#[derive(Debug, Clone)]
pub struct BaselineService {
    /// Names its chains: letters, digits and dashes.
    pub name: String,
    /// The Service's address.
    pub vip: Ipv4Addr,
    /// The Service's port.
    pub port: u16,
    /// Endpoints, each as likely as the others.
    pub endpoints: Vec<SocketAddrV4>,
}

/// A rule set for any number of nodes.
#[derive(Debug, Clone, Default)]
pub struct Baseline {
    services: Vec<BaselineService>,
}

impl Baseline {
    /// Rules for these Services.
    pub fn new(services: Vec<BaselineService>) -> Self {
        Self { services }
    }

    /// Installs the rules on `node`, in place of what is there, in one transaction.
    ///
    /// # Errors
    /// No `nft`, or the kernel refuses the rules.
    pub fn install(&self, node: &Node) -> Result<()> {
        nft(node, &self.script())
    }

    /// Removes the rules from `node`, and what connection tracking knows of them stays until it expires.
    ///
    /// # Errors
    /// As [`Baseline::install`].
    pub fn remove(node: &Node) -> Result<()> {
        nft(node, &format!("{}delete table ip kube-proxy\n", Self::declare()))
    }

    /// Declaring before deleting makes both work whether or not the table is there.
    fn declare() -> &'static str {
        "table ip kube-proxy {}\n"
    }

    fn script(&self) -> String {
        let mut script = format!("{}delete table ip kube-proxy\n", Self::declare());
        script.push_str("table ip kube-proxy {\n");
        for service in &self.services {
            service.chains(&mut script);
        }
        script.push_str("map service-ips {\ntype ipv4_addr . inet_proto . inet_service : verdict\n");
        let elements: Vec<String> = self.services.iter().map(BaselineService::element).collect();
        if !elements.is_empty() {
            let _ = writeln!(script, "elements = {{ {} }}", elements.join(", "));
        }
        script.push_str(
            "}\n\
             chain services { ip daddr . meta l4proto . th dport vmap @service-ips\n}\n\
             chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services\n}\n\
             chain nat-output { type nat hook output priority -100; policy accept; jump services\n}\n\
             chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; \
             meta mark & 0x4000 != 0 masquerade\n}\n}\n",
        );
        script
    }
}

impl BaselineService {
    fn element(&self) -> String {
        format!("{} . tcp . {} : goto service-{}", self.vip, self.port, self.name)
    }

    fn endpoint_chain(&self, endpoint: &SocketAddrV4) -> String {
        format!("endpoint-{}-{}-{}", self.name, endpoint.ip().to_string().replace('.', "-"), endpoint.port())
    }

    fn chains(&self, script: &mut String) {
        for endpoint in &self.endpoints {
            let _ = writeln!(
                script,
                "chain {} {{\nip saddr {} meta mark set meta mark | 0x4000\nmeta l4proto tcp dnat to {endpoint}\n}}",
                self.endpoint_chain(endpoint),
                endpoint.ip()
            );
        }
        let _ = writeln!(script, "chain service-{} {{", self.name);
        if self.endpoints.is_empty() {
            // As kube-proxy: a Service without endpoints refuses.
            script.push_str("drop\n");
        } else {
            let picks = self.endpoints.iter().enumerate();
            let picks: Vec<_> =
                picks.map(|(i, endpoint)| format!("{i} : goto {}", self.endpoint_chain(endpoint))).collect();
            let _ = writeln!(script, "numgen random mod {} vmap {{ {} }}", picks.len(), picks.join(", "));
        }
        script.push_str("}\n");
    }
}

/// Runs an nft script on `node`.
pub(crate) fn nft(node: &Node, script: &str) -> Result<()> {
    let program = std::env::var(NFT).unwrap_or_else(|_| "nft".into());
    node.exec_with(&[&program, "-f", "-"], script).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_picks_among_as_many_chains_as_it_has_endpoints() {
        let endpoint = |n| SocketAddrV4::new(Ipv4Addr::new(10, 244, 1, n), 80);
        let vip = Ipv4Addr::new(10, 96, 0, 1);
        let service =
            BaselineService { name: "a".into(), vip, port: 8, endpoints: vec![endpoint(2), endpoint(3)] };
        let script = Baseline::new(vec![service]).script();
        assert!(script.contains("numgen random mod 2 vmap { 0 : goto endpoint-a-10-244-1-2-80, 1 : goto"));
        assert!(script.contains("10.96.0.1 . tcp . 8 : goto service-a"));
    }

    #[test]
    fn no_services_make_a_valid_empty_map() {
        assert!(!Baseline::default().script().contains("elements"));
    }
}
