// SPDX-License-Identifier: Apache-2.0
//! Tier 4: a real Kubernetes cluster, without anything of Evenkeel's: Services through the real kube-proxy, an
//! API server that is killed, and nothing left at the end. kube-proxy with iptables is in `cluster_uninstall.rs`, a node
//! without power in `cluster_churn.rs`.
//!
//! One cluster serves all that one proxy mode shows: coming up costs more than any of it.

mod kubernetes;

use anyhow::{Context, Result, ensure};
use evenkeel_testbed::{Cluster, ClusterOptions};
use kubernetes::{Leftovers, all_servers_answer, servers};

#[test]
fn services_are_balanced_through_nftables_and_a_crashed_api_server_comes_back() -> Result<()> {
    let before = Leftovers::now()?;
    let cluster = Cluster::up(ClusterOptions::default())?;
    let service = servers(&cluster)?;
    all_servers_answer(&cluster, &service)?;
    the_api_server_comes_back_after_a_crash_with_its_history_compacted(&cluster)?;
    a_service_account_has_its_own_rights(&cluster)?;
    cluster.down()?;
    before.nothing_more()
}

fn the_api_server_comes_back_after_a_crash_with_its_history_compacted(cluster: &Cluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let version = kubectl.run(&["get", "--raw", "/api/v1/services"])?;
    let list: serde_json::Value = serde_json::from_str(&version).context("a list is no JSON")?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a list has no version")?;
    kubectl.run(&["annotate", "service", "web", "evenkeel.test/history=moves-on"])?;
    cluster.apiserver().compact_history()?;
    cluster.apiserver().kill()?;
    ensure!(kubectl.run(&["get", "--raw", "/readyz"]).is_err(), "a dead server answered");
    cluster.apiserver().restart()?;
    ensure!(
        kubectl.run(&["get", "service", "web", "-o", "yaml"])?.contains("moves-on"),
        "the change is lost"
    );
    let old = format!("/api/v1/services?resourceVersion={version}&resourceVersionMatch=Exact");
    let answer = kubectl.output(&["get", "--raw", &old])?;
    let said = [answer.stdout, answer.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(said.contains("too old"), "history from before is still there: {said}");
    Ok(())
}

fn a_service_account_has_its_own_rights(cluster: &Cluster) -> Result<()> {
    let kubeconfig = cluster.service_account_kubeconfig("default", "default")?;
    let kubeconfig = kubeconfig.to_string_lossy();
    let who = ["--kubeconfig", &kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
    let name = cluster.kubectl().run(&who)?;
    ensure!(name == "system:serviceaccount:default:default", "{name}");
    let pods = cluster.kubectl().output(&["--kubeconfig", &kubeconfig, "get", "pods"])?;
    ensure!(!pods.status.success(), "it may read pods");
    Ok(())
}
