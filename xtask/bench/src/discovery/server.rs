// SPDX-License-Identifier: Apache-2.0
//! The real server as a child process, and what it costs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// How long it may take to read the largest cluster.
const READY: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(5);
/// An idle server uses less than this part of a core…
const IDLE: f64 = 0.02;
/// …over this long.
const LOOK: Duration = Duration::from_millis(300);
/// It is not waited for longer.
const SETTLE: Duration = Duration::from_secs(20);

/// A running `evenkeel-discovery`. Dropping it kills it.
pub(super) struct Server {
    child: Child,
    /// Where it serves ADS.
    pub(super) ads: SocketAddr,
    http: SocketAddr,
    log: PathBuf,
    started: Instant,
}

/// Resident memory in MiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) now: f64,
    pub(super) peak: f64,
}

impl Server {
    /// Starts it for the cluster of this kubeconfig, with its files in `folder` and room for so many clients.
    pub(super) fn start(kubeconfig: &Path, folder: &Path, clients: usize) -> Result<Self> {
        let program = program()?;
        let (ads, http) = (free_port()?, free_port()?);
        let log = folder.join("discovery.log");
        let output = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let started = Instant::now();
        let child = Command::new(&program)
            .arg("--kubernetes")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--listen", &ads.to_string(), "--plaintext"])
            // All clients have one address here.
            .args(["--connections-per-peer", &clients.to_string()])
            .args(["--http", &http.to_string(), "--log", "warn", "--admin-socket"])
            .arg(folder.join("admin.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, ads, http, log, started })
    }

    /// When it was started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Waits until it says that it is ready; when that was.
    pub(super) fn ready(&mut self) -> Result<Instant> {
        while self.started.elapsed() < READY {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server has ended ({status}): {}", self.said());
            }
            if self.asked().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(Instant::now());
            }
            thread::sleep(POLL);
        }
        bail!("the server was not ready within {} s: {}", READY.as_secs(), self.said());
    }

    fn asked(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The last lines of its log; warnings and errors only.
    pub(super) fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("; ")
    }

    /// CPU time of all its threads so far, those that have ended included.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        let clock = clock_getcpuclockid(pid).context("the server has no CPU clock")?;
        Ok(clock_gettime(clock).context("cannot read the server's CPU clock")?.into())
    }

    /// Waits until it has nothing to do; the CPU time it had used when that began.
    pub(super) fn settled(&self) -> Result<Duration> {
        let began = Instant::now();
        let mut before = self.cpu()?;
        while began.elapsed() < SETTLE {
            thread::sleep(LOOK);
            let now = self.cpu()?;
            if (now - before).as_secs_f64() < IDLE * LOOK.as_secs_f64() {
                return Ok(before);
            }
            before = now;
        }
        bail!("the server was still busy {} s after its clients were served", SETTLE.as_secs());
    }

    /// Resident memory.
    pub(super) fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(Memory { now: kib(&text, "VmRSS:")? / 1024.0, peak: kib(&text, "VmHWM:")? / 1024.0 })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is kept: its files lie in the run's own folder.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn kib(status: &str, key: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.trim().strip_suffix("kB")).map(str::trim);
    number.and_then(|number| number.parse().ok()).with_context(|| format!("/proc/PID/status has no {key}"))
}

/// It lies beside this program: the same build has made both.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    let found = own.with_file_name("evenkeel-discovery");
    if !found.exists() {
        bail!("there is no {}; start this with: cargo xtask bench discovery", found.display());
    }
    Ok(found)
}

/// The port is free now, and nobody else is asking for ports on this address in the next millisecond.
fn free_port() -> Result<SocketAddr> {
    let socket = TcpListener::bind("127.0.0.1:0").context("cannot bind to loopback")?;
    socket.local_addr().context("the socket has no address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_words() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1536 kB\n";
        assert_eq!((kib(status, "VmRSS:").unwrap(), kib(status, "VmHWM:").unwrap()), (1536.0, 2048.0));
        assert!(kib("Name:\tx\n", "VmRSS:").unwrap_err().to_string().contains("VmRSS"));
    }
}
