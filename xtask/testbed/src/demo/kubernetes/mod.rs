// SPDX-License-Identifier: Apache-2.0
//! The stage with Kubernetes: the real cluster of [`crate::cluster`], Evenkeel installed by `kubectl apply -k deploy/`
//! with the images of the binaries beside this one, and behind it the real kube-proxy.
//!
//! Three nodes of one zone each, for the sake of a machine of two cores, with as many servers, clients and requests as
//! the other stage has. What differs is what Kubernetes does by itself: it finds out that a zone's pods are dead
//! (nobody tells it), and its kubelets start killed agents again.
//!
//! A zone goes by the death of its server processes, as on the other stage: with a node's power its clients would be
//! gone too, and those of other zones would not notice, for they stay in theirs.

mod containers;
mod objects;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;
use serde_json::Value;

use self::containers::{Pod, Processes};
use super::hub::Hub;
use super::interrupt::Interrupt;
use super::parameters::{OUTAGE_ZONE, SERVICE, SERVICE_YAML, START_DEADLINE};
use super::stage::{self, Cast, Notes, Stage};
use crate::cluster::install;
use crate::{Cluster, ClusterOptions, agent, binaries};

/// For Kubernetes to schedule and start pods, and to start an agent again; a few seconds on two idle cores.
const PODS_DEADLINE: Duration = Duration::from_secs(90);
/// For Evenkeel to be ready. A dozen seconds on two idle cores: pods wait for the certificates that a Job makes.
const INSTALLED: Duration = Duration::from_secs(180);
/// Between two looks whether the start is done: little against the half minute that it takes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The name of the agent's process. Its holder has another one, and is left alone by who kills agents.
const AGENT: &str = "evenkeel";
/// The node whose agent is stopped, and its zone.
const HUNG: (&str, &str) = ("node-3", "zone-c");

pub(super) const NOTES: Notes = Notes {
    baseline: "no label: kube-proxy",
    client: "client",
    kill: "kill -9 all agents at once; kubelets start them again",
    hung_node: HUNG.0,
    recover: "the stopped agent goes on, kubelets restarted the others",
};

/// A real cluster and what runs on it.
pub(super) struct Kubernetes {
    cast: Cast,
    /// The uids of the agents' pods, by node.
    agents: BTreeMap<String, String>,
    // Last: dropped after the handles above.
    cluster: Cluster,
}

impl Kubernetes {
    /// Starts the cluster and all on it; without agents and discovery only the baseline can be shown.
    pub(super) fn build(interrupt: Interrupt, with_agents: bool) -> Result<Self> {
        to_the_end(&interrupt, || Self::make(interrupt.clone(), with_agents))
    }

    fn make(interrupt: Interrupt, with_agents: bool) -> Result<Self> {
        let cluster = start(with_agents)?;
        let folder = cluster.fabric().run_dir().join("hub");
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let hub = Hub::listen(&folder.join(objects::SOCKET), interrupt.clone())?;
        let mut kubernetes = Self { cast: cast(hub, interrupt), agents: BTreeMap::new(), cluster };
        if with_agents {
            kubernetes.cast.interrupt.sleep(Duration::ZERO)?;
            install::evenkeel(&kubernetes.cluster, &deploy(), INSTALLED)?;
            let pods = kubernetes.agent_pods()?.into_iter();
            kubernetes.agents = pods.map(|pod| (pod.node, pod.uid)).collect();
        }
        kubernetes.start_pods(&folder.to_string_lossy())?;
        Ok(kubernetes)
    }

    fn start_pods(&self, folder: &str) -> Result<()> {
        let (servers, clients) = (objects::servers(), objects::clients());
        eprintln!("starting {} server pods and {} client pods", servers.len(), clients.len());
        let kubectl = self.cluster.kubectl();
        kubectl.apply(&objects::namespace().to_string())?;
        let account = ["--for=create", "-n", SERVICE.0, "serviceaccount/default"];
        kubectl.wait(&account, PODS_DEADLINE)?;
        kubectl.apply(SERVICE_YAML)?;
        let servers = servers.iter().map(|(zone, name)| objects::server(zone, name, folder));
        let clients = clients.iter().map(|(zone, name)| objects::client(zone, name, folder));
        kubectl.apply(&objects::list(servers.chain(clients).collect()))?;
        self.introduced(&self.cast.servers_in(|_| true))?;
        self.introduced(&self.cast.clients)
    }

    /// Waits until these pods run.
    fn introduced(&self, names: &[String]) -> Result<()> {
        self.cast.hub.wait_for(names, PODS_DEADLINE).with_context(|| {
            let pods = self.cluster.kubectl().run(&["get", "pods", "-n", SERVICE.0, "-o", "wide"]);
            pods.unwrap_or_default()
        })
    }

    fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
        let args = ["get", "pods", "-n", namespace, "-l", selector, "-o", "json"];
        containers::pods(&serde_json::from_str(&self.cluster.kubectl().run(&args)?)?)
    }

    fn agent_pods(&self) -> Result<Vec<Pod>> {
        self.pods(install::NAMESPACE, install::AGENT_PODS)
    }

    /// The processes of the agent that will hang. Its status may be behind its container for a moment.
    fn hung_processes(&self) -> Result<Processes> {
        self.cast.interrupt.until("the API server shows the running agent", PODS_DEADLINE, || {
            let mut pods = self.agent_pods()?;
            pods.retain(|pod| pod.node == HUNG.0);
            Processes::named(AGENT, &pods)
        })
    }

    /// The command line of a node's agent, through its socket in the pod's volume.
    fn ask(&self, node: &str, args: &[&str]) -> Result<Value> {
        let uid = self.agents.get(node).with_context(|| format!("{node} has no agent"))?;
        let socket = format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/run/admin.sock");
        let binary = binaries::find("evenkeel")?;
        agent::json(&self.cluster.node(node)?.node(), &binary.to_string_lossy(), &socket, args)
    }

    fn serves(&self, node: &str) -> Result<()> {
        stage::serves(&self.cast.interrupt, node, PODS_DEADLINE, || self.ask(node, &["status"]))
    }

    fn wait_gone(&self, what: &str, processes: &Processes) -> Result<()> {
        self.cast.interrupt.until(what, START_DEADLINE, || processes.gone())
    }
}

impl Stage for Kubernetes {
    fn cast(&self) -> &Cast {
        &self.cast
    }

    fn notes(&self) -> &'static Notes {
        &NOTES
    }

    fn label(&self, balance: &str) -> Result<()> {
        let label = format!("evenkeel.io/balance={balance}");
        let args = ["label", "service", "-n", SERVICE.0, SERVICE.1, "--overwrite", &label];
        self.cluster.kubectl().run(&args).map(drop)
    }

    fn in_force(&self, balance: &str, endpoints: usize) -> Result<()> {
        let ask = |node: &str, args: &[&str]| self.ask(node, args);
        stage::in_force(&self.cast.interrupt, self.agents.keys().cloned(), ask, (balance, endpoints))
    }

    fn end_zone(&self) -> Result<()> {
        let processes = Processes::of(&self.pods(SERVICE.0, &objects::selector(OUTAGE_ZONE))?)?;
        processes.signal(Signal::SIGKILL)?;
        self.wait_gone("the zone's servers are gone", &processes)
    }

    /// The kubelet and the controllers see it.
    fn publish_end(&self) -> Result<()> {
        Ok(())
    }

    fn revive_zone(&self) -> Result<()> {
        let selector = objects::selector(OUTAGE_ZONE);
        let kubectl = self.cluster.kubectl();
        kubectl.run(&["delete", "pods", "-n", SERVICE.0, "-l", &selector, "--now"])?;
        let folder = self.cast.hub.path().parent().unwrap_or(Path::new("/")).to_string_lossy();
        let servers = self.cast.servers.iter().filter(|(zone, _)| zone == OUTAGE_ZONE);
        let pods = servers.map(|(zone, name)| objects::server(zone, name, &folder));
        kubectl.apply(&objects::list(pods.collect()))?;
        self.introduced(&self.cast.servers_in(|zone| zone == OUTAGE_ZONE))
    }

    fn kill_agents(&self) -> Result<()> {
        let processes = Processes::named(AGENT, &self.agent_pods()?)?;
        processes.signal(Signal::SIGKILL)?;
        self.wait_gone("the agents are gone", &processes)
    }

    /// After the agent that was killed is back: one fault at a time.
    fn hang_agent(&self) -> Result<()> {
        self.serves(HUNG.0)?;
        self.hung_processes()?.signal(Signal::SIGSTOP)
    }

    fn recover_agents(&mut self) -> Result<()> {
        self.hung_processes()?.signal(Signal::SIGCONT)?;
        self.agents.keys().try_for_each(|node| self.serves(node))?;
        install::rolled_out(&self.cluster, INSTALLED)
    }

    fn hint(&self) -> String {
        format!(" (export KUBECONFIG={})", self.cluster.kubeconfig().display())
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Self { cluster, .. } = *self;
        cluster.down()
    }
}

fn cast(hub: Hub, interrupt: Interrupt) -> Cast {
    let names = |pods: Vec<(String, String)>| pods.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    Cast {
        hub,
        interrupt,
        clients: names(objects::clients()),
        servers: objects::servers(),
        killed: names(objects::clients()),
        hung: objects::clients_in(HUNG.1),
    }
}

/// Does what is not interrupted to its end, fails then if somebody asked to stop, and says so when they do.
fn to_the_end<T: Send>(interrupt: &Interrupt, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let working = scope.spawn(work);
        while !working.is_finished() {
            if interrupt.sleep(LOOK_EVERY).is_err() {
                eprintln!(
                    "interrupted: what is being started is finished first, so that all of it is removed"
                );
                break;
            }
        }
        let done = working.join().map_err(|_| anyhow!("a thread panicked"))?;
        // What failed because of the interrupt is not the reason.
        interrupt.sleep(Duration::ZERO)?;
        done
    })
}

/// The cluster, with Evenkeel's images on its nodes if they are wanted.
fn start(with_images: bool) -> Result<Cluster> {
    eprintln!("starting Kubernetes: {} nodes in three zones", objects::ZONES.len());
    let folder = tempfile::tempdir().context("cannot make a folder for images")?;
    let images = if with_images { install::images(folder.path())? } else { Vec::new() };
    let zones = objects::ZONES.map(|(zone, _)| zone.to_owned()).to_vec();
    Cluster::up(ClusterOptions { zones, images, ..ClusterOptions::default() })
}

/// `deploy/` of the checkout that this was built from.
fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn what_was_started_before_an_interrupt_is_handed_to_nobody() {
        let (interrupt, dropped) = (Interrupt::default(), Arc::new(()));
        to_the_end(&interrupt, || Ok(dropped.clone())).expect("nobody asked to stop");
        let result = to_the_end(&interrupt, || {
            interrupt.set();
            Ok(dropped.clone())
        });
        assert!(result.is_err());
        assert_eq!(Arc::strong_count(&dropped), 1, "it is dropped");
    }
}
