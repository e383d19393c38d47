// SPDX-License-Identifier: Apache-2.0
//! The fabric: a bridge in a network namespace of its own, that nodes connect to; and the owner of all there is.
//!
//! What must always be true: everything hangs on this one object. Its drop removes nodes, pods, processes, cgroups,
//! namespaces and logs, whatever handles remain; those then answer that their node is gone.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};

use crate::cleanup::{self, Reaper, RunId};
use crate::discovery::{Discovery, DiscoveryOptions};
use crate::hierarchy::{self, Hierarchy};
use crate::init::Machine;
use crate::node::Node;
use crate::{cgroup, namespace, sysctl, veth};

/// A running testbed.
pub struct Fabric {
    shared: Arc<Shared>,
    nodes: Mutex<Vec<Node>>,
    control: Mutex<Option<Node>>,
    reaper: Reaper,
    closed: bool,
}

/// What nodes need of their fabric.
pub(crate) struct Shared {
    pub(crate) net: OwnedFd,
    /// The run's cgroup.
    pub(crate) group: PathBuf,
    pub(crate) cgroup_mount: PathBuf,
    pub(crate) run_dir: PathBuf,
}

impl Shared {
    /// An `ip` that will run in the fabric's namespace.
    pub(crate) fn ip(&self) -> Result<Command> {
        Ok(namespace::command("ip", None, self.net.try_clone().context("copy a descriptor")?))
    }
}

impl Fabric {
    /// Makes a fabric without nodes, after removing what dead runs left.
    ///
    /// # Errors
    /// Not root, no cgroup2, no `ip` command, or the kernel refuses a namespace or bridge.
    pub fn new() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the testbed makes namespaces and cgroups and loads eBPF: run it as root");
        }
        let cgroup_mount = cgroup::cgroup2_mount()?;
        let temporary = temporary();
        cleanup::sweep(&cgroup_mount, &temporary)?;
        let name = RunId::new()?.name();
        let (group, run_dir) = (cgroup_mount.join(&name), temporary.join(&name));
        // The reaper first: from here on nothing can be left behind.
        let mut reaper = Reaper::start(&group, &run_dir)?;
        let shared = make(&group, &run_dir, cgroup_mount);
        match shared {
            Ok(shared) => Ok(Self {
                shared: Arc::new(shared),
                nodes: Mutex::default(),
                control: Mutex::default(),
                reaper,
                closed: false,
            }),
            Err(error) => {
                let _ = reaper.finish();
                Err(error)
            }
        }
    }

    /// The folder of logs, removed at the end unless `EVENKEEL_KEEP` is set.
    pub fn run_dir(&self) -> &Path {
        &self.shared.run_dir
    }

    /// Adds a node.
    ///
    /// # Errors
    /// The name is taken, there are too many, or a namespace, mount or link cannot be made.
    pub fn add_node(&self, name: &str, zone: &str) -> Result<Node> {
        let mut nodes = self.add_nodes(&[(name, zone)])?;
        nodes.pop().ok_or_else(|| anyhow!("no node was made"))
    }

    /// Adds nodes, given as (name, zone), all at once.
    ///
    /// # Errors
    /// As [`Fabric::add_node`]; those that were made before stay.
    pub fn add_nodes(&self, wanted: &[(&str, &str)]) -> Result<Vec<Node>> {
        self.add(wanted, None)
    }

    /// Adds nodes that can run a container runtime and a kubelet.
    pub(crate) fn add_machines(&self, wanted: &[(&str, &str)]) -> Result<Vec<Node>> {
        let run = self.shared.group.file_name().unwrap_or_default().to_string_lossy();
        let groups = hierarchy::make(&self.shared.run_dir, &run)?;
        if groups.is_empty() {
            hierarchy::pass_controllers_on(&self.shared.cgroup_mount)?;
            hierarchy::pass_controllers_on(&self.shared.group)?;
        }
        self.add(wanted, Some(&groups))
    }

    /// Boots a killed node again. The node itself stays dead; the one returned has its place.
    pub(crate) fn boot_again(&self, node: &Node) -> Result<Node> {
        let booted = node.boot_again()?;
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.iter_mut().filter(|other| other.number() == node.number()).for_each(|n| *n = booted.clone());
        Ok(booted)
    }

    fn add(&self, wanted: &[(&str, &str)], groups: Option<&[Hierarchy]>) -> Result<Vec<Node>> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let first = nodes.len() + 1;
        if first + wanted.len() > usize::from(veth::MAX_NODES) + 1 {
            bail!("at most {} nodes fit the address plan", veth::MAX_NODES);
        }
        if let Some((name, _)) = wanted.iter().find(|(name, _)| nodes.iter().any(|node| node.name() == *name))
        {
            bail!("there is a node {name} already");
        }
        let made: Vec<Result<Node>> = std::thread::scope(|scope| {
            let threads: Vec<_> = wanted
                .iter()
                .enumerate()
                .map(|(i, &node)| {
                    scope.spawn(move || {
                        let machine = groups.map(|groups| self.machine(node.0, groups)).transpose()?;
                        Node::new(&self.shared, node, (first + i) as u8, machine)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("panicked"))))
                .collect()
        });
        let made = made.into_iter().collect::<Result<Vec<_>>>()?;
        nodes.extend(made.iter().cloned());
        Ok(made)
    }

    fn machine(&self, name: &str, groups: &[Hierarchy]) -> Result<Machine> {
        let hierarchies = groups.iter().map(|group| group.child(name)).collect::<Result<_>>()?;
        Ok(Machine { disk: self.shared.run_dir.join(name).join("disk"), hierarchies })
    }

    /// All nodes, in order of creation, without the control node.
    pub fn nodes(&self) -> Vec<Node> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The node of the control plane, 172.30.0.250; made on first use.
    ///
    /// # Errors
    /// As [`Fabric::add_node`].
    pub fn control(&self) -> Result<Node> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = control.as_ref() {
            return Ok(node.clone());
        }
        let node = Node::new(&self.shared, ("control", ""), veth::CONTROL, None)?;
        Ok(control.insert(node).clone())
    }

    /// Starts discovery on the control node and waits until it is ready.
    ///
    /// # Errors
    /// It ends or is not ready in time; the error shows its last output.
    pub fn start_discovery(&self, options: &DiscoveryOptions) -> Result<Discovery> {
        Discovery::start(&self.control()?, options)
    }

    /// Removes everything, as the drop does, and reports what could not be removed.
    ///
    /// # Errors
    /// A process or cgroup does not go.
    pub fn close(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        // In the reaper too, should this fail or be interrupted.
        let removed = cleanup::remove_run(&self.shared.group, &self.shared.run_dir);
        let mut nodes = self.nodes();
        nodes.extend(self.control.lock().unwrap_or_else(PoisonError::into_inner).take());
        nodes.iter().for_each(Node::bury);
        removed.and(self.reaper.finish())
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("the testbed could not remove everything: {error:#}");
        }
    }
}

fn make(group: &Path, run_dir: &Path, cgroup_mount: PathBuf) -> Result<Shared> {
    fs::create_dir(group).with_context(|| format!("make cgroup {}", group.display()))?;
    fs::create_dir(run_dir).with_context(|| format!("make {}", run_dir.display()))?;
    let net = namespace::new_network(sysctl::router)?;
    let shared = Shared { net, group: group.into(), cgroup_mount, run_dir: run_dir.into() };
    veth::apply(shared.ip()?, &veth::fabric())?;
    Ok(shared)
}

/// The folder for runs: `/run` is the one place that nodes do not see.
pub(crate) fn temporary() -> PathBuf {
    let folder = std::env::temp_dir();
    if folder.starts_with("/run") { PathBuf::from("/tmp") } else { folder }
}
