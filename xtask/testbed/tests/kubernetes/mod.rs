// SPDX-License-Identifier: Apache-2.0
//! What tests of a cluster share: servers and load as Kubernetes objects, and a look at what the host has.

#![allow(dead_code, reason = "each test file uses the part that it needs")]

pub(crate) mod install;
pub(crate) mod traffic;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use evenkeel_testbed::cluster::images::TESTBED;
use evenkeel_testbed::{Cluster, eventually};
use serde_json::{Value, json};

/// Longest wait for what takes seconds.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// How many servers [`servers`] makes.
pub(crate) const SERVERS: usize = 6;

/// Makes Deployment `web` of servers and Service `web`, not opted in; returns the Service's address once all are ready.
pub(crate) fn servers(cluster: &Cluster) -> Result<String> {
    let address = traffic::service(cluster, "web", None)?;
    traffic::servers(cluster, SERVERS)?;
    Ok(address)
}

/// Runs a client pod against a Service: requests over long-lived connections, and short-lived ones besides. Returns its
/// report. A hundred connections: that one of six servers gets none by chance is one run in ten million.
pub(crate) fn load(cluster: &Cluster, service: &str) -> Result<Value> {
    let kubectl = cluster.kubectl();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "client" },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "client", "image": TESTBED, "imagePullPolicy": "Never",
                "args": ["client", "--target", service, "--name", "client", "--zone", "any", "--rate", "200",
                         "--churn", "50", "--connections", "100", "--for-ms", "2000"],
            }],
        },
    });
    kubectl.apply(&pod.to_string())?;
    let ended = ["--for=jsonpath={.status.phase}=Succeeded", "pod/client"];
    let ended = kubectl.wait(&ended, SOON);
    let log = kubectl.run(&["logs", "client"])?;
    ended.with_context(|| log.clone())?;
    kubectl.run(&["delete", "pod", "client", "--now"])?;
    serde_json::from_str(log.trim()).with_context(|| format!("not a report: {log}"))
}

/// Waits until a client pod finds all servers behind a Service's address; fails if it meets any failure. A server that is
/// ready is not known to the kube-proxy of every node yet, which writes its rules once per second.
pub(crate) fn all_servers_answer(cluster: &Cluster, service: &str) -> Result<()> {
    eventually("all servers answer", SOON, || {
        let report = match load(cluster, service).and_then(flawless) {
            Ok(report) => report,
            failed => return Ok(failed.map(drop)),
        };
        let pods = report["pods"].as_object().map_or(0, serde_json::Map::len);
        ensure!(pods == SERVERS, "{pods} of {SERVERS} servers answered: {report}");
        Ok(Ok(()))
    })?
}

/// The same report, if nothing failed.
fn flawless(report: Value) -> Result<Value> {
    let (requests, connects) = (report["requests"].as_u64(), report["churned"].as_u64());
    ensure!(requests > Some(20) && connects > Some(20), "hardly any load: {report}");
    ensure!(report["failures_total"] == 0 && report["succeeded"] == report["requests"], "{report}");
    Ok(report)
}

/// What a cluster could leave on the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leftovers {
    mounts: usize,
    links: BTreeSet<String>,
    groups: BTreeSet<String>,
    folders: BTreeSet<String>,
    processes: BTreeSet<String>,
}

impl Leftovers {
    /// What there is now.
    pub(crate) fn now() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read mounts")?.lines().count();
        let mut groups = BTreeSet::new();
        runs_below(Path::new("/sys/fs/cgroup"), 0, &mut groups);
        let mut folders = BTreeSet::new();
        runs_below(&std::env::temp_dir(), 4, &mut folders);
        for folder in ["/etc/cni", "/opt/cni", "/opt/containerd", "/var/lib/cni", "/var/lib/containerd"] {
            folders.extend(Path::new(folder).exists().then(|| folder.to_owned()));
        }
        for folder in ["/var/lib/kubelet", "/var/log/pods", "/var/log/containers", "/usr/libexec/kubernetes"]
        {
            folders.extend(Path::new(folder).exists().then(|| folder.to_owned()));
        }
        Ok(Self {
            mounts,
            links: names(Path::new("/sys/class/net")),
            groups,
            folders,
            processes: processes(),
        })
    }

    /// Waits until there is nothing that was not there before. Another run's things may have gone meanwhile.
    pub(crate) fn nothing_more(&self) -> Result<()> {
        eventually("nothing is left", SOON, || {
            let now = Self::now()?;
            ensure!(now.mounts <= self.mounts, "{} mounts against {}", now.mounts, self.mounts);
            let sets = [
                ("links", &now.links, &self.links),
                ("cgroups", &now.groups, &self.groups),
                ("folders", &now.folders, &self.folders),
                ("processes", &now.processes, &self.processes),
            ];
            for (what, now, before) in sets {
                let more: Vec<_> = now.difference(before).collect();
                if !more.is_empty() {
                    bail!("{what} are left: {more:?}");
                }
            }
            Ok(())
        })
    }
}

/// Folders of the testbed's runs, at most five levels down: a group of a run may lie below one that holds this process.
fn runs_below(folder: &Path, depth: usize, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink())
    {
        let own = format!("evenkeel-testbed-{}-", std::process::id());
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&own)) {
            found.insert(path.display().to_string());
        } else if depth < 4 {
            runs_below(&path, depth + 1, found);
        }
    }
}

/// Processes in a cgroup of this process's runs, as `PID NAME`: everything that a cluster starts is in one.
fn processes() -> BTreeSet<String> {
    let own = format!("evenkeel-testbed-{}-", std::process::id());
    let read =
        |pid: &String, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    names(Path::new("/proc"))
        .iter()
        .filter(|pid| read(pid, "cgroup").contains(&own))
        .map(|pid| format!("{pid} {}", read(pid, "comm").trim()))
        .collect()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
