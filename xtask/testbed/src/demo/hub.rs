// SPDX-License-Identifier: Apache-2.0
//! The orchestrator's end of the control socket: one connection per peer, the latest state of each, answers to commands.
//!
//! What must always be true: a peer that restarts under its name replaces its former self; a peer that has gone shows
//! nothing. Deliberately not here: what the numbers mean.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::interrupt::Interrupt;
use crate::peer::messages::{ClientLive, Command, Line, Report, ServerLive};

/// How far back the live figures look: long enough to be readable, short enough to show a fault.
const WINDOW: Duration = Duration::from_secs(1);

/// The control socket and what came through it. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    interrupt: Interrupt,
}

#[derive(Default)]
struct State {
    /// By name, with the number of the connection.
    peers: BTreeMap<String, (u64, UnixStream)>,
    connections: u64,
    servers: BTreeMap<String, VecDeque<(Instant, ServerLive)>>,
    clients: VecDeque<(Instant, ClientLive)>,
    reports: BTreeMap<String, Report>,
    reconnected: BTreeMap<String, ()>,
}

/// A server as the terminal shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServerView {
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) rps: f64,
    pub(super) open_connections: u64,
    pub(super) in_flight: u64,
}

impl Hub {
    /// Listens at `path`, for who is not interrupted: a test.
    ///
    /// # Errors
    /// There is a file already, or its folder is missing.
    pub fn open(path: &Path) -> Result<Self> {
        Self::listen(path, Interrupt::default())
    }

    /// Listens at `path`.
    pub(super) fn listen(path: &Path, interrupt: Interrupt) -> Result<Self> {
        let listener =
            UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        let hub = Self { state: Arc::default(), path: path.to_owned(), interrupt };
        let state = hub.state.clone();
        std::thread::Builder::new().name("control".into()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = state.clone();
                std::thread::spawn(move || {
                    // A line that is not ours means that the peer is not either.
                    let _ended = read(&state, stream);
                });
            }
        })?;
        Ok(hub)
    }

    /// Where peers connect to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until all of these peers have introduced themselves.
    ///
    /// # Errors
    /// One has not within `deadline`.
    pub fn wait_for(&self, names: &[String], deadline: Duration) -> Result<()> {
        self.interrupt.until("all peers have started", deadline, || {
            let state = lock(&self.state);
            match names.iter().find(|name| !state.peers.contains_key(*name)) {
                Some(missing) => bail!("{missing} has not"),
                None => Ok(()),
            }
        })
    }

    /// Waits until none of these peers is connected any more.
    ///
    /// # Errors
    /// One is within all of `deadline`.
    pub fn wait_gone(&self, names: &[String], deadline: Duration) -> Result<()> {
        self.interrupt.until("the pods have ended", deadline, || {
            let state = lock(&self.state);
            match names.iter().find(|name| state.peers.contains_key(*name)) {
                Some(left) => bail!("{left} has not"),
                None => Ok(()),
            }
        })
    }

    /// Sends a command to each of these peers.
    ///
    /// # Errors
    /// One of them is not connected.
    pub fn command(&self, names: &[String], command: Command) -> Result<()> {
        let mut line = serde_json::to_string(&command)?;
        line.push('\n');
        let state = lock(&self.state);
        for name in names {
            let Some((_, mut stream)) = state.peers.get(name).map(|(id, stream)| (id, stream)) else {
                bail!("{name} has gone; its log says why")
            };
            stream.write_all(line.as_bytes()).with_context(|| format!("cannot reach {name}"))?;
        }
        Ok(())
    }

    /// Lets these clients replace all connections, and waits for it.
    ///
    /// # Errors
    /// One of them is not connected, or has not within `deadline`.
    pub fn reconnect(&self, names: &[String], deadline: Duration) -> Result<()> {
        lock(&self.state).reconnected.clear();
        self.command(names, Command::Reconnect)?;
        self.interrupt.until("all clients have new connections", deadline, || {
            let state = lock(&self.state);
            match names.iter().find(|name| !state.reconnected.contains_key(*name)) {
                Some(missing) => bail!("{missing} has not"),
                None => Ok(()),
            }
        })
    }

    /// Ends the interval of these clients and gives their reports.
    ///
    /// # Errors
    /// One of them is not connected, or has not reported within `deadline`.
    pub fn reports(&self, names: &[String], deadline: Duration) -> Result<Vec<Report>> {
        lock(&self.state).reports.clear();
        self.command(names, Command::Report)?;
        self.interrupt.until("all clients have reported", deadline, || {
            let state = lock(&self.state);
            names
                .iter()
                .map(|name| state.reports.get(name).cloned().with_context(|| format!("{name} has not")))
                .collect()
        })
    }

    /// The latest state of each server that is up.
    pub fn servers(&self) -> BTreeMap<String, ServerLive> {
        let state = lock(&self.state);
        let up = state.servers.iter().filter(|(name, _)| state.peers.contains_key(*name));
        up.filter_map(|(name, lines)| Some((name.clone(), lines.back()?.1.clone()))).collect()
    }

    /// These servers as the terminal shows them.
    pub(super) fn view(&self, names: &[String]) -> Vec<ServerView> {
        let state = lock(&self.state);
        let view = |name: &String| {
            let mut view = ServerView { name: name.clone(), ..ServerView::default() };
            if let (true, Some(lines)) = (state.peers.contains_key(name), state.servers.get(name))
                && let (Some((from, first)), Some((to, last))) = (lines.front(), lines.back())
            {
                let seconds = (*to - *from).as_secs_f64();
                view.up = true;
                view.rps =
                    if seconds > 0.0 { (last.requests - first.requests) as f64 / seconds } else { 0.0 };
                view.open_connections = last.open_connections;
                view.in_flight = last.in_flight;
            }
            view
        };
        names.iter().map(view).collect()
    }

    /// What all clients saw in the last second.
    pub(super) fn clients(&self) -> ClientLive {
        let mut state = lock(&self.state);
        let now = Instant::now();
        while state.clients.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            state.clients.pop_front();
        }
        let mut sum = ClientLive::default();
        for (_, line) in &state.clients {
            sum.requests += line.requests;
            sum.failures += line.failures;
            sum.new_connection_errors += line.new_connection_errors;
            sum.zone_local += line.zone_local;
            sum.latencies.extend_from_slice(&line.latencies);
        }
        sum
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(state: &Mutex<State>, stream: UnixStream) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let Some(Ok(hello)) = lines.next() else { return Ok(()) };
    let Line::Hello { name } = serde_json::from_str(&hello)? else { bail!("no introduction") };
    let id = {
        let mut state = lock(state);
        state.connections += 1;
        let id = state.connections;
        state.servers.remove(&name);
        state.peers.insert(name.clone(), (id, stream));
        id
    };
    for line in lines.map_while(Result::ok) {
        lock(state).take(&name, serde_json::from_str(&line)?);
    }
    let mut state = lock(state);
    if state.peers.get(&name).is_some_and(|(now, _)| *now == id) {
        state.peers.remove(&name);
    }
    Ok(())
}

impl State {
    fn take(&mut self, name: &str, line: Line) {
        let now = Instant::now();
        match line {
            Line::Hello { .. } => {}
            Line::Server(live) => {
                let lines = self.servers.entry(name.to_owned()).or_default();
                lines.push_back((now, live));
                while lines.len() > 2 && now - lines[0].0 > WINDOW {
                    lines.pop_front();
                }
            }
            Line::Client(live) => {
                // The terminal may not be looking; the window is bounded here too.
                while self.clients.front().is_some_and(|(at, _)| now - *at > 2 * WINDOW) {
                    self.clients.pop_front();
                }
                self.clients.push_back((now, live));
            }
            Line::Report(report) => drop(self.reports.insert(name.to_owned(), report)),
            Line::Reconnected => drop(self.reconnected.insert(name.to_owned(), ())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn peer(hub: &Hub, name: &str) -> UnixStream {
        let mut stream = UnixStream::connect(hub.path()).expect("the hub listens");
        let hello = serde_json::to_string(&Line::Hello { name: name.into() }).expect("JSON");
        writeln!(stream, "{hello}").expect("the hub reads");
        stream
    }

    #[test]
    fn commands_reach_peers_and_their_answers_come_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let hub = Hub::listen(&folder.path().join("s"), Interrupt::default()).expect("a socket");
        let mut stream = peer(&hub, "load-a1");
        let names = ["load-a1".to_owned()];
        hub.wait_for(&names, SOON).expect("introduced");
        let answering = std::thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(stream.try_clone().expect("a copy")).read_line(&mut line).expect("a command");
            assert_eq!(line.trim(), r#"{"cmd":"report"}"#);
            let report = Line::Report(Report { requests: 7, ..Report::default() });
            writeln!(stream, "{}", serde_json::to_string(&report).expect("JSON")).expect("the hub reads");
            stream
        });
        assert_eq!(hub.reports(&names, SOON).expect("a report")[0].requests, 7);
        drop(answering.join().expect("no panic"));
        hub.wait_gone(&names, SOON).expect("it has gone");
        assert!(hub.command(&names, Command::Reset).is_err());
    }

    #[test]
    fn a_restarted_server_replaces_its_former_self() {
        let folder = tempfile::tempdir().expect("a folder");
        let hub = Hub::listen(&folder.path().join("s"), Interrupt::default()).expect("a socket");
        let names = ["echo-a1".to_owned()];
        let _former = peer(&hub, "echo-a1");
        hub.wait_for(&names, SOON).expect("introduced");
        let mut latter = peer(&hub, "echo-a1");
        let live = Line::Server(ServerLive { open_connections: 3, ..ServerLive::default() });
        writeln!(latter, "{}", serde_json::to_string(&live).expect("JSON")).expect("the hub reads");
        let seen =
            hub.interrupt.until("its state", SOON, || hub.servers().remove("echo-a1").context("no state"));
        assert_eq!(seen.expect("a state").open_connections, 3);
    }
}
