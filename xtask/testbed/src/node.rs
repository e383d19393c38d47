// SPDX-License-Identifier: Apache-2.0
//! A node: namespaces and a cgroup of its own, an init, and pods.
//!
//! A [`Node`] is a handle; the node lives until [`Node::kill`] or the end of its fabric.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::agent::{Agent, AgentOptions};
use crate::fabric::Shared;
use crate::init::{Channel, Machine, Request, SpawnRequest};
use crate::pod::Pod;
use crate::process::{Process, Spawn, host_pid, send_signal};
use crate::{binaries, cgroup, namespace, veth};

/// Longest wait for a connect, a read or a write of [`Node::http_get`].
const HTTP: Duration = Duration::from_secs(2);
/// Highest pod number of a node.
const MAX_PODS: u8 = 250;

/// A node of the testbed.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    zone: String,
    number: u8,
    shared: Arc<Shared>,
    group: PathBuf,
    logs: PathBuf,
    channel: Arc<Channel>,
    /// The outer half of `node-init`, our child.
    outer: Mutex<Child>,
    init: OwnedFd,
    init_pid: i32,
    net: OwnedFd,
    mount: OwnedFd,
    pid: OwnedFd,
    pods: Mutex<Vec<Pod>>,
    next_pod: AtomicU8,
    next_log: AtomicU32,
    machine: Option<Machine>,
}

impl Node {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        (name, zone): (&str, &str),
        number: u8,
        machine: Option<Machine>,
    ) -> Result<Self> {
        let made = Self::make(shared, (name, zone), number, machine);
        made.with_context(|| format!("make node {name}"))
    }

    fn make(
        shared: &Arc<Shared>,
        (name, zone): (&str, &str),
        number: u8,
        machine: Option<Machine>,
    ) -> Result<Self> {
        let group = shared.group.join(name);
        fs::create_dir(&group).with_context(|| format!("make cgroup {}", group.display()))?;
        let logs = shared.run_dir.join(name);
        fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .context("make a socket pair")?;
        let mut init = init_command(shared, name, &group, &logs, theirs)?;
        if let Some(machine) = &machine {
            init.arg("--machine").arg(serde_json::to_string(machine).context("encode a machine")?);
        }
        let outer = init.spawn().context("start the node's init")?;
        drop(init); // It holds the other end of the socket.
        let opened = Channel::open(ours);
        let (channel, init) = opened.with_context(|| read_log(&logs.join("init.err")))?;
        let init_pid = host_pid(&init)?;
        let namespaces = PathBuf::from(format!("/proc/{init_pid}/ns"));
        let node = Self {
            inner: Arc::new(Inner {
                name: name.into(),
                zone: zone.into(),
                number,
                shared: Arc::clone(shared),
                group,
                logs,
                channel,
                outer: Mutex::new(outer),
                init,
                init_pid,
                net: namespace::open(&namespaces.join("net"))?,
                mount: namespace::open(&namespaces.join("mnt"))?,
                pid: namespace::open(&namespaces.join("pid"))?,
                pods: Mutex::default(),
                next_pod: AtomicU8::new(2),
                next_log: AtomicU32::new(1),
                machine,
            }),
        };
        veth::apply(shared.ip()?, &veth::node_link(number, &namespaces.join("net")))?;
        veth::apply(node.command("ip")?, &veth::node_routes(number))?;
        veth::await_forwarding(|| shared.ip(), number)?;
        Ok(node)
    }

    /// Its name, also its host name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its zone.
    pub fn zone(&self) -> &str {
        &self.inner.zone
    }

    /// Its number in the address plan.
    pub fn number(&self) -> u8 {
        self.inner.number
    }

    /// 172.30.0.N
    pub fn address(&self) -> Ipv4Addr {
        veth::node_address(self.number())
    }

    /// fd30::N
    pub fn address6(&self) -> Ipv6Addr {
        veth::node_address6(self.number())
    }

    /// The folder of its logs.
    pub(crate) fn logs(&self) -> &Path {
        &self.inner.logs
    }

    /// Its network namespace.
    pub(crate) fn netns(&self) -> Result<OwnedFd> {
        self.inner.net.try_clone().context("copy a descriptor")
    }

    /// Its cgroup as the host sees it; the root of the hierarchy for everything in the node.
    pub fn cgroup(&self) -> &Path {
        &self.inner.group
    }

    /// Its init's pid as the creator sees it, for `nsenter`.
    pub fn init_pid(&self) -> i32 {
        self.inner.init_pid
    }

    /// Where its cgroup is mounted inside.
    pub fn cgroup_mount(&self) -> &Path {
        &self.inner.shared.cgroup_mount
    }

    /// Adds a pod as a runtime and a CNI plugin do.
    ///
    /// # Errors
    /// The name is taken, or a namespace, cgroup or link cannot be made.
    pub fn add_pod(&self, name: &str) -> Result<Pod> {
        if self.pods().iter().any(|pod| pod.name() == name) {
            bail!("there is a pod {name} on {} already", self.name());
        }
        let number = self.inner.next_pod.fetch_add(1, Ordering::Relaxed);
        if number > MAX_PODS {
            bail!("at most {MAX_PODS} pods fit the addresses of {}", self.name());
        }
        let pod =
            Pod::new(self, name, number).with_context(|| format!("add pod {name} to {}", self.name()))?;
        self.lock_pods().push(pod.clone());
        Ok(pod)
    }

    /// Its pods, in order of creation.
    pub fn pods(&self) -> Vec<Pod> {
        self.lock_pods().clone()
    }

    pub(crate) fn forget_pod(&self, name: &str) {
        self.lock_pods().retain(|pod| pod.name() != name);
    }

    fn lock_pods(&self) -> std::sync::MutexGuard<'_, Vec<Pod>> {
        self.inner.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process in the node's own network namespace, and in its root cgroup unless `spawn` says otherwise.
    ///
    /// # Errors
    /// The node is gone, or the program cannot be started.
    pub fn spawn(&self, spawn: &Spawn) -> Result<Process> {
        self.start(spawn, spawn.cgroup.as_deref().unwrap_or(""), None, "")
    }

    /// Starts an agent as a DaemonSet does, in the cgroup `agent`. Does not wait until it is ready.
    ///
    /// # Errors
    /// As [`Node::spawn`], or the binary is not built.
    pub fn start_agent(&self, options: &AgentOptions) -> Result<Agent> {
        Agent::start(self, options)
    }

    pub(crate) fn start(
        &self,
        spawn: &Spawn,
        group: &str,
        netns: Option<&Path>,
        owner: &str,
    ) -> Result<Process> {
        let host_group = self.inner.group.join(group);
        if !host_group.exists() {
            fs::create_dir(&host_group).with_context(|| format!("make cgroup {}", host_group.display()))?;
        }
        let number = self.inner.next_log.fetch_add(1, Ordering::Relaxed);
        let short = format!("{owner}{}-{number}", spawn.label);
        let log = |extension| self.inner.logs.join(format!("{short}.{extension}"));
        let (stdout, stderr) = (log("out"), log("err"));
        let request = SpawnRequest {
            argv: spawn.argv.clone(),
            env: spawn.env.clone(),
            netns: netns.map(Path::to_path_buf),
            cgroup: self.cgroup_mount().join(group),
            stdout: stdout.clone(),
            stderr: stderr.clone(),
        };
        let name = format!("{}/{short}", self.name());
        let started = self.inner.channel.spawn(request).with_context(|| format!("start {name}"))?;
        Process::new(name, started, Arc::clone(&self.inner.channel), (stdout, stderr))
    }

    pub(crate) fn call(&self, request: Request) -> Result<()> {
        self.inner.channel.call(request).map(|_| ())
    }

    /// Runs a short command in the node's mount and network namespaces, to its end; returns its standard output.
    ///
    /// # Errors
    /// It cannot be started or fails; the error has its standard error.
    pub fn exec(&self, argv: &[&str]) -> Result<String> {
        self.exec_with(argv, "")
    }

    /// As [`Node::exec`], with standard input.
    ///
    /// # Errors
    /// As [`Node::exec`].
    pub fn exec_with(&self, argv: &[&str], input: &str) -> Result<String> {
        let [program, arguments @ ..] = argv else { bail!("no program is given") };
        let mut command = self.command(program)?;
        command.args(arguments);
        let output = namespace::run(command, input).with_context(|| format!("on {}", self.name()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        self.command_in(program, self.inner.net.try_clone().context("copy a descriptor")?)
    }

    pub(crate) fn command_in(&self, program: &str, net: OwnedFd) -> Result<Command> {
        let copy = |descriptor: &OwnedFd| descriptor.try_clone().context("copy a descriptor");
        let node = namespace::Node { mount: copy(&self.inner.mount)?, pid: copy(&self.inner.pid)? };
        Ok(namespace::command(program, Some(node), net))
    }

    /// Runs `work` on a thread inside the node's network namespace. Its sockets stay there, but it is in the
    /// caller's cgroup, so that nothing balances it.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn in_netns<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        namespace::inside(&self.inner.net, work)
    }

    /// A GET over HTTP/1.1 from inside the node's network namespace: status and body.
    ///
    /// # Errors
    /// No connection, no answer within two seconds, or an answer that is not HTTP.
    pub fn http_get(&self, address: SocketAddr, path: &str) -> Result<(u16, String)> {
        self.http(address, "GET", path, "")
    }

    /// A POST of JSON, else as [`Node::http_get`].
    ///
    /// # Errors
    /// As [`Node::http_get`].
    pub fn http_post(&self, address: SocketAddr, path: &str, body: &str) -> Result<(u16, String)> {
        self.http(address, "POST", path, body)
    }

    fn http(&self, address: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let stream = self.in_netns(|| Ok(TcpStream::connect_timeout(&address, HTTP)?));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = stream.and_then(|stream| exchange(stream, &(head + body)));
        answer.with_context(|| format!("{method} http://{address}{path} on {}", self.name()))
    }

    /// A path of the node's mount namespace, as seen from the creator.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let relative = path.strip_prefix("/").unwrap_or(path);
        PathBuf::from(format!("/proc/{}/root", self.inner.init_pid)).join(relative)
    }

    /// Cuts the node's power: SIGKILL to its init, the kernel ends everything in it.
    ///
    /// # Errors
    /// It is gone already, or does not go within five seconds.
    pub fn kill(&self) -> Result<()> {
        send_signal(&self.inner.init, libc::SIGKILL).with_context(|| format!("kill {}", self.name()))?;
        cgroup::kill_all(&self.inner.group)
    }

    /// Unplugs its network: nobody reaches it any more, nor it anybody. Only another node of the same number changes that.
    pub(crate) fn unplug(&self) -> Result<()> {
        veth::apply(self.inner.shared.ip()?, &veth::unplug(self.number()))
    }

    /// Another node in the place of this one, which was killed: with its name, addresses and disk, and nothing else.
    pub(crate) fn boot_again(&self) -> Result<Self> {
        let Inner { name, zone, number, shared, group, machine, .. } = &*self.inner;
        self.bury();
        cgroup::remove(group)?;
        for hierarchy in machine.iter().flat_map(|machine| &machine.hierarchies) {
            // What containers left in it; the group itself is where the next init begins.
            cgroup::children(&hierarchy.group).iter().try_for_each(|group| cgroup::remove_tree(group))?;
        }
        Self::new(shared, (name, zone), *number, machine.clone())
    }

    /// Whether its init runs.
    pub fn alive(&self) -> bool {
        !self.inner.channel.closed()
    }

    /// After the node's processes are gone: end the channel and reap.
    pub(crate) fn bury(&self) {
        self.inner.channel.shut();
        let mut outer = self.inner.outer.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = outer.wait();
    }
}

fn init_command(shared: &Shared, name: &str, group: &Path, logs: &Path, control: OwnedFd) -> Result<Command> {
    let log = |file: &str| {
        let path = logs.join(file);
        fs::File::create(&path).with_context(|| format!("make {}", path.display()))
    };
    let mut command = Command::new(binaries::find(binaries::TESTBED)?);
    command.args(["node-init", "--name", name, "--cgroup"]).arg(group);
    command.arg("--cgroup-mount").arg(&shared.cgroup_mount);
    command.stdin(Stdio::from(control)).stdout(log("init.out")?).stderr(log("init.err")?);
    Ok(command)
}

fn read_log(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn exchange(mut stream: TcpStream, request: &str) -> Result<(u16, String)> {
    stream.set_read_timeout(Some(HTTP))?;
    stream.set_write_timeout(Some(HTTP))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("not an HTTP answer: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| anyhow!("no status in {head:?}"))?;
    Ok((status, body.to_owned()))
}
