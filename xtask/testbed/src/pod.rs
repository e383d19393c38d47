// SPDX-License-Identifier: Apache-2.0
//! A pod: a network namespace bound below the node's `/run/netns`, a routed veth, a cgroup.
//!
//! Made in a CNI plugin's order: the namespace's file, the mount, the link, loopback and addresses; only then can a
//! process be started. Deleted in the runtime's order: processes, cgroup, unmount, unlink. The link is not deleted:
//! it goes when nothing holds the namespace any more, and tests see by it who still does.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::init::Request;
use crate::node::Node;
use crate::process::{Process, Spawn};
use crate::{cgroup, namespace, veth};

/// A pod of the testbed.
#[derive(Clone)]
pub struct Pod {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    node: Node,
    number: u8,
    netns: PathBuf,
}

impl Pod {
    pub(crate) fn new(node: &Node, name: &str, number: u8) -> Result<Self> {
        let netns = PathBuf::from(format!("/run/netns/cni-{name}-{number}"));
        let inner = Inner { name: name.into(), node: node.clone(), number, netns };
        let pod = Self { inner: Arc::new(inner) };
        node.call(Request::AddNetns(pod.inner.netns.clone()))?;
        let path = pod.inner.netns.to_string_lossy();
        veth::apply(node.command("ip")?, &veth::pod_link(node.number(), number, &path))?;
        veth::apply(node.command_in("ip", pod.open_netns()?)?, &veth::pod_routes(node.number(), number))?;
        fs::create_dir(pod.cgroup()).with_context(|| format!("make cgroup {}", pod.cgroup().display()))?;
        Ok(pod)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The node it runs on.
    pub fn node(&self) -> &Node {
        &self.inner.node
    }

    /// 10.244.N.P
    pub fn address(&self) -> Ipv4Addr {
        veth::pod_address(self.inner.node.number(), self.inner.number)
    }

    /// fd44:N::P
    pub fn address6(&self) -> Ipv6Addr {
        veth::pod_address6(self.inner.node.number(), self.inner.number)
    }

    /// Its namespace's file, inside the node.
    pub fn netns_path(&self) -> &Path {
        &self.inner.netns
    }

    /// The node's end of its link.
    pub fn veth(&self) -> String {
        format!("p{}", self.inner.number)
    }

    /// Its cgroup as the host sees it.
    pub fn cgroup(&self) -> PathBuf {
        self.inner.node.cgroup().join(self.group())
    }

    fn group(&self) -> String {
        format!("pod-{}", self.inner.name)
    }

    fn open_netns(&self) -> Result<OwnedFd> {
        namespace::open(&self.inner.node.path(&self.inner.netns))
    }

    /// Starts a process in the pod.
    ///
    /// # Errors
    /// The pod or node is gone, or the program cannot be started.
    pub fn spawn(&self, spawn: &Spawn) -> Result<Process> {
        if spawn.cgroup.is_some() {
            bail!("a process of a pod is in the pod's cgroup");
        }
        let owner = format!("{}-", self.inner.name);
        self.inner.node.start(spawn, &self.group(), Some(&self.inner.netns), &owner)
    }

    /// Runs a short command in the pod's network namespace (and the node's mount namespace), to its end. It is in the
    /// caller's cgroup, so that nothing balances it.
    ///
    /// # Errors
    /// It cannot be started or fails; the error has its standard error.
    pub fn exec(&self, argv: &[&str]) -> Result<String> {
        let [program, arguments @ ..] = argv else { bail!("no program is given") };
        let mut command = self.inner.node.command_in(program, self.open_netns()?)?;
        command.args(arguments);
        let output = namespace::run(command, "").with_context(|| format!("in pod {}", self.name()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `work` on a thread inside the pod's network namespace; see [`Node::in_netns`].
    ///
    /// # Errors
    /// Those of `work`, or the pod is gone.
    pub fn in_netns<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        namespace::inside(&self.open_netns()?, work)
    }

    /// Kills the pod's processes; the pod stays.
    ///
    /// # Errors
    /// One does not go within five seconds.
    pub fn kill_all(&self) -> Result<()> {
        cgroup::kill_all(&self.cgroup())
    }

    /// Deletes the pod as a runtime and a CNI plugin do.
    ///
    /// # Errors
    /// The node is gone, or a process or the cgroup does not go.
    pub fn delete(&self) -> Result<()> {
        let deleted = cgroup::remove(&self.cgroup())
            .and_then(|()| self.inner.node.call(Request::DeleteNetns(self.inner.netns.clone())));
        self.inner.node.forget_pod(self.name());
        deleted.with_context(|| format!("delete pod {}", self.name()))
    }
}
