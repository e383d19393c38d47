// SPDX-License-Identifier: Apache-2.0
//! A node of the cluster: containerd, a kubelet and kube-proxy on a machine of the testbed, which can lose its power.
//!
//! Pods are routed (CNI plugin `ptp`), also those of one node to each other, so that kube-proxy's rules see both
//! directions of each connection. Host ports are not mapped.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::images::PAUSE;
use super::setup::{ProxyMode, Setup, alive, write_config};
use crate::fabric::Fabric;
use crate::node::Node;
use crate::process::Process;
use crate::wait::eventually;

/// How long containerd may take to answer.
const CONTAINERD: Duration = Duration::from_secs(60);
const SOCKET: &str = "/run/containerd/containerd.sock";
/// What the hard limit of ordinary hosts allows; above it a kubelet without `CAP_SYS_RESOURCE` fails.
const OPEN_FILES: u64 = 20_000;

/// A node of the cluster.
pub struct Worker {
    setup: Arc<Setup>,
    now: Mutex<(Node, Vec<Process>)>,
}

impl Worker {
    pub(super) fn new(setup: &Arc<Setup>, node: Node) -> Self {
        Self { setup: Arc::clone(setup), now: Mutex::new((node, Vec::new())) }
    }

    /// Its name, in the testbed and in Kubernetes.
    pub fn name(&self) -> String {
        self.node().name().to_owned()
    }

    /// The machine as it is now; after a power cycle it is another one. Runs commands inside ([`Node::exec`]).
    pub fn node(&self) -> Node {
        self.lock().0.clone()
    }

    /// Its daemons: containerd, the kubelet, kube-proxy.
    pub fn processes(&self) -> Vec<Process> {
        self.lock().1.clone()
    }

    /// Cuts its power: everything on it ends at once, and nobody reaches it. Its disk stays.
    ///
    /// # Errors
    /// It is off already.
    pub fn power_off(&self) -> Result<()> {
        let node = self.node();
        node.unplug()?;
        node.kill()
    }

    /// Boots it after [`Worker::power_off`]. Does not wait until it is Ready.
    pub(super) fn power_on(&self, fabric: &Fabric) -> Result<()> {
        let node = fabric.boot_again(&self.node())?;
        *self.lock() = (node, Vec::new());
        self.start_runtime()?;
        self.start_daemons()
    }

    /// Starts containerd and waits until it answers.
    pub(super) fn start_runtime(&self) -> Result<()> {
        let (setup, node) = (&self.setup, self.node());
        let plugins = setup.programs.plugins();
        let networks = node.logs().join("cni");
        std::fs::create_dir_all(&networks).with_context(|| format!("make {}", networks.display()))?;
        write_config(
            &node,
            "cni/10-evenkeel.conflist",
            &network(&node, setup.options.dual_stack).to_string(),
        )?;
        let config = write_config(&node, "containerd.toml", &containerd(&plugins, &networks))?;
        let process = node.spawn(&setup.spawn("containerd").args(["--config", &config]))?;
        self.lock().1.push(process.clone());
        let ctr = setup.programs.path("ctr");
        eventually("containerd answers", CONTAINERD, || {
            if let Err(ended) = alive([&process]) {
                return Ok(Err(ended));
            }
            if !node.path(SOCKET).exists() {
                anyhow::bail!("{SOCKET} is not there");
            }
            node.exec(&[&ctr, "version"]).map(|_| Ok(()))
        })
        .with_context(|| process.tail())?
    }

    /// Imports an archive of images.
    pub(super) fn import(&self, archive: &Path) -> Result<()> {
        let ctr = self.setup.programs.path("ctr");
        let archive = archive.to_string_lossy();
        let imported = self.node().exec(&[&ctr, "--namespace", "k8s.io", "images", "import", &archive]);
        imported.with_context(|| format!("import {archive}")).map(drop)
    }

    /// Starts the kubelet and kube-proxy, once the API server is ready.
    pub(super) fn start_daemons(&self) -> Result<()> {
        let (setup, node) = (&self.setup, self.node());
        let name = node.name().to_owned();
        let user = format!("system:node:{name}");
        let kubeconfig = setup.kubeconfig(&name, &user, &["system:nodes"])?;
        let config = write_config(&node, "kubelet.json", &kubelet(setup, &node)?.to_string())?;
        let addresses = setup.ranges(&node.address().to_string(), &node.address6().to_string());
        let kubelet = setup.spawn("kubelet").args([
            format!("--config={config}"),
            format!("--kubeconfig={kubeconfig}"),
            format!("--hostname-override={name}"),
            format!("--node-ip={addresses}"),
        ]);
        let mut started = vec![node.spawn(&kubelet)?];
        if setup.options.proxy_mode != ProxyMode::None {
            let kubeconfig = setup.kubeconfig(&format!("proxy-{name}"), "system:kube-proxy", &[])?;
            let config = kube_proxy(setup, &name, &kubeconfig);
            let config = write_config(&node, "kube-proxy.json", &config.to_string())?;
            started.push(node.spawn(&setup.spawn("kube-proxy").args([format!("--config={config}")]))?);
        }
        self.lock().1.extend(started);
        Ok(())
    }

    /// Fails if one of its daemons has ended.
    pub(super) fn check(&self) -> Result<()> {
        alive(&self.processes())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Node, Vec<Process>)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Node object that the kubelet finds, with what a cloud provider would know.
pub(super) fn object(node: &Node, dual_stack: bool) -> Value {
    let ranges = pod_ranges(node, dual_stack);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name(),
            "labels": {
                "topology.kubernetes.io/region": "testbed",
                "topology.kubernetes.io/zone": node.zone(),
            },
        },
        "spec": { "podCIDR": ranges[0], "podCIDRs": ranges },
    })
}

fn pod_ranges(node: &Node, dual_stack: bool) -> Vec<String> {
    let number = node.number();
    let v6 = dual_stack.then(|| format!("fd44:{number:x}::/64"));
    std::iter::once(format!("10.244.{number}.0/24")).chain(v6).collect()
}

fn network(node: &Node, dual_stack: bool) -> Value {
    let ranges: Vec<Value> =
        pod_ranges(node, dual_stack).iter().map(|range| json!([{ "subnet": range }])).collect();
    let mut routes = vec![json!({ "dst": "0.0.0.0/0" })];
    routes.extend(dual_stack.then(|| json!({ "dst": "::/0" })));
    json!({
        "cniVersion": "0.4.0",
        "name": "evenkeel",
        "plugins": [{
            "type": "ptp",
            "ipMasq": false,
            "ipam": { "type": "host-local", "ranges": ranges, "routes": routes },
        }],
    })
}

/// Version 2 of the configuration: containerd 1.x reads no other, and 2.x reads it too. Without `CAP_SYS_RESOURCE`
/// no process may be made a worse victim of the OOM killer than asked for: hence `restrict_oom_score_adj`.
fn containerd(plugins: &Path, networks: &Path) -> String {
    let (plugins, networks) = (plugins.display(), networks.display());
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
"#
    )
}

fn kubelet(setup: &Setup, node: &Node) -> Result<Value> {
    let hosts = [node.address().to_string(), node.name().to_owned()];
    let serving = setup.pki.issue(&format!("kubelet-{}", node.name()), node.name(), &[], &hosts)?;
    Ok(json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address().to_string(),
        "tlsCertFile": serving.certificate,
        "tlsPrivateKeyFile": serving.key,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": setup.pki.path("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "enforceNodeAllocatable": ["none"],
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        "oomScoreAdj": 0,
        "maxOpenFiles": OPEN_FILES,
        // All nodes share one disk, whose owner decides how full it may be.
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "resolvConf": "",
        // Where cluster DNS would be: a lookup is refused at once, as by a cluster whose DNS is down.
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "nodeStatusUpdateFrequency": "5s",
        // Renewed every quarter of it: the controller's ten seconds are some missed renewals.
        "nodeLeaseDurationSeconds": 8,
        "logging": { "verbosity": 2 },
    }))
}

/// Without limits on connection tracking: those are the host's.
fn kube_proxy(setup: &Setup, name: &str, kubeconfig: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": setup.options.proxy_mode.name(),
        "hostnameOverride": name,
        "clusterCIDR": setup.pods(),
        "clientConnection": { "kubeconfig": kubeconfig },
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
        "oomScoreAdj": 0,
        "nodePortAddresses": ["primary"],
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    })
}
