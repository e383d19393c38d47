// SPDX-License-Identifier: Apache-2.0
//! From a plain process to PID 1 of a node: cgroup, namespaces, mounts, sysctls.
//!
//! The mounts are what an agent finds on a real node: a fresh `/proc` and `/sys`, cgroup2 where the host has it but
//! rooted at the node's own cgroup, an own bpffs, and a `/run` of its own with `/run/netns`.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, sethostname, setsid};

use super::machine::Machine;
use super::serve;
use super::wire::{Report, send};
use crate::sysctl;

/// The control socket is standard input.
const CONTROL: i32 = 0;

/// Arguments of the subcommand `node-init`.
#[derive(Debug, Parser)]
struct Args {
    #[arg(long)]
    name: String,
    /// The node's cgroup, as mounted on the host.
    #[arg(long)]
    cgroup: PathBuf,
    /// Where cgroup2 is mounted, on the host and then in the node.
    #[arg(long)]
    cgroup_mount: PathBuf,
    /// What a node of a real cluster has besides, as JSON.
    #[arg(long)]
    machine: Option<String>,
}

/// Runs a node's init until its creator is gone. Must be called before the process has other threads.
///
/// # Errors
/// A namespace, mount or cgroup cannot be made; the creator is told the same.
pub fn node_init(args: Vec<OsString>) -> Result<()> {
    let args = Args::try_parse_from(std::iter::once("node-init".into()).chain(args))?;
    let machine = args.machine.as_deref().map(serde_json::from_str).transpose();
    let machine: Option<Machine> = machine.context("read what the machine has")?;
    match isolate(&args, machine.as_ref()) {
        Ok(true) => become_init(&args, machine.as_ref()),
        Ok(false) => Ok(()),
        Err(error) => fail(error),
    }
}

/// Moves into the node's cgroup and namespaces. `true` in the process that is PID 1 there; the other waits for it.
fn isolate(args: &Args, machine: Option<&Machine>) -> Result<bool> {
    setsid().context("start a session")?;
    enter_cgroup(&args.cgroup)?;
    machine.map_or(Ok(()), Machine::enter_hierarchies)?;
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID;
    unshare(all).context("make the node's namespaces")?;
    machine.map_or(Ok(()), |machine| machine.leave_root(&args.cgroup))?;
    // SAFETY: the process has one thread.
    match unsafe { fork() }.context("fork the node's init")? {
        ForkResult::Child => Ok(true),
        ForkResult::Parent { child } => {
            // Only init may hold the socket: its end must be visible to the creator.
            // SAFETY: descriptor 0 is the control socket and is not used in this process any more.
            unsafe { libc::close(CONTROL) };
            match waitpid(child, None).context("wait for the node's init")? {
                WaitStatus::Exited(_, 0) => Ok(false),
                other => bail!("the node's init ended: {other:?}"),
            }
        }
    }
}

fn become_init(args: &Args, machine: Option<&Machine>) -> Result<()> {
    if let Err(error) = prepare(args, machine) {
        return fail(error);
    }
    let me = pidfd_of(1)?;
    send(CONTROL, &Report::Ready, Some(std::os::fd::AsRawFd::as_raw_fd(&me)))?;
    serve::run(CONTROL)
}

fn fail(error: anyhow::Error) -> Result<()> {
    let _ = send(CONTROL, &Report::Failed(format!("{error:#}")), None);
    Err(error)
}

fn prepare(args: &Args, machine: Option<&Machine>) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("tie init to its parent")?;
    sethostname(&args.name).context("set the host name")?;
    mounts(&args.cgroup_mount)?;
    machine.map_or(Ok(()), |machine| machine.mount(&args.cgroup_mount))?;
    sysctl::router()
}

fn mounts(cgroup_mount: &Path) -> Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    fresh("proc", "/proc", "")?;
    // Whatever is mounted below goes too: nothing of the host's hierarchy is left to be found.
    let _ = umount2("/sys", MntFlags::MNT_DETACH);
    fresh("sysfs", "/sys", "")?;
    let standard = Path::new("/sys/fs/cgroup");
    if cgroup_mount.starts_with(standard) && cgroup_mount != standard {
        fresh("tmpfs", standard, "mode=755,size=1m")?;
    }
    fs::create_dir_all(cgroup_mount).with_context(|| format!("make {}", cgroup_mount.display()))?;
    fresh("cgroup2", cgroup_mount, "")?;
    fresh("bpf", "/sys/fs/bpf", "mode=700")?;
    fresh("tmpfs", "/run", "mode=755,size=64m")?;
    for folder in ["/run/netns", "/run/evenkeel", "/run/lock"] {
        fs::create_dir(folder).with_context(|| format!("make {folder}"))?;
    }
    Ok(())
}

/// Moves this process into a cgroup.
pub(super) fn enter_cgroup(group: &Path) -> Result<()> {
    let procs = group.join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("move into {}", procs.display()))
}

pub(super) fn fresh(kind: &str, target: impl AsRef<Path>, options: &str) -> Result<()> {
    let target = target.as_ref();
    let options = (!options.is_empty()).then_some(options);
    mount(Some(kind), target, Some(kind), MsFlags::empty(), options)
        .with_context(|| format!("mount {kind} at {}", target.display()))
}

/// A descriptor for process `pid` of this pid namespace.
pub(super) fn pidfd_of(pid: i32) -> Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(anyhow!(std::io::Error::last_os_error()).context("open a pidfd"));
    }
    // SAFETY: the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
