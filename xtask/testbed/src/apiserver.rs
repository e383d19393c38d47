// SPDX-License-Identifier: Apache-2.0
//! A real etcd and kube-apiserver without anything behind them: for tests of who talks to the API, where a whole cluster
//! would only add time. No controllers run, so EndpointSlices are what the test writes.
//!
//! `etcd`, `kube-apiserver` and `kubectl` are found where a cluster finds its programs; without them a start fails, it
//! skips nothing. What must always be true: everything listens on loopback, and dies with its creator.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::control::compact;
use crate::cluster::pki::Pki;
use crate::cluster::programs::Programs;
use crate::wait::eventually;

/// What it is made of.
const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];
/// How long the API server may take; five seconds on two idle cores.
const READY: Duration = Duration::from_secs(120);
/// Of the administrator. It lives as long as the folder.
const ADMIN: &str = "admin-of-the-testbed";

/// The two processes. Dropping it kills both and removes their folder.
pub struct ApiServer {
    folder: TempDir,
    programs: Programs,
    pki: Pki,
    etcd: Daemon,
    server: Option<Daemon>,
    etcd_address: SocketAddr,
    address: SocketAddr,
}

/// A process on this machine, killed when dropped or when its creator dies.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl ApiServer {
    /// Starts both and waits until the API is served.
    ///
    /// # Errors
    /// A program is missing, or does not start; the error shows the end of its log.
    pub fn start() -> Result<Self> {
        let folder = TempDir::new()?;
        let (etcd_address, peers, address) = (unused()?, unused()?, unused()?);
        let programs = Programs::find_some(&PROGRAMS)?;
        let pki = credentials(folder.path())?;
        let (clients, peers) = (format!("http://{etcd_address}"), format!("http://{peers}"));
        let mut command = Command::new(programs.path("etcd"));
        command
            .arg("--data-dir")
            .arg(folder.path().join("etcd"))
            // Nothing outlives the test.
            .arg("--unsafe-no-fsync")
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")]);
        let etcd = Daemon::spawn(command, &folder.path().join("etcd.log"))?;
        let mut server = Self { folder, programs, pki, etcd, server: None, etcd_address, address };
        server.start_server()?;
        Ok(server)
    }

    /// Kills the API server, as a crash would. etcd goes on.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts the API server again, at the same address.
    ///
    /// # Errors
    /// As [`ApiServer::start`].
    pub fn start_server(&mut self) -> Result<()> {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let mut command = Command::new(self.programs.path("kube-apiserver"));
        command.args([
            format!("--etcd-servers=http://{}", self.etcd_address),
            format!("--secure-port={}", self.address.port()),
            "--bind-address=127.0.0.1".into(),
            format!("--tls-cert-file={}", path("server.crt")),
            format!("--tls-private-key-file={}", path("server.key")),
            format!("--token-auth-file={}", path("tokens.csv")),
            format!("--service-account-key-file={}", path("sa.pub")),
            format!("--service-account-signing-key-file={}", path("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            "--authorization-mode=RBAC".into(),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            "--endpoint-reconciler-type=none".into(),
            format!("--cert-dir={}", path("certs")),
        ]);
        self.server = Some(Daemon::spawn(command, &self.folder.path().join("kube-apiserver.log"))?);
        eventually("the API server is ready", READY, || {
            TcpStream::connect_timeout(&self.address, Duration::from_secs(1))?;
            self.kubectl(&["get", "--raw", "/readyz"]).map(drop)
        })
        .with_context(|| self.server.as_ref().map_or_else(String::new, Daemon::tail))
        .with_context(|| self.etcd.tail())
    }

    /// Runs kubectl as an administrator; its standard output.
    ///
    /// # Errors
    /// It fails; the error has what it wrote.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(&self.kubeconfig("admin", ADMIN)?, arguments, "")
    }

    /// Creates or changes the objects of a manifest.
    ///
    /// # Errors
    /// As [`ApiServer::kubectl`].
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let config = self.kubeconfig("admin", ADMIN)?;
        self.kubectl_with(&config, &["apply", "--server-side", "-f", "-"], manifest).map(drop)
    }

    /// Runs kubectl with another kubeconfig and this standard input.
    ///
    /// # Errors
    /// As [`ApiServer::kubectl`].
    pub fn kubectl_with(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(self.programs.path("kubectl"))
            .env("KUBECONFIG", kubeconfig)
            .args(["--cache-dir", &self.folder.path().join("cache").to_string_lossy()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let Output { status, stdout, stderr } = child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(status.success(), "kubectl {arguments:?}: {status}\n{}{}", text(&stdout), text(&stderr));
        Ok(text(&stdout))
    }

    /// A kubeconfig for whoever has this token; its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        let server = format!("https://{}", self.address);
        self.pki.kubeconfig_for(name, &server, &json!({"token": token}))
    }

    /// Compacts etcd up to now: after its next start, the API server answers 410 to who goes on from before.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn compact(&self) -> Result<()> {
        compact(|path, body| self.etcd(path, body))
    }

    fn etcd(&self, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.etcd_address)?;
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nhost: etcd\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.contains(" 200 "), "etcd answered {path} with {answer}");
        serde_json::from_str(body).with_context(|| format!("etcd's answer to {path}: {body}"))
    }

    /// The folder of its files, for further ones; removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Daemon {
    /// Starts it with both streams in `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let die_with_creator = || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            Ok(())
        };
        // SAFETY: prctl(2) is async-signal-safe; nothing else happens between fork and exec.
        unsafe { command.pre_exec(die_with_creator) };
        let child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)?)
    }

    /// All it has written.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of that, for error messages.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("--- {}\n{}", self.log.display(), lines[lines.len().saturating_sub(25)..].join("\n"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An address that nobody listens on.
fn unused() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// An authority, the server's certificate, the key of ServiceAccounts' tokens and the administrator's token.
fn credentials(folder: &Path) -> Result<Pki> {
    let pki = Pki::new(folder)?;
    pki.issue("server", "kube-apiserver", &[], &["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    fs::write(folder.join("tokens.csv"), format!("{ADMIN},admin,admin,system:masters\n"))?;
    Ok(pki)
}
