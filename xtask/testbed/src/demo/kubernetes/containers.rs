// SPDX-License-Identifier: Apache-2.0
//! From pods that the API server shows to the processes of their containers on this machine, to end or stop all of them
//! in one instant: no command of a container runtime does that.
//!
//! A container's processes are found by their cgroup, whose path has the container's id (kubelet and containerd name it
//! so with the driver `cgroupfs`). What must always be true: a signal goes to processes of these containers only.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cleanup::start_time;

/// A pod of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) uid: String,
    pub(super) node: String,
    /// The container's id.
    pub(super) container: String,
}

/// The pods of `kubectl get pods -o json`.
pub(super) fn pods(list: &Value) -> Result<Vec<Pod>> {
    let items = list["items"].as_array().context("no list of pods")?;
    let pod = |pod: &Value| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let container = pod["status"]["containerStatuses"][0]["containerID"].as_str();
        Some(Pod {
            uid: text(&pod["metadata"]["uid"])?,
            node: text(&pod["spec"]["nodeName"])?,
            container: container?.rsplit('/').next()?.to_owned(),
        })
    };
    let name = |value: &Value| value["metadata"]["name"].as_str().unwrap_or("a pod").to_owned();
    items.iter().map(|item| pod(item).with_context(|| format!("{} does not run yet", name(item)))).collect()
}

/// Processes, told apart from later ones of the same pid.
pub(super) struct Processes(Vec<(u32, u64)>);

impl Processes {
    /// All processes of these pods' containers.
    pub(super) fn of(pods: &[Pod]) -> Result<Self> {
        Self::find(pods, |_| true)
    }

    /// Those of that name.
    pub(super) fn named(name: &str, pods: &[Pod]) -> Result<Self> {
        Self::find(pods, |process| {
            fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        })
    }

    fn find(pods: &[Pod], wanted: impl Fn(&Path) -> bool) -> Result<Self> {
        let mut found = Vec::new();
        let mut missing: Vec<&str> = pods.iter().map(|pod| pod.container.as_str()).collect();
        for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // Whoever ends meanwhile is not looked for.
            let (Some(start), Ok(groups)) =
                (start_time(pid), fs::read_to_string(entry.path().join("cgroup")))
            else {
                continue;
            };
            if let Some(pod) = pods.iter().find(|pod| is_in(&groups, &pod.container))
                && wanted(&entry.path())
            {
                missing.retain(|container| *container != pod.container);
                found.push((pid, start));
            }
        }
        match missing.first() {
            Some(container) => bail!("container {container} has no such process"),
            None => Ok(Self(found)),
        }
    }

    /// Sends a signal to each.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        for (pid, _) in self.alive() {
            kill(Pid::from_raw(pid as i32), signal).with_context(|| format!("{signal} to process {pid}"))?;
        }
        Ok(())
    }

    /// Fails while one of them lives.
    pub(super) fn gone(&self) -> Result<()> {
        match self.alive().next() {
            Some((pid, _)) => bail!("process {pid} lives"),
            None => Ok(()),
        }
    }

    fn alive(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.0.iter().copied().filter(|(pid, start)| match start_time(*pid) {
            Some(now) => now == *start,
            // The first thread may be a zombie while another one still holds the sockets open.
            None => threads(*pid) > 1,
        })
    }
}

/// How many threads a process has, zombies included; none if it is gone.
fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Whether a process with this `/proc/PID/cgroup` is in the container's own group.
fn is_in(groups: &str, container: &str) -> bool {
    groups.lines().any(|line| line.rsplit('/').next() == Some(container))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::process::Command;

    #[test]
    fn a_pod_without_a_container_is_named() {
        let status = json!({ "containerStatuses": [{ "containerID": "containerd://abc" }] });
        let pod = |status: Value| json!({ "metadata": { "name": "echo-a1", "uid": "u" }, "spec": { "nodeName": "node-1" }, "status": status });
        let running = pods(&json!({ "items": [pod(status)] })).expect("it runs");
        assert_eq!(running, [Pod { uid: "u".into(), node: "node-1".into(), container: "abc".into() }]);
        let error = pods(&json!({ "items": [pod(json!({}))] })).expect_err("it does not run");
        assert!(error.to_string().contains("echo-a1"), "{error}");
    }

    #[test]
    fn a_process_is_found_by_the_last_part_of_its_group() {
        let groups = "4:memory:/run/node-1/kubepods/podu/abc\n0::/run/node-1/system\n";
        assert!(is_in(groups, "abc"));
        assert!(!is_in(groups, "bc") && !is_in(groups, "podu"));
    }

    #[test]
    fn a_container_without_processes_is_an_error_and_not_an_empty_success() {
        let pod = Pod { uid: "u".into(), node: "n".into(), container: "no-such-container".into() };
        let error = Processes::of(&[pod]).err().expect("there is none");
        assert!(error.to_string().contains("no-such-container"), "{error}");
    }

    #[test]
    fn a_process_that_has_ended_is_gone_and_gets_no_signal() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let processes = Processes(vec![(child.id(), start_time(child.id()).expect("it lives"))]);
        processes.gone().expect_err("it lives");
        processes.signal(Signal::SIGKILL).expect("it can be ended");
        child.wait().expect("it ends");
        processes.gone().expect("it has ended");
        processes.signal(Signal::SIGKILL).expect("nobody is left to get it");
    }
}
