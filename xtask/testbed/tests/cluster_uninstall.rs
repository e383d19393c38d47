// SPDX-License-Identifier: Apache-2.0
//! Tier 4: beside kube-proxy with iptables and two address families: its Services work, `deploy/` is installed, balances,
//! and is uninstalled under load as `deploy/README.md` says. Nothing of it is left, and nobody has noticed.

mod kubernetes;

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::cluster::install::NAMESPACE;
use evenkeel_testbed::{Cluster, ClusterOptions, ProxyMode, eventually, sockets};
use kubernetes::install::{self, in_force};
use kubernetes::traffic::{self, Clients};
use kubernetes::{Leftovers, SERVERS, SOON, all_servers_answer, servers};

/// Each client's load. That one of six servers gets none of 96 connections by chance is one run in ten million.
const LOAD: [&str; 6] = ["--connections", "48", "--rate", "100", "--churn", "10"];

#[test]
fn uninstalled_under_load_it_leaves_nothing_and_kube_proxy_with_iptables_takes_over() -> Result<()> {
    let before = Leftovers::now()?;
    let zones = ["zone-a", "zone-b"].map(String::from).to_vec();
    let proxy_mode = ProxyMode::Iptables;
    let cluster = install::cluster(ClusterOptions {
        zones,
        proxy_mode,
        dual_stack: true,
        ..ClusterOptions::default()
    })?;
    let service = servers(&cluster)?;
    all_servers_answer(&cluster, &service)?;
    all_servers_answer(&cluster, &format!("[{}]:80", address6(&cluster, "web")?))?;

    install::install(&cluster)?;
    let connection = traffic::service(&cluster, "by-connection", Some("connection"))?;
    let request = format!("[{}]:80", {
        traffic::service(&cluster, "by-request", Some("request"))?;
        address6(&cluster, "by-request")?
    });
    // In both families.
    in_force(&cluster, &[("by-connection", 2 * SERVERS), ("by-request", 2 * SERVERS)], SOON)?;
    let connections = Clients::start(&cluster, "connections", &connection, &LOAD)?;
    let requests = Clients::start(&cluster, "requests", &request, &LOAD)?;
    for clients in [&connections, &requests] {
        let seen = clients.look()?;
        seen.flawless(300)?;
        seen.all_local()?;
    }

    install::uninstall(&cluster)?;
    let stayed = connections.seen()?;
    stayed.flawless(300)?;
    ensure!(stayed.0.iter().all(|report| report.connects == 0), "connections were cut: {}", stayed.told());
    requests.seen()?.flawless(300)?;
    nothing_is_left(&cluster)?;

    for clients in [connections, requests] {
        clients.reconnect()?;
        let seen = clients.look()?;
        ensure!(
            seen.servers().len() == SERVERS && seen.local() < 0.8,
            "kube-proxy chooses by lot: {}",
            seen.told()
        );
        seen.flawless(300)?;
        clients.end(&cluster)?.flawless(0)?;
    }
    drop(cluster);
    before.nothing_more()
}

/// The Service's address in the second family.
fn address6(cluster: &Cluster, service: &str) -> Result<IpAddr> {
    let other = ["get", "service", service, "-o", "jsonpath={.spec.clusterIPs[1]}"];
    let other: IpAddr = cluster.kubectl().run(&other)?.trim().parse().context("no second address")?;
    ensure!(other.is_ipv6(), "{other} is not the other family's");
    Ok(other)
}

/// Neither on the nodes nor in the API.
fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    cluster.gone(&["namespace", NAMESPACE], SOON)?;
    let kinds = "clusterroles,clusterrolebindings,daemonsets,deployments,services,pods";
    let ours = ["get", kinds, "-A", "-l", "app.kubernetes.io/part-of=evenkeel", "-o", "name"];
    let ours = cluster.kubectl().run(&ours)?;
    ensure!(ours.trim().is_empty(), "objects are left: {ours}");
    for worker in cluster.nodes() {
        let node = worker.node();
        for place in ["/sys/fs/bpf/evenkeel", "/var/lib/evenkeel"] {
            ensure!(!node.path(place).exists(), "{place} is left on {}", node.name());
        }
        eventually("the agent's listeners in pods are gone", SOON, || {
            for (namespace, ports) in listeners(&node)? {
                ensure!(ports.iter().all(|port| *port == traffic::PORT), "{namespace} listens on {ports:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The TCP ports on which somebody listens, for each pod's namespace on a node.
fn listeners(node: &evenkeel_testbed::Node) -> Result<Vec<(String, Vec<u16>)>> {
    let names = node.exec(&["ls", "/run/netns"])?;
    let mut found = Vec::new();
    for name in names.split_whitespace() {
        let net = format!("--net=/run/netns/{name}");
        let tables = node.exec(&["nsenter", &net, "cat", "/proc/net/tcp", "/proc/net/tcp6"])?;
        found.push((name.to_owned(), sockets::listening_ports(&tables)));
    }
    ensure!(!found.is_empty(), "no pods on {}", node.name());
    Ok(found)
}
