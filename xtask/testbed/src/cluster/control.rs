// SPDX-License-Identifier: Apache-2.0
//! The control plane, on the testbed's control node: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.
//!
//! What must always be true: managers start after the API server is ready, else they end for want of the roles that it
//! makes at first start. A node that loses power is noticed after ten seconds, not after Kubernetes' fifty: only the
//! waiting is cut short.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kubectl::Kubectl;
use super::setup::{API, KUBERNETES, Setup, alive};
use crate::node::Node;
use crate::process::Process;
use crate::wait::eventually;

const ETCD: &str = "127.0.0.1:2379";
/// How long the API server may take; five seconds on two idle cores.
const READY: Duration = Duration::from_secs(120);
/// How long a killed process may take to go.
const GONE: Duration = Duration::from_secs(10);

/// The API server: can be killed and restarted. etcd goes on.
pub struct ApiServer {
    setup: Arc<Setup>,
    node: Node,
    etcd: Process,
    process: Mutex<Process>,
    kubectl: Kubectl,
}

impl ApiServer {
    pub(super) fn start(setup: &Arc<Setup>, node: &Node, kubectl: Kubectl) -> Result<Self> {
        let etcd = node.spawn(
            &setup
                .spawn("etcd")
                .arg("--data-dir")
                .arg(node.logs().join("etcd").to_string_lossy())
                // Nothing outlives the cluster.
                .arg("--unsafe-no-fsync")
                .args(["--listen-client-urls", "http://127.0.0.1:2379"])
                .args(["--advertise-client-urls", "http://127.0.0.1:2379"])
                .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
                .args(["--initial-advertise-peer-urls", "http://127.0.0.1:2380"])
                .args(["--initial-cluster", "default=http://127.0.0.1:2380"]),
        )?;
        issue(setup)?;
        let process = spawn(setup, node)?;
        let (setup, node) = (Arc::clone(setup), node.clone());
        Ok(Self { setup, node, etcd, process: Mutex::new(process), kubectl })
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// It ends, or is not ready within two minutes.
    pub fn ready(&self) -> Result<()> {
        let process = self.process();
        let address = api();
        let listening = || self.node.in_netns(|| Ok(std::net::TcpStream::connect_timeout(&address, GONE)?));
        let ready = eventually("the API server is ready", READY, || {
            if let Err(ended) = alive([&self.etcd, &process]) {
                return Ok(Err(ended));
            }
            // A connect is cheap, a kubectl is not.
            listening()?;
            self.kubectl.run(&["get", "--raw", "/readyz"]).map(|_| Ok(()))
        });
        ready.with_context(|| process.tail())?
    }

    /// Kills it, as a crash would.
    ///
    /// # Errors
    /// It was dead already, or does not go.
    pub fn kill(&self) -> Result<()> {
        let process = self.process();
        process.kill()?;
        process.wait(GONE).map(drop)
    }

    /// Starts it again after [`ApiServer::kill`], and waits until it serves.
    ///
    /// # Errors
    /// As [`ApiServer::ready`].
    pub fn restart(&self) -> Result<()> {
        ensure!(self.process().try_status().is_some(), "the API server runs: kill it first");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = spawn(&self.setup, &self.node)?;
        self.ready()
    }

    /// Its process of now.
    pub fn process(&self) -> Process {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compacts etcd up to now: who asks for what was before is answered 410 once the API server's own window is gone,
    /// which a restart takes away.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn compact_history(&self) -> Result<()> {
        compact(|path, body| self.etcd(path, body))
    }

    fn etcd(&self, path: &str, body: &Value) -> Result<Value> {
        let address: SocketAddr = ETCD.parse().context("etcd's address")?;
        let (status, answer) = self.node.http_post(address, path, &body.to_string())?;
        ensure!(status == 200, "etcd answered {path} with {status}: {answer}");
        let chunked = answer.lines().find(|line| line.starts_with('{')).unwrap_or(&answer);
        serde_json::from_str(chunked).with_context(|| format!("etcd's answer to {path}: {answer}"))
    }
}

/// Compacts an etcd up to now. `etcd` posts to its JSON gateway, <https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/>.
pub(crate) fn compact(etcd: impl Fn(&str, &Value) -> Result<Value>) -> Result<()> {
    // A read of the key `\0`, which nobody has: its header has the revision.
    let range = etcd("/v3/kv/range", &json!({ "key": "AA==" }))?;
    let revision = range["header"]["revision"].clone();
    ensure!(revision.is_string(), "etcd named no revision: {range}");
    etcd("/v3/kv/compaction", &json!({ "revision": revision, "physical": true })).map(drop)
}

/// The API server's address as nodes see it.
pub(super) fn api() -> SocketAddr {
    SocketAddr::from(([172, 30, 0, 250], 6443))
}

/// Starts the controller manager and the scheduler.
pub(super) fn start_managers(setup: &Setup, node: &Node) -> Result<[Process; 2]> {
    let managers = [
        ("kube-controller-manager", "system:kube-controller-manager"),
        ("kube-scheduler", "system:kube-scheduler"),
    ];
    let [controllers, scheduler] = managers.map(|(program, user)| {
        let kubeconfig = setup.kubeconfig(program, user, &[])?;
        let spawn = setup.spawn(program).args([
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--cert-dir={}", node.logs().join(program).display()),
            "--bind-address=127.0.0.1".into(),
            "--leader-elect=false".into(),
        ]);
        anyhow::Ok(spawn)
    });
    let controllers = controllers?.args([
        "--use-service-account-credentials=true".into(),
        // Made at start, by default in the host's /usr.
        format!("--flex-volume-plugin-dir={}", node.logs().join("volume-plugins").display()),
        format!("--root-ca-file={}", setup.pki.path("ca.crt")),
        format!("--service-account-private-key-file={}", setup.pki.path("sa.key")),
        format!("--service-cluster-ip-range={}", setup.services()),
        "--node-monitor-period=1s".into(),
        "--node-monitor-grace-period=10s".into(),
    ]);
    Ok([node.spawn(&controllers)?, node.spawn(&scheduler?)?])
}

fn issue(setup: &Setup) -> Result<()> {
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    let hosts: Vec<String> =
        names.into_iter().chain(["127.0.0.1", "172.30.0.250", KUBERNETES]).map(String::from).collect();
    setup.pki.issue("apiserver", "kube-apiserver", &[], &hosts)?;
    setup.pki.issue("kubelet-client", "kube-apiserver-kubelet-client", &["system:masters"], &[]).map(drop)
}

fn spawn(setup: &Setup, node: &Node) -> Result<Process> {
    let file = |name: &str| setup.pki.path(name);
    let (host, port) = API.split_once(':').unwrap_or((API, "6443"));
    node.spawn(&setup.spawn("kube-apiserver").args([
        format!("--etcd-servers=http://{ETCD}"),
        format!("--advertise-address={host}"),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("kubelet-client.crt")),
        format!("--kubelet-client-key={}", file("kubelet-client.key")),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-cluster-ip-range={}", setup.services()),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        "--kubelet-preferred-address-types=InternalIP".into(),
        // A lease that a killed server cannot renew does not keep the next one's address away.
        "--endpoint-reconciler-type=lease".into(),
        format!("--cert-dir={}", node.logs().join("apiserver").display()),
    ]))
}
