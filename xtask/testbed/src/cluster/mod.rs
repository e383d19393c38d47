// SPDX-License-Identifier: Apache-2.0
//! A real Kubernetes cluster on one machine: etcd, kube-apiserver, kube-controller-manager and kube-scheduler on the
//! testbed's control node; containerd, a kubelet and kube-proxy on one node in each zone.
//!
//! What must always be true: all state is in the run's folder and cgroups, so that the drop of the [`Cluster`], or the
//! death of its creator, leaves nothing ([`crate::cleanup`]). The host's network namespace gets one listening socket
//! on its loopback, for the API server.
//!
//! Deliberately not here: how programs come onto the machine (`cargo xtask`), cluster DNS, ingress, storage.

mod command;
pub(crate) mod control;
mod forward;
pub mod images;
pub mod install;
mod kubectl;
pub(crate) mod pki;
pub(crate) mod programs;
mod setup;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;

pub use command::main;
pub use control::ApiServer;
pub use kubectl::Kubectl;
pub use setup::{ClusterOptions, Progress, ProxyMode};
pub use worker::Worker;

use crate::fabric::Fabric;
use crate::process::Process;
use crate::wait::eventually;
use forward::Forward;
use pki::Pki;
use programs::Programs;
use setup::{Setup, alive};

/// How long nodes may take to be Ready; five seconds on two idle cores.
const NODES_READY: Duration = Duration::from_secs(180);
/// Lifetime of the tokens of [`Cluster::service_account_kubeconfig`].
const TOKEN_LIFETIME: &str = "24h";

/// A running cluster.
pub struct Cluster {
    setup: Arc<Setup>,
    forward: Forward,
    api: ApiServer,
    managers: Option<[Process; 2]>,
    workers: Vec<Worker>,
    kubectl: Kubectl,
    // Last: dropped after the handles above.
    fabric: Fabric,
}

impl Cluster {
    /// Makes a cluster and waits until pods can be scheduled on all nodes.
    ///
    /// # Errors
    /// Not root, a program is missing, a component ends (the error has the end of its output) or is not ready in time.
    /// Whatever was made is removed.
    pub fn up(options: ClusterOptions) -> Result<Self> {
        ensure!(!options.zones.is_empty(), "a cluster needs at least one zone");
        let began = Instant::now();
        let programs = Programs::find()?;
        let fabric = Fabric::new()?;
        let pki = Pki::new(&fabric.run_dir().join("pki"))?;
        let setup = Arc::new(Setup { options, programs, pki, began });
        let mut cluster = Self::start(&setup, fabric)?;
        setup.say("etcd and the API server are started");
        cluster.start_nodes()?;
        cluster.join_nodes()?;
        cluster.await_nodes()?;
        Ok(cluster)
    }

    fn start(setup: &Arc<Setup>, fabric: Fabric) -> Result<Self> {
        let control = fabric.control()?;
        let forward = Forward::new(control.netns()?, control::api())?;
        let server = format!("https://{}", forward.address());
        let kubectl = Kubectl {
            program: PathBuf::from(setup.programs.path("kubectl")),
            kubeconfig: setup.pki.kubeconfig("admin", &server, "admin", &["system:masters"])?,
        };
        let api = ApiServer::start(setup, &control, kubectl.clone())?;
        let (setup, workers) = (Arc::clone(setup), Vec::new());
        Ok(Self { setup, forward, api, managers: None, workers, kubectl, fabric })
    }

    /// While the API server starts: machines, container runtimes, images.
    fn start_nodes(&mut self) -> Result<()> {
        let zones = self.setup.options.zones.clone();
        let names: Vec<String> = (1..=zones.len()).map(|n| format!("node-{n}")).collect();
        let wanted: Vec<(&str, &str)> =
            names.iter().zip(&zones).map(|(name, zone)| (name.as_str(), zone.as_str())).collect();
        let nodes = self.fabric.add_machines(&wanted)?;
        self.workers = nodes.into_iter().map(|node| Worker::new(&self.setup, node)).collect();
        let own = self.fabric.run_dir().join("images.tar");
        images::write(&own)?;
        let archives: Vec<&Path> =
            std::iter::once(&own).chain(&self.setup.options.images).map(PathBuf::as_path).collect();
        self.on_all_nodes(|worker| {
            worker.start_runtime()?;
            archives.iter().try_for_each(|archive| worker.import(archive))
        })?;
        self.setup.say("containerd runs on all nodes and has the images");
        Ok(())
    }

    fn join_nodes(&mut self) -> Result<()> {
        self.api.ready()?;
        self.setup.say("the API server is ready");
        self.managers = Some(control::start_managers(&self.setup, &self.fabric.control()?)?);
        let dual_stack = self.setup.options.dual_stack;
        let nodes: Vec<_> =
            self.workers.iter().map(|worker| worker::object(&worker.node(), dual_stack)).collect();
        self.kubectl.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": nodes }).to_string())?;
        self.on_all_nodes(Worker::start_daemons)
    }

    fn await_nodes(&self) -> Result<()> {
        let names: Vec<String> = self.workers.iter().map(Worker::name).collect();
        let waited = names.iter().try_for_each(|name| self.node_ready(name));
        waited.or_else(|error| self.blame(error))?;
        self.setup.say("all nodes are Ready");
        for namespace in ["default", "kube-system"] {
            for wanted in ["serviceaccount/default", "configmap/kube-root-ca.crt"] {
                // One at a time: where two are missing, `kubectl wait --for=create` fails at once instead of waiting.
                let created = self.kubectl.wait(&["--for=create", "-n", namespace, wanted], NODES_READY);
                created.or_else(|error| self.blame(error))?;
            }
        }
        self.setup.say("pods can be scheduled");
        Ok(())
    }

    /// A process that has ended is a better reason than a wait that was in vain.
    fn blame(&self, error: anyhow::Error) -> Result<()> {
        alive(self.managers.iter().flatten())?;
        self.workers.iter().try_for_each(Worker::check)?;
        Err(error)
    }

    fn on_all_nodes(&self, work: impl Fn(&Worker) -> Result<()> + Sync) -> Result<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .workers
                .iter()
                .map(|worker| scope.spawn(|| work(worker).with_context(|| format!("on {}", worker.name()))))
                .collect();
            let ends =
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("panicked"))));
            ends.collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// Waits until a node is Ready and takes pods: its taints go a moment after it is Ready.
    ///
    /// # Errors
    /// It does not within three minutes.
    pub fn node_ready(&self, name: &str) -> Result<()> {
        let shown = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status} {.spec.taints}{\"\\n\"}";
        self.kubectl.watch(&["node", name, "-o", shown], NODES_READY, |line| line.trim() == "True")
    }

    /// Waits until Kubernetes has noticed that a node is gone.
    ///
    /// # Errors
    /// It has not within three minutes.
    pub fn node_not_ready(&self, name: &str) -> Result<()> {
        let shown = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}";
        self.kubectl.watch(&["node", name, "-o", shown], NODES_READY, |line| line.trim() != "True")
    }

    /// A kubeconfig of an administrator, for any tool on this machine.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubectl.kubeconfig
    }

    /// `kubectl` as an administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// A kubeconfig with the rights of a ServiceAccount, for any tool on this machine.
    ///
    /// # Errors
    /// There is no such ServiceAccount.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token =
            self.kubectl.run(&["create", "token", name, "-n", namespace, "--duration", TOKEN_LIFETIME])?;
        let server = format!("https://{}", self.forward.address());
        self.setup.pki.kubeconfig_for(
            &format!("{namespace}.{name}"),
            &server,
            &json!({ "token": token.trim() }),
        )
    }

    /// The API server.
    pub fn apiserver(&self) -> &ApiServer {
        &self.api
    }

    /// A node by name: `node-1` is in the first zone.
    ///
    /// # Errors
    /// There is no such node.
    pub fn node(&self, name: &str) -> Result<&Worker> {
        let found = self.workers.iter().find(|worker| worker.name() == name);
        found.ok_or_else(|| anyhow!("the cluster has no node {name}"))
    }

    /// All nodes, in the order of their zones.
    pub fn nodes(&self) -> &[Worker] {
        &self.workers
    }

    /// Boots a node that was powered off. Does not wait until it is Ready.
    ///
    /// # Errors
    /// There is no such node, or it runs.
    pub fn power_on(&self, name: &str) -> Result<()> {
        let worker = self.node(name)?;
        if worker.node().alive() {
            bail!("{name} runs: power it off first");
        }
        worker.power_on(&self.fabric).with_context(|| format!("boot {name}"))
    }

    /// Imports an archive of images on all nodes.
    ///
    /// # Errors
    /// A node's containerd refuses it.
    pub fn import(&self, archive: &Path) -> Result<()> {
        self.on_all_nodes(|worker| worker.import(archive))
    }

    /// Waits until an object is gone, e.g. after a `delete --wait=false`.
    ///
    /// # Errors
    /// It is not gone within `deadline`.
    pub fn gone(&self, object: &[&str], deadline: Duration) -> Result<()> {
        self.kubectl.wait(&[&["--for=delete"], object].concat(), deadline)
    }

    /// The testbed below: its control node and folder.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// Removes everything, as the drop does, and reports what could not be removed.
    ///
    /// # Errors
    /// A process or cgroup does not go.
    pub fn down(self) -> Result<()> {
        let Self { fabric, forward, .. } = self;
        drop(forward);
        let folder = fabric.run_dir().to_path_buf();
        fabric.close()?;
        // A mount namespace ends a moment after its last process.
        if std::env::var_os(crate::cleanup::KEEP).is_none() {
            eventually("the folder is gone", NODES_READY, || {
                ensure!(!folder.exists(), "{} is there", folder.display());
                Ok(())
            })?;
        }
        Ok(())
    }
}
