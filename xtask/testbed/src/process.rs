// SPDX-License-Identifier: Apache-2.0
//! A process inside a node or pod: started by the node's init, signalled through a pidfd, its output in files.
//!
//! Dropping a [`Process`] does not end it; it lives at most as long as its pod, node and fabric.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::binaries;
use crate::init::{Channel, Started};
use crate::wait::eventually;

/// How many of its last lines a process's failure shows, per stream.
const TAIL: usize = 25;

/// What to start: a program, its arguments, its environment and a label for its logs.
#[derive(Debug, Clone)]
pub struct Spawn {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) label: String,
    pub(crate) cgroup: Option<String>,
}

impl Spawn {
    /// A program by path, or by name in `PATH`.
    pub fn new(program: impl Into<String>) -> Self {
        let program = program.into();
        let label = program.rsplit('/').next().unwrap_or(&program).to_owned();
        Self { argv: vec![program], env: Vec::new(), label, cgroup: None }
    }

    /// One of the project's binaries, see [`binaries::find`].
    ///
    /// # Errors
    /// It is not built.
    pub fn binary(name: &str) -> Result<Self> {
        Ok(Self::new(binaries::find(name)?.to_string_lossy()))
    }

    /// A subcommand of this crate's own binary, labelled with the subcommand.
    ///
    /// # Errors
    /// The binary is not built.
    pub fn testbed<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Result<Self> {
        let spawn = Self::binary(binaries::TESTBED)?.args(args);
        let label = spawn.argv.get(1).cloned().unwrap_or_default();
        Ok(spawn.label(label))
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable to those of the creator.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Names the log files.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Starts it in this child of the node's cgroup instead of where it would be.
    #[must_use]
    pub fn cgroup(mut self, name: impl Into<String>) -> Self {
        self.cgroup = Some(name.into());
        self
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// A started process.
#[derive(Clone)]
pub struct Process {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    id: u64,
    pid: i32,
    pidfd: OwnedFd,
    channel: Arc<Channel>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    pub(crate) fn new(
        name: String,
        started: Started,
        channel: Arc<Channel>,
        logs: (PathBuf, PathBuf),
    ) -> Result<Self> {
        let Started { id, pidfd } = started;
        let pid = host_pid(&pidfd)?;
        let (stdout, stderr) = logs;
        Ok(Self { inner: Arc::new(Inner { name, id, pid, pidfd, channel, stdout, stderr }) })
    }

    /// `<node>/<pod>-<label>-<n>`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its pid as the creator sees it; 0 if it had ended before that could be read.
    pub fn pid(&self) -> i32 {
        self.inner.pid
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        send_signal(&self.inner.pidfd, signal)
            .with_context(|| format!("send signal {signal} to {}", self.name()))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn kill(&self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn terminate(&self) -> Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// SIGSTOP: it hangs, but is not dead.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn stop(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn cont(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    /// How it ended, if it has.
    pub fn try_status(&self) -> Option<Exit> {
        self.inner.channel.exit(self.inner.id)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It is alive after `deadline`; the error shows the end of its output.
    pub fn wait(&self, deadline: Duration) -> Result<Exit> {
        self.inner.channel.wait(self.inner.id, deadline).ok_or_else(|| {
            anyhow!("{} still runs after {:.1} s\n{}", self.name(), deadline.as_secs_f64(), self.tail())
        })
    }

    /// Waits for its end and returns its standard output.
    ///
    /// # Errors
    /// It is alive after `deadline`, or failed; the error shows the end of its output.
    pub fn finish(&self, deadline: Duration) -> Result<String> {
        let exit = self.wait(deadline)?;
        if !exit.success() {
            bail!("{} failed: {exit:?}\n{}", self.name(), self.tail());
        }
        Ok(self.stdout())
    }

    /// Waits until its standard output satisfies `predicate`; returns the output.
    ///
    /// # Errors
    /// It does not within `deadline`, or the process ends before; the error shows the end of its output.
    pub fn wait_stdout(&self, predicate: impl Fn(&str) -> bool, deadline: Duration) -> Result<String> {
        let what = format!("the awaited output of {}", self.name());
        // The end is read before the output: what was written before the end is then seen.
        let seen = eventually(&what, deadline, || {
            let ended = self.try_status();
            let text = self.stdout();
            match (predicate(&text), ended) {
                (true, _) => Ok(Ok(text)),
                (false, Some(exit)) => Ok(Err(anyhow!("{} ended first: {exit:?}", self.name()))),
                (false, None) => Err(anyhow!("not there yet\n{}", self.tail())),
            }
        })?;
        seen.map_err(|error| anyhow!("{error}\n{}", self.tail()))
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.inner.stdout)
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.inner.stderr)
    }

    /// The last lines of both streams, for error messages.
    pub fn tail(&self) -> String {
        let part = |stream: &str, text: String| {
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(TAIL);
            format!("--- {} {stream}\n{}", self.name(), lines[from..].join("\n"))
        };
        format!("{}\n{}", part("stdout", self.stdout()), part("stderr", self.stderr()))
    }

    /// CPU time used so far, user and system.
    ///
    /// # Errors
    /// The process has ended.
    pub fn cpu(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // Fields after the command, which may contain anything, from the third on: 14 and 15 are utime and stime.
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            after.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        // SAFETY: sysconf reads a constant of the system.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
        Ok(Duration::from_millis(ticks * 1000 / per_second))
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The pid behind a pidfd, in the reader's pid namespace; 0 if it has ended.
pub(crate) fn host_pid(pidfd: &OwnedFd) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    let pid: i32 = pid.and_then(|p| p.parse().ok()).ok_or_else(|| anyhow!("{path} names no pid"))?;
    Ok(pid.max(0))
}

pub(crate) fn send_signal(pidfd: &OwnedFd, signal: i32) -> std::io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is a pidfd, no siginfo is passed, flags are 0 as required.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
