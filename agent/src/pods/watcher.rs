// SPDX-License-Identifier: Apache-2.0
//! Which pods there are: the folder of namespaces and the kernel's events turned into one task per pod.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Registry, Role,
    inotify::{Change, Folder},
    namespace::HostNamespace,
    task::{self, Source},
};
use crate::proxy::Proxy;

/// How often the owner looks whether its entries are still its own. An agent that is being replaced may have overwritten or
/// removed one; the pod is balanced in the kernel until this finds it.
const ASSERT_EVERY: Duration = Duration::from_millis(500);
/// Events that wait to be handled; more are dropped, since the next connect sends another.
const EVENTS: usize = 256;

/// What [`start`] needs.
pub struct Config {
    /// Folder in which the runtime keeps namespaces, e.g. `/run/netns`.
    pub folder: PathBuf,
    /// Generation of this agent.
    pub generation: u64,
    /// The kernel's maps.
    pub registry: Arc<dyn Registry>,
    /// Who serves the connections.
    pub proxy: Proxy,
    /// What this agent is to the node; told by the heartbeat.
    pub role: watch::Receiver<Role>,
}

/// State of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its file is there, its network is not set up yet.
    Waiting,
    /// Its listeners are registered.
    Registered,
    /// Its listeners are open; another agent's are registered, or this one drains.
    Listening,
    /// Nothing is accepted any more; open connections are finished.
    Drained,
    /// Not served; the sentence says why.
    Failed(String),
}

/// A pod, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Name of its namespace's file, or `pid/NUMBER`.
    pub name: Arc<str>,
    /// Cookie; zero until known.
    pub netns_cookie: u64,
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// How far it is.
    pub phase: Phase,
}

/// What all tasks share.
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) generation: u64,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) proxy: Proxy,
    pub(super) role: watch::Receiver<Role>,
    pub(super) host: HostNamespace,
    /// Live namespaces and who serves them.
    claims: Mutex<HashMap<u64, Arc<Notify>>>,
    status: Mutex<BTreeMap<u64, Status>>,
    next_id: std::sync::atomic::AtomicU64,
    /// Pods whose listeners are open.
    pub(super) listening: watch::Sender<usize>,
}

/// The watcher as the rest of the agent sees it. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    events: mpsc::Sender<(u64, u32)>,
    scanned: watch::Receiver<bool>,
}

/// Starts to watch: reads the folder once, then follows it, in tasks on the current runtime, until `stop`. The calling
/// thread is in the agent's own namespace, which is never served.
///
/// # Errors
/// The folder cannot be watched, or the kernel is too old.
pub fn start(config: Config, stop: CancellationToken) -> io::Result<Handle> {
    let Config { folder, generation, registry, proxy, role } = config;
    let shared = Arc::new(Shared {
        folder,
        generation,
        registry,
        proxy,
        role,
        host: HostNamespace::current()?,
        claims: Mutex::default(),
        status: Mutex::default(),
        next_id: 0.into(),
        listening: watch::Sender::new(0),
    });
    let watched = Folder::watch(&shared.folder)?;
    let (events, inbox) = mpsc::channel(EVENTS);
    let (scanned_tx, scanned) = watch::channel(false);
    let (scan, scan_done) = mpsc::channel(1);
    let watcher = Watcher { shared: shared.clone(), stop, pods: HashMap::new(), scan: Some(scan) };
    tokio::spawn(watcher.run(watched, inbox, scan_done, scanned_tx));
    Ok(Handle { shared, events, scanned })
}

// === impl Handle ===

impl Handle {
    /// A connect found no listener in this namespace: serve it, where the process is visible and still lives. `tgid` is that
    /// of the initial pid namespace.
    pub fn no_listener(&self, netns_cookie: u64, tgid: u32) {
        _ = self.events.try_send((netns_cookie, tgid));
    }

    /// Waits until every pod found at the start is registered or known not to be ready.
    pub async fn scanned(&self) {
        _ = self.scanned.clone().wait_for(|done| *done).await;
    }

    /// Whether [`Handle::scanned`] would return at once.
    #[must_use]
    pub fn is_scanned(&self) -> bool {
        *self.scanned.borrow()
    }

    /// Waits until no pod's listener is open any more: some 100 ms after the role became [`Role::Draining`], and
    /// at most a second more when it became [`Role::Superseded`].
    pub async fn drained(&self) {
        _ = self.shared.listening.subscribe().wait_for(|open| *open == 0).await;
    }

    /// All pods, by name.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let mut all: Vec<Status> = self.shared.status.lock().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

// === impl Shared ===

/// The right to serve a namespace; given back when dropped.
pub(super) struct Claim {
    shared: Arc<Shared>,
    cookie: u64,
    /// Woken when the entry in the registry should be looked at.
    pub(super) assert: Arc<Notify>,
}

/// A row of the status list; removed when dropped.
pub(super) struct Row {
    shared: Arc<Shared>,
    id: u64,
}

impl Shared {
    /// Claims a namespace, unless it is served already or is the agent's own.
    pub(super) fn claim(self: &Arc<Self>, cookie: u64) -> Option<Claim> {
        if cookie == self.host.cookie() {
            return None;
        }
        let mut claims = self.claims.lock();
        let std::collections::hash_map::Entry::Vacant(entry) = claims.entry(cookie) else { return None };
        let assert = entry.insert(Arc::default()).clone();
        Some(Claim { shared: self.clone(), cookie, assert })
    }

    pub(super) fn row(self: &Arc<Self>, name: Arc<str>) -> Row {
        let id = self.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let status = Status { name, netns_cookie: 0, v4: None, v6: None, phase: Phase::Waiting };
        self.status.lock().insert(id, status);
        Row { shared: self.clone(), id }
    }

    /// Removes entries of namespaces that are not there any more: whatever happened while no agent ran.
    fn reconcile(&self) {
        let entries = match self.registry.entries() {
            Ok(entries) => entries,
            Err(error) => return tracing::warn!(%error, "the pods' entries cannot be read"),
        };
        for (cookie, generation) in entries {
            if generation <= self.generation && !self.claims.lock().contains_key(&cookie) {
                tracing::info!(cookie, "removing the entry of a namespace that is gone");
                if let Err(error) = self.registry.unregister(cookie) {
                    tracing::warn!(cookie, %error, "a stale entry cannot be removed");
                }
            }
        }
    }

    /// Wakes the tasks whose entries are not ours.
    fn assert_all(&self) {
        let claims = self.claims.lock();
        for (cookie, assert) in claims.iter() {
            if self.registry.owner(*cookie) != Some(self.generation) {
                assert.notify_one();
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.claims.lock().remove(&self.cookie);
    }
}

impl Row {
    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        if let Some(status) = self.shared.status.lock().get_mut(&self.id) {
            change(status);
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.shared.status.lock().remove(&self.id);
    }
}

// === impl Watcher ===

struct Watcher {
    shared: Arc<Shared>,
    stop: CancellationToken,
    /// Tasks of pods found in the folder, by file name.
    pods: HashMap<String, CancellationToken>,
    /// Held by every task of the first scan until its pod is known; all dropped: the scan is done.
    scan: Option<mpsc::Sender<()>>,
}

impl Watcher {
    async fn run(
        mut self,
        mut folder: Folder,
        mut events: mpsc::Receiver<(u64, u32)>,
        mut scan_done: mpsc::Receiver<()>,
        scanned: watch::Sender<bool>,
    ) {
        self.rescan(&folder);
        self.scan = None;
        let mut role = self.shared.role.clone();
        let mut assert = interval_at(Instant::now() + ASSERT_EVERY, ASSERT_EVERY);
        assert.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut roles_end = false;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                changes = folder.next() => match changes {
                    Ok(changes) => changes.into_iter().for_each(|change| self.apply(change, &folder)),
                    Err(error) => {
                        tracing::error!(%error, folder = %self.shared.folder.display(), "the folder of namespaces is watched no more");
                        return;
                    }
                },
                Some((cookie, pid)) = events.recv() => self.start(Source::Process { pid, cookie }),
                None = scan_done.recv(), if !*scanned.borrow() => {
                    if *role.borrow_and_update() == Role::Owner {
                        self.shared.reconcile();
                    }
                    scanned.send_replace(true);
                }
                changed = role.changed(), if !roles_end => match changed {
                    Ok(()) if *role.borrow_and_update() == Role::Owner && *scanned.borrow() => self.shared.reconcile(),
                    Ok(()) => {}
                    Err(_) => roles_end = true,
                },
                _ = assert.tick() => if *self.shared.role.borrow() == Role::Owner {
                    self.shared.assert_all();
                },
            }
        }
    }

    fn apply(&mut self, change: Change, folder: &Folder) {
        match change {
            Change::Appeared(name) => self.appeared(name),
            Change::Vanished(name) => {
                if let Some(task) = self.pods.remove(&name) {
                    task.cancel();
                }
            }
            Change::Rescan => self.rescan(folder),
        }
    }

    fn appeared(&mut self, name: String) {
        if !self.pods.contains_key(&name) {
            self.start(Source::File(name));
        }
    }

    /// Reads the folder whole: starts what is new, ends what is gone.
    fn rescan(&mut self, folder: &Folder) {
        let names = match folder.names() {
            Ok(names) => names,
            Err(error) => {
                let folder = self.shared.folder.display();
                return tracing::error!(%error, %folder, "the folder of namespaces cannot be read");
            }
        };
        self.pods.retain(|name, task| {
            let there = names.contains(name);
            if !there {
                task.cancel();
            }
            there
        });
        names.into_iter().for_each(|name| self.appeared(name));
    }

    fn start(&mut self, source: Source) {
        let gone = self.stop.child_token();
        match &source {
            Source::File(name) => _ = self.pods.insert(name.clone(), gone.clone()),
            Source::Process { cookie, .. } if self.shared.claims.lock().contains_key(cookie) => return,
            Source::Process { .. } => {}
        }
        tokio::spawn(task::run(self.shared.clone(), source, gone, self.scan.clone()));
    }
}
