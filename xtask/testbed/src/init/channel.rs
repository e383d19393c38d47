// SPDX-License-Identifier: Apache-2.0
//! The creator's end of a node: calls to its init, and what became of the processes that it started.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::wire::{Call, Report, Request, receive, send};
use crate::process::Exit;

/// Longest time for an answer. Requests are served one by one and each takes some milliseconds.
const ANSWER: Duration = Duration::from_secs(20);

type Answer = Result<Option<OwnedFd>>;

/// A process that init started: the id of the call and a pidfd.
pub(crate) struct Started {
    pub(crate) id: u64,
    pub(crate) pidfd: OwnedFd,
}

pub(crate) struct Channel {
    socket: OwnedFd,
    next: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, SyncSender<Answer>>,
    exits: HashMap<u64, Exit>,
    /// Init is gone, and with it everything in the node.
    closed: bool,
}

impl Channel {
    /// Waits until the node is set up; returns a pidfd of its init as well.
    ///
    /// # Errors
    /// Init reports a failure, ends, or sends something else.
    pub(crate) fn open(socket: OwnedFd) -> Result<(Arc<Self>, OwnedFd)> {
        let pidfd = match receive::<Report>(socket.as_raw_fd())? {
            Some((Report::Ready, Some(pidfd))) => pidfd,
            Some((Report::Failed(why), _)) => bail!("the node's init: {why}"),
            Some((other, _)) => bail!("the node's init began with {other:?}"),
            None => bail!("the node's init ended before it was ready"),
        };
        let state = Mutex::default();
        let channel = Arc::new(Self { socket, next: AtomicU64::new(1), state, changed: Condvar::new() });
        let reader = Arc::clone(&channel);
        std::thread::Builder::new()
            .name("node reports".into())
            .spawn(move || reader.read())
            .context("start a thread for a node's reports")?;
        Ok((channel, pidfd))
    }

    /// Starts a process.
    pub(crate) fn spawn(&self, request: super::SpawnRequest) -> Result<Started> {
        let (id, fd) = self.call(Request::Spawn(request))?;
        let pidfd = fd.ok_or_else(|| anyhow!("the node's init sent no descriptor for the process"))?;
        Ok(Started { id, pidfd })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call(&self, request: Request) -> Result<(u64, Option<OwnedFd>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer): (_, Receiver<Answer>) = sync_channel(1);
        {
            let mut state = self.state();
            if state.closed {
                bail!("the node is gone");
            }
            state.waiting.insert(id, sender);
        }
        send(self.socket.as_raw_fd(), &Call { id, request }, None)?;
        let answer = answer.recv_timeout(ANSWER).map_err(|_| anyhow!("the node's init did not answer"))?;
        Ok((id, answer?))
    }

    /// How the process of call `id` ended, if it has.
    pub(crate) fn exit(&self, id: u64) -> Option<Exit> {
        self.state().exit(id)
    }

    /// Waits for the end of the process of call `id`.
    pub(crate) fn wait(&self, id: u64, deadline: Duration) -> Option<Exit> {
        let end = Instant::now() + deadline;
        let mut state = self.state();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match state.exit(id) {
                None if !left.is_zero() => {
                    let waited = self.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                exit => return exit,
            }
        }
    }

    /// Whether init is gone.
    pub(crate) fn closed(&self) -> bool {
        self.state().closed
    }

    /// Lets init end, and the node with it.
    pub(crate) fn shut(&self) {
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }

    fn read(&self) {
        while let Ok(Some((report, fd))) = receive::<Report>(self.socket.as_raw_fd()) {
            let mut state = self.state();
            match report {
                Report::Spawned { id } | Report::Done { id } => state.answer(id, Ok(fd)),
                Report::Refused { id, why } => state.answer(id, Err(anyhow!(why))),
                Report::Exited { id, code, signal } => {
                    state.exits.insert(id, Exit { code, signal });
                }
                Report::Ready | Report::Failed(_) => {}
            }
            self.changed.notify_all();
        }
        let mut state = self.state();
        state.closed = true;
        state.waiting.drain().for_each(|(_, sender)| drop(sender.send(Err(anyhow!("the node is gone")))));
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answer(&mut self, id: u64, answer: Answer) {
        if let Some(sender) = self.waiting.remove(&id) {
            // The caller may have given up.
            let _ = sender.send(answer);
        }
    }

    fn exit(&self, id: u64) -> Option<Exit> {
        let killed = self.closed.then_some(Exit { code: None, signal: Some(libc::SIGKILL) });
        self.exits.get(&id).copied().or(killed)
    }
}
