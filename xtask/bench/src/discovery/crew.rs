// SPDX-License-Identifier: Apache-2.0
//! The measuring side of the clients' process.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::plan::{CHANGING, Interest, Mode, Run};

/// The largest crowd's first sync on a slow machine.
const SYNC: Duration = Duration::from_secs(300);
/// What does not reach every client within this is lost.
const ARRIVAL: Duration = Duration::from_secs(30);

/// The clients' process. Dropping it kills it.
pub(super) struct Crew {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    clients: usize,
}

impl Crew {
    /// Starts the process; no client connects yet. `services`: how many the server has.
    pub(super) fn start(run: &Run, services: usize, server: SocketAddr) -> Result<Self> {
        let own = std::env::current_exe().context("cannot tell where this program lies")?;
        let mut command = Command::new(own);
        command.args(["discovery-clients", "--server", &server.to_string()]);
        command.args(["--clients", &run.clients.to_string(), "--services", &services.to_string()]);
        command.args(["--changing", &run.changes.min(CHANGING).to_string()]);
        if let Interest::Some(count) = run.interest {
            command.args(["--some", &count.to_string()]);
        }
        if run.mode == Mode::Sotw {
            command.arg("--sotw");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the clients' process")?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, input, lines, clients: run.clients })
    }

    /// Connects all clients at once; how long it took until each had everything. `progress` is told how many do.
    pub(super) fn sync(&mut self, mut progress: impl FnMut(usize)) -> Result<Duration> {
        let began = Instant::now();
        self.tell("connect")?;
        loop {
            let numbers = self.answer("synced", SYNC.saturating_sub(began.elapsed()))?;
            let synced = numbers.first().copied().unwrap_or(0) as usize;
            progress(synced);
            if synced == self.clients {
                return Ok(began.elapsed());
            }
        }
    }

    /// From now on the clients look for this address in this Service's cluster.
    pub(super) fn expect(&mut self, service: usize, address: Ipv4Addr) -> Result<()> {
        self.tell(&format!("expect {service} {address}"))?;
        self.answer("expecting", ARRIVAL).map(drop)
    }

    /// When it reached each of them.
    pub(super) fn arrived(&mut self) -> Result<Vec<u64>> {
        self.answer("arrived", ARRIVAL)
    }

    /// Starts to count messages.
    pub(super) fn record(&mut self) -> Result<()> {
        self.tell("record")?;
        self.answer("recording", ARRIVAL).map(drop)
    }

    /// The most messages that a client got since, and the most that one got within 100 ms.
    pub(super) fn recorded(&mut self) -> Result<(u64, u64)> {
        self.tell("recorded")?;
        match self.answer("messages", ARRIVAL)?[..] {
            [most, densest] => Ok((most, densest)),
            _ => bail!("the clients' process did not say how many messages there were"),
        }
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}")
            .and_then(|()| self.input.flush())
            .context("the clients' process has ended")
    }

    fn answer(&self, word: &str, within: Duration) -> Result<Vec<u64>> {
        let line = match self.lines.recv_timeout(within) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                bail!("not every client said {word:?} within {} s", within.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the clients' process has ended; see above"),
        };
        let mut parts = line.split(' ');
        if parts.next() != Some(word) {
            bail!("the clients' process said {line:?}, not {word:?}");
        }
        parts.map(|part| part.parse().with_context(|| format!("{part:?} is no number"))).collect()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
