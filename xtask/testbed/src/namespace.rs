// SPDX-License-Identifier: Apache-2.0
//! Entering namespaces: a closure on a thread of its own, or a short command, inside a network or mount namespace.
//!
//! What must always be true: no thread of the caller changes its namespace; a thread that entered one ends there.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// Opens a namespace file.
pub(crate) fn open(path: &Path) -> Result<OwnedFd> {
    Ok(File::open(path).with_context(|| format!("open namespace {}", path.display()))?.into())
}

/// Makes a network namespace that lives as long as the returned descriptor (or anything in it), after `setup` ran
/// inside.
pub(crate) fn new_network(setup: impl FnOnce() -> Result<()> + Send) -> Result<OwnedFd> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        setup()?;
        open(Path::new("/proc/thread-self/ns/net"))
    })
}

/// Runs `work` on a thread inside the network namespace `net`.
pub(crate) fn inside<T: Send>(net: &OwnedFd, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_thread(|| {
        setns(net.as_fd(), CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
        work()
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|_| Err(anyhow!("the thread inside the namespace panicked")))
    })
}

/// What a command sees of a node besides its network.
pub(crate) struct Node {
    pub(crate) mount: OwnedFd,
    /// Belongs to the mounts: `/proc` there has no `self` for a process of another pid namespace.
    pub(crate) pid: OwnedFd,
}

/// A command that will run inside the given namespaces.
pub(crate) fn command(program: &str, node: Option<Node>, net: OwnedFd) -> Command {
    let mut command = Command::new(program);
    let enter = move || {
        if let Some(Node { mount, pid }) = &node {
            setns(mount.as_fd(), CloneFlags::CLONE_NEWNS)?;
            setns(pid.as_fd(), CloneFlags::CLONE_NEWPID)?;
        }
        setns(net.as_fd(), CloneFlags::CLONE_NEWNET)?;
        if node.is_some() { go_on_as_a_child() } else { Ok(()) }
    };
    // SAFETY: between fork and exec only system calls are made, which are async-signal-safe and allocate nothing.
    unsafe { command.pre_exec(enter) };
    command
}

/// A pid namespace is entered by children only: this forks, the caller goes on in the child, and the process of before
/// ends as the child ends.
fn go_on_as_a_child() -> std::io::Result<()> {
    // SAFETY: called between fork and exec, in the only thread there is.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(std::io::Error::last_os_error());
    }
    if child == 0 {
        return Ok(());
    }
    let mut status = 0;
    // SAFETY: system calls on plain numbers and a pointer to a live integer. No descriptor is used after they are closed:
    // one left open would keep the caller waiting for the child's exec.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        while libc::waitpid(child, &mut status, 0) < 0 && *libc::__errno_location() == libc::EINTR {}
        libc::_exit(if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        })
    }
}

/// Runs `command` with `input`, to its end.
///
/// # Errors
/// It cannot be started (a missing program is named), or it fails: the error has its standard error.
pub(crate) fn run(mut command: Command, input: &str) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| explain(&program, error))?;
    // The scripts written here are smaller than a pipe's buffer or read as they come; a child that ends early
    // closes its end, and its exit status says why.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().with_context(|| format!("wait for {program}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({}): {}", output.status, error.trim());
    }
    written.transpose().with_context(|| format!("write to {program}"))?;
    Ok(output)
}

fn explain(program: &str, error: std::io::Error) -> anyhow::Error {
    if error.kind() != std::io::ErrorKind::NotFound {
        return anyhow::Error::new(error).context(format!("start {program}"));
    }
    let package = match program.rsplit('/').next() {
        Some("ip") => "iproute2",
        Some("nft") => "nftables (or set EVENKEEL_NFT to its path)",
        _ => "it",
    };
    anyhow!("{program}: not found; install {package}")
}
