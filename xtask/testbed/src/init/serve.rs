// SPDX-License-Identifier: Apache-2.0
//! Init's loop: answer requests, reap children, report those that were spawned. One thread, so that the answer to a
//! spawn always precedes the report of its end.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::setup::pidfd_of;
use super::wire::{Call, Report, Request, SpawnRequest, receive, send};
use crate::sysctl;

/// Serves until the other end of `control` is gone.
pub(super) fn run(control: RawFd) -> Result<()> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().context("block SIGCHLD")?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&children, flags).context("make a signal descriptor")?;
    // SAFETY: the control socket stays open for the whole life of this process.
    let socket = unsafe { BorrowedFd::borrow_raw(control) };
    let mut spawned = HashMap::new();
    loop {
        let mut ready =
            [PollFd::new(socket, PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other.context("wait for requests")?,
        };
        let request = ready[0].any().unwrap_or(true);
        while signals.read_signal().context("read signals")?.is_some() {}
        reap(control, &mut spawned)?;
        if request {
            let Some((call, _)) = receive::<Call>(control)? else { return Ok(()) };
            answer(control, call, &mut spawned)?;
        }
    }
}

fn answer(control: RawFd, call: Call, spawned: &mut HashMap<Pid, u64>) -> Result<()> {
    let id = call.id;
    let result = match call.request {
        Request::Spawn(request) => spawn(&request).map(Some),
        Request::AddNetns(path) => add_netns(&path).map(|()| None),
        Request::DeleteNetns(path) => delete_netns(&path).map(|()| None),
    };
    match result {
        Ok(Some((pid, fd))) => {
            spawned.insert(pid, id);
            send(control, &Report::Spawned { id }, Some(fd.as_raw_fd()))
        }
        Ok(None) => send(control, &Report::Done { id }, None),
        Err(error) => send(control, &Report::Refused { id, why: format!("{error:#}") }, None),
    }
}

fn reap(control: RawFd, spawned: &mut HashMap<Pid, u64>) -> Result<()> {
    loop {
        let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Some(code), None),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, None, Some(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error).context("reap a child"),
        };
        // Children that nobody asked for are orphans of those that somebody did.
        if let Some(id) = spawned.remove(&pid) {
            send(control, &Report::Exited { id, code, signal }, None)?;
        }
    }
}

fn spawn(request: &SpawnRequest) -> Result<(Pid, OwnedFd)> {
    let [program, arguments @ ..] = request.argv.as_slice() else {
        bail!("a spawn request names no program")
    };
    let procs = request.cgroup.join("cgroup.procs");
    let cgroup = OpenOptions::new().write(true).open(&procs);
    let cgroup = cgroup.with_context(|| format!("open {}", procs.display()))?;
    let netns = match &request.netns {
        Some(path) => Some(File::open(path).with_context(|| format!("open {}", path.display()))?),
        None => None,
    };
    let log = |path: &Path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.with_context(|| format!("open log {}", path.display()))
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(request.env.iter().cloned()).stdin(Stdio::null());
    command.stdout(log(&request.stdout)?).stderr(log(&request.stderr)?);
    let enter = move || {
        nix::unistd::write(&cgroup, b"0")?;
        if let Some(netns) = &netns {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only write(2) and setns(2) are called; both are async-signal-safe.
    unsafe { command.pre_exec(enter) };
    let child = command.spawn().with_context(|| format!("start {program}"))?;
    // The child cannot have been reaped: this is the only thread that reaps.
    let pid = child.id() as i32;
    Ok((Pid::from_raw(pid), pidfd_of(pid)?))
}

/// As runtimes do: the file first, then the mount. Watchers see the file before it is a namespace.
fn add_netns(path: &Path) -> Result<()> {
    File::create_new(path).with_context(|| format!("make {}", path.display()))?;
    let thread = std::thread::scope(|scope| {
        let make = scope.spawn(|| -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            sysctl::host()?;
            let none = None::<&str>;
            mount(Some("/proc/thread-self/ns/net"), path, none, MsFlags::MS_BIND, none)
                .with_context(|| format!("mount a network namespace at {}", path.display()))
        });
        make.join()
    });
    let made = thread.unwrap_or_else(|_| Err(anyhow!("the thread that made {} panicked", path.display())));
    if made.is_err() {
        let _ = std::fs::remove_file(path);
    }
    made
}

fn delete_netns(path: &Path) -> Result<()> {
    umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("unmount {}", path.display()))?;
    std::fs::remove_file(path).with_context(|| format!("unlink {}", path.display()))
}
