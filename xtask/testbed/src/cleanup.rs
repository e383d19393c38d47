// SPDX-License-Identifier: Apache-2.0
//! Nothing is left behind: the run's identity, the reaper, and the sweep of earlier runs.
//!
//! A run leaves three kinds of things: processes (all in the run's cgroup, and with them all namespaces, links, rules
//! and mounts), the cgroups, and a folder of logs and disks. `Fabric`'s drop removes them. If the creator dies first, the reaper
//! does: a process of its own session that holds the read end of a pipe and acts on its end of file. If both die,
//! the next run's sweep does.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow};
use clap::Parser;

use crate::{binaries, cgroup, hierarchy};

/// Every cgroup and folder of a run begins with this.
pub(crate) const PREFIX: &str = "evenkeel-testbed-";

/// If set, the folder of logs is kept.
pub const KEEP: &str = "EVENKEEL_KEEP";

/// Who made a run: a process (pid and start time, so that a reused pid is told apart) of a pid namespace, and its
/// how-manieth run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunId {
    pid: u32,
    start: u64,
    namespace: u64,
    run: u32,
}

impl RunId {
    pub(crate) fn new() -> Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let start =
            start_time(pid).ok_or_else(|| anyhow!("read the start time of this process from /proc"))?;
        Ok(Self { pid, start, namespace: pid_namespace()?, run: RUNS.fetch_add(1, Ordering::Relaxed) })
    }

    pub(crate) fn name(&self) -> String {
        format!("{PREFIX}{}-{}-{}-{}", self.pid, self.start, self.namespace, self.run)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let id = Self {
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
            namespace: parts.next()?.parse().ok()?,
            run: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(id)
    }

    /// Its creator, if that is alive and can be seen from here.
    fn creator(&self, namespace: u64) -> Option<u32> {
        (self.namespace == namespace && start_time(self.pid) == Some(self.start)).then_some(self.pid)
    }

    /// Whether its creator is certainly gone. One of another pid namespace cannot be judged from here.
    fn dead(&self, namespace: u64) -> bool {
        self.namespace == namespace && start_time(self.pid) != Some(self.start)
    }
}

fn pid_namespace() -> Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid").context("read this process's pid namespace")?.ino())
}

/// When a process started, in ticks since boot; nothing if it has ended.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A zombie is as dead as can be until its parent looks.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Removes what dead runs left. Failures are reported on standard error: they are no fault of this run.
pub(crate) fn sweep(cgroup_mount: &Path, temporary: &Path) -> Result<()> {
    let namespace = pid_namespace()?;
    for folder in dead_runs(cgroup_mount, namespace) {
        if let Err(error) = cgroup::remove(&folder) {
            eprintln!("cannot remove what an earlier run left: {error:#}");
        }
    }
    for folder in dead_runs(temporary, namespace) {
        if let Err(error) = hierarchy::remove(&folder) {
            eprintln!("cannot remove what an earlier run left: {error:#}");
        } else if std::env::var_os(KEEP).is_none() {
            let _ = fs::remove_dir_all(folder);
        }
    }
    Ok(())
}

/// The folders of runs whose creators are alive, with those.
pub(crate) fn live_runs(temporary: &Path) -> Result<Vec<(PathBuf, u32)>> {
    let namespace = pid_namespace()?;
    let Ok(entries) = fs::read_dir(temporary) else { return Ok(Vec::new()) };
    let live = |entry: fs::DirEntry| {
        let run = RunId::parse(entry.file_name().to_str()?)?;
        Some((entry.path(), run.creator(namespace)?))
    };
    Ok(entries.flatten().filter_map(live).collect())
}

/// The folders of runs that process `pid` made, dead or alive.
pub(crate) fn runs_of(pid: u32, temporary: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(temporary) else { return Vec::new() };
    let its = |name: OsString| name.to_str().and_then(RunId::parse).is_some_and(|run| run.pid == pid);
    entries.flatten().filter(|entry| its(entry.file_name())).map(|entry| entry.path()).collect()
}

fn dead_runs(parent: &Path, namespace: u64) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let dead = |name: OsString| name.to_str().and_then(RunId::parse).is_some_and(|run| run.dead(namespace));
    entries.flatten().filter(|entry| dead(entry.file_name())).map(|entry| entry.path()).collect()
}

/// The reaper of one run, seen from its creator. Ends when the creator's end of the pipe closes.
pub(crate) struct Reaper {
    child: Child,
}

impl Reaper {
    /// Starts a reaper for the run's cgroup and folder.
    pub(crate) fn start(group: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new(binaries::find(binaries::TESTBED)?);
        command.arg("reaper").arg("--cgroup").arg(group).arg("--folder").arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        // A signal to the creator's process group must not end the reaper before it.
        command.process_group(0);
        Ok(Self { child: command.spawn().context("start the reaper")? })
    }

    /// Lets the reaper do its work (nothing, if all is removed already) and end.
    pub(crate) fn finish(&mut self) -> Result<()> {
        drop(self.child.stdin.take().map(OwnedFd::from));
        let status = self.child.wait().context("wait for the reaper")?;
        if status.success() { Ok(()) } else { Err(anyhow!("the reaper failed: {status}")) }
    }
}

#[derive(Debug, Parser)]
struct ReaperArgs {
    #[arg(long)]
    cgroup: PathBuf,
    #[arg(long)]
    folder: PathBuf,
}

/// The subcommand `reaper`: waits for the end of standard input, then removes the run.
///
/// # Errors
/// Something of the run cannot be removed.
pub fn reaper(args: Vec<OsString>) -> Result<()> {
    let args = ReaperArgs::try_parse_from(std::iter::once("reaper".into()).chain(args))?;
    let mut nothing = [0u8; 1];
    // Nobody writes: this returns at end of file. An error means the same, the creator is out of reach.
    let _ = std::io::stdin().read(&mut nothing);
    remove_run(&args.cgroup, &args.folder)
}

/// Removes a run's processes, cgroups and folder.
pub(crate) fn remove_run(group: &Path, folder: &Path) -> Result<()> {
    cgroup::remove(group)?;
    hierarchy::remove(folder)?;
    if std::env::var_os(KEEP).is_none() && folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_name_comes_back_from_its_parse() {
        let id = RunId { pid: 7, start: 99, namespace: 4026531836, run: 2 };
        assert_eq!(RunId::parse(&id.name()), Some(id));
        assert_eq!(RunId::parse("evenkeel-testbed-7-99"), None);
        assert_eq!(RunId::parse("other-7-99-1-2"), None);
    }

    #[test]
    fn a_reused_pid_and_a_foreign_namespace_are_told_apart() {
        let me = RunId::new().unwrap();
        assert!(!me.dead(me.namespace));
        let reused = RunId { start: me.start + 1, ..me.clone() };
        assert!(reused.dead(me.namespace));
        assert!(!reused.dead(me.namespace + 1));
    }
}
