// SPDX-License-Identifier: Apache-2.0
//! One pod, from the appearance of its namespace to its deletion.
//!
//! Order matters at the end: the entry is taken back first, so that no further connect is redirected; then everything that
//! holds the namespace is closed, connections by a reset, since an orderly close would wait for a peer that is gone.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::{io::unix::AsyncFd, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Namespace, Role,
    listener::Listeners,
    namespace::{pidfd, readable},
    readiness::{Changes, Network},
    watcher::{Claim, Phase, Row, Shared},
};
use crate::proxy::Pod;

/// The file is made, then the namespace is mounted onto it, and no event tells of the mount: look again after this long. The
/// gap is 0.1 to 2 ms when measured.
const MOUNT_RETRY: Duration = Duration::from_millis(1);
/// A file that is no namespace after this long is something else.
const MOUNT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a draining agent accepts after it has taken back its entries: connects that were redirected before are under way.
const ACCEPT_AFTER_DRAIN: Duration = Duration::from_millis(100);
/// How long a newer agent may take from its claim to the registration of a listener. It has opened it before, so that this
/// is a matter of its tasks being scheduled.
const REPLACED_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked for. The map tells of no change.
const REPLACED_LOOK: Duration = Duration::from_millis(5);

/// How a pod was found.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A file in the folder.
    File(String),
    /// A process that connected.
    Process {
        /// Its id.
        pid: u32,
        /// The namespace the kernel saw it in.
        cookie: u64,
    },
}

/// Serves a pod until `gone`. `scan` is dropped once it is registered, or known not to be ready.
pub(super) async fn run(
    shared: Arc<Shared>,
    source: Source,
    gone: CancellationToken,
    scan: Option<mpsc::Sender<()>>,
) {
    let name: Arc<str> = match &source {
        Source::File(name) => name.as_str().into(),
        Source::Process { pid, .. } => format!("pid/{pid}").into(),
    };
    let row = shared.row(name.clone());
    let served = async {
        let Some(opened) = open(&shared, source).await? else { return Ok(()) };
        let Some(claim) = shared.claim(opened.namespace.cookie()) else { return Ok(()) };
        row.update(|status| status.netns_cookie = opened.namespace.cookie());
        serve(&shared, &name, opened, &claim, &row, scan, &gone).await
    };
    let served: io::Result<()> = tokio::select! {
        biased;
        () = gone.cancelled() => return,
        served = served => served,
    };
    if let Err(error) = served {
        tracing::warn!(pod = %name, %error, "a pod is not served: its connections are balanced in the kernel");
        row.update(|status| status.phase = Phase::Failed(error.to_string()));
        gone.cancelled().await;
    }
}

/// A namespace, and how long to hold it.
struct Opened {
    namespace: Arc<Namespace>,
    /// Only for one found by its process: ends with that.
    process: Option<AsyncFd<std::os::fd::OwnedFd>>,
}

/// Opens the namespace. `None` when it vanished, or is another than was said.
async fn open(shared: &Shared, source: Source) -> io::Result<Option<Opened>> {
    match source {
        Source::File(name) => {
            let namespace = open_file(shared, shared.folder.join(name)).await?;
            Ok(namespace.map(|n| Opened { namespace: Arc::new(n), process: None }))
        }
        Source::Process { pid, cookie } => {
            // First a handle on the process: its number may be used again.
            let Ok(process) = pidfd(pid) else { return Ok(None) };
            let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
            // An agent without the host's pid namespace does not see the process, or sees another of that number.
            let Ok(Some(namespace)) = Namespace::open(&path, &shared.host) else { return Ok(None) };
            if namespace.cookie() != cookie {
                return Ok(None);
            }
            Ok(Some(Opened { namespace: Arc::new(namespace), process: Some(readable(process)?) }))
        }
    }
}

async fn open_file(shared: &Shared, path: PathBuf) -> io::Result<Option<Namespace>> {
    let deadline = Instant::now() + MOUNT_DEADLINE;
    loop {
        match Namespace::open(&path, &shared.host) {
            Ok(Some(namespace)) => return Ok(Some(namespace)),
            Ok(None) if Instant::now() < deadline => tokio::time::sleep(MOUNT_RETRY).await,
            Ok(None) => return Err(io::Error::other(format!("{} is not a namespace", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The part of a pod's life in which its namespace is known.
async fn serve(
    shared: &Arc<Shared>,
    name: &Arc<str>,
    opened: Opened,
    claim: &Claim,
    row: &Row,
    scan: Option<mpsc::Sender<()>>,
    gone: &CancellationToken,
) -> io::Result<()> {
    let Opened { namespace, process } = opened;
    let changes = Changes::subscribe(&namespace)?;
    let mut network = Network::read(&namespace)?;
    let mut scan = scan;
    while !network.is_ready() {
        drop(scan.take());
        tokio::select! {
            changed = changes.next() => changed?,
            () = ended(process.as_ref()) => return Ok(()),
        }
        network = Network::read(&namespace)?;
    }
    // Also when this future is dropped: then the pod's connections are reset.
    let abort = gone.child_token();
    let _abort = abort.clone().drop_guard();
    let pod = shared.proxy.pod(name, namespace.cookie(), Box::new(namespace.clone()), abort);
    let listeners = Listeners::open(&namespace, network.loopback_v6)?;
    shared.listening.send_modify(|open| *open += 1);
    let mut registration =
        Registration { shared: shared.clone(), row, namespace, pod, network, listeners: Some(listeners) };
    registration.assert();
    drop(scan);
    registration.run(&changes, claim, process.as_ref()).await
}

/// A pod with listeners. Dropping it takes back what is ours.
struct Registration<'a> {
    shared: Arc<Shared>,
    row: &'a Row,
    namespace: Arc<Namespace>,
    pod: Arc<Pod>,
    network: Network,
    /// `None` once drained.
    listeners: Option<Listeners>,
}

impl Registration<'_> {
    async fn run(
        &mut self,
        changes: &Changes,
        claim: &Claim,
        process: Option<&AsyncFd<std::os::fd::OwnedFd>>,
    ) -> io::Result<()> {
        let mut role = self.shared.role.clone();
        let mut roles_end = false;
        loop {
            let now = *role.borrow_and_update();
            if matches!(now, Role::Draining | Role::Superseded) && self.listeners.is_some() {
                if now == Role::Superseded {
                    self.until_replaced().await;
                }
                self.drain().await;
            }
            tokio::select! {
                (stream, peer) = accept(self.listeners.as_ref()) => self.shared.proxy.accept(&self.pod, stream, peer),
                changed = changes.next() => {
                    changed?;
                    self.network_changed()?;
                }
                () = claim.assert.notified() => self.assert(),
                changed = role.changed(), if !roles_end => match changed {
                    Ok(()) => self.assert(),
                    Err(_) => roles_end = true,
                },
                () = ended(process) => return Ok(()),
            }
        }
    }

    /// Makes the entry ours, if this agent is the owner and it is not.
    fn assert(&self) {
        let owner = *self.shared.role.borrow() == Role::Owner;
        let mine = self.is_mine();
        if owner && !mine && self.network.is_ready() {
            self.register();
        } else {
            self.show(if mine { Phase::Registered } else { Phase::Listening });
        }
    }

    fn is_mine(&self) -> bool {
        self.shared.registry.owner(self.namespace.cookie()) == Some(self.shared.generation)
    }

    fn register(&self) {
        let Some(listeners) = &self.listeners else { return };
        let (cookie, addresses) = (self.namespace.cookie(), self.network.addresses(self.shared.generation));
        match self.shared.registry.register(cookie, listeners.v4(), listeners.v6(), addresses) {
            Ok(()) => self.show(Phase::Registered),
            Err(error) => {
                tracing::warn!(pod = %self.pod.name, %error, "a pod cannot be registered");
                self.show(Phase::Failed(error.to_string()));
            }
        }
    }

    fn show(&self, phase: Phase) {
        let Network { v4, v6, .. } = self.network;
        self.row.update(|status| (status.v4, status.v6, status.phase) = (v4, v6, phase));
    }

    fn network_changed(&mut self) -> io::Result<()> {
        let network = Network::read(&self.namespace)?;
        if network == self.network {
            return Ok(());
        }
        self.network = network;
        if !network.is_ready() {
            self.take_back();
            self.show(Phase::Waiting);
            return Ok(());
        }
        if let Some(listeners) = &mut self.listeners {
            listeners.set_v6(&self.namespace, network.loopback_v6)?;
        }
        if *self.shared.role.borrow() == Role::Owner {
            self.register();
        }
        Ok(())
    }

    /// Goes on accepting until the newer agent's listener is in place of this one's: without either, connects would fall to
    /// the kernel. A newer agent that does not come is not waited for longer than [`REPLACED_WITHIN`].
    async fn until_replaced(&mut self) {
        let deadline = Instant::now() + REPLACED_WITHIN;
        let mut looks = tokio::time::interval(REPLACED_LOOK);
        while self.is_mine() && Instant::now() < deadline {
            tokio::select! {
                (stream, peer) = accept(self.listeners.as_ref()) => self.shared.proxy.accept(&self.pod, stream, peer),
                _ = looks.tick() => {}
            }
        }
    }

    /// Takes back the entry, accepts what is under way, closes the listeners.
    async fn drain(&mut self) {
        self.take_back();
        self.show(Phase::Listening);
        let enough = tokio::time::sleep(ACCEPT_AFTER_DRAIN);
        tokio::pin!(enough);
        loop {
            tokio::select! {
                // In this order: what has arrived by the end is still accepted.
                biased;
                (stream, peer) = accept(self.listeners.as_ref()) => self.shared.proxy.accept(&self.pod, stream, peer),
                () = &mut enough => break,
            }
        }
        self.close();
        self.show(Phase::Drained);
    }

    /// Removes the entry if it is this agent's; another one's is left alone.
    fn take_back(&self) {
        if self.is_mine()
            && let Err(error) = self.shared.registry.unregister(self.namespace.cookie())
        {
            tracing::warn!(pod = %self.pod.name, %error, "a pod's entry cannot be removed");
        }
    }

    fn close(&mut self) {
        if self.listeners.take().is_some() {
            self.shared.listening.send_modify(|open| *open -= 1);
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.take_back();
        self.close();
    }
}

async fn accept(listeners: Option<&Listeners>) -> (tokio::net::TcpStream, std::net::SocketAddr) {
    match listeners {
        Some(listeners) => listeners.accept().await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of the process, where there is one.
async fn ended(process: Option<&AsyncFd<std::os::fd::OwnedFd>>) {
    match process {
        Some(process) => _ = process.readable().await,
        None => std::future::pending().await,
    }
}
