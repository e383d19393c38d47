// SPDX-License-Identifier: Apache-2.0
//! `probe-connect`: connects again and again and counts which server answered, what address the server saw, what
//! `getpeername` and `getsockname` say, and every failure by its name. Prints one JSON object per report.
//!
//! With `--hold`, connections stay open: the report comes when all are made, and a second one after SIGTERM, by when
//! each held connection was asked once more.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::{error_name, last_report, print};

#[derive(Debug, Parser)]
struct Args {
    /// Where to connect.
    #[arg(long)]
    target: SocketAddr,
    /// How many connects; with `--for-ms`, at most that many.
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
    /// Stop after this many milliseconds.
    #[arg(long)]
    for_ms: Option<u64>,
    /// Connects per second; without it, one after the other.
    #[arg(long)]
    rate: Option<u32>,
    /// Local address to bind first.
    #[arg(long)]
    bind: Option<IpAddr>,
    /// Use an IPv6 socket for an IPv4 target (a v4-mapped address).
    #[arg(long)]
    mapped: bool,
    /// Longest wait for a connect and for the server's line.
    #[arg(long, default_value_t = 2000)]
    timeout_ms: u64,
    /// Keep the connections open until SIGTERM.
    #[arg(long)]
    hold: bool,
}

/// What a probe found.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Connects that were tried.
    pub connects: u64,
    /// Failed connects, by the name of the error.
    pub errors: BTreeMap<String, u64>,
    /// Connections that were made but brought no line, by the name of the error.
    pub broken: BTreeMap<String, u64>,
    /// Connections by the server that answered.
    pub servers: BTreeMap<String, u64>,
    /// Connections by the client address that the server saw.
    pub seen_as: BTreeMap<String, u64>,
    /// Connections by `getpeername`.
    pub peer_names: BTreeMap<String, u64>,
    /// Connections by the address of `getsockname`.
    pub socket_names: BTreeMap<String, u64>,
    /// Longest connect, in microseconds.
    pub slowest_us: u64,
}

impl Report {
    /// Failed connects.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Connects that failed or brought no line.
    pub fn lost(&self) -> u64 {
        self.failed() + self.broken.values().sum::<u64>()
    }

    /// The last report in a probe's output.
    ///
    /// # Errors
    /// There is none.
    pub fn last(text: &str) -> Result<Self> {
        last_report(text)
    }
}

/// Runs the probe.
///
/// # Errors
/// Bad arguments. Failed connects are part of the report, not errors.
pub fn main(args: Vec<OsString>) -> Result<()> {
    let args = Args::try_parse_from(std::iter::once("probe-connect".into()).chain(args))?;
    if args.count == u64::MAX && args.for_ms.is_none() {
        bail!("probe-connect needs --count or --for-ms");
    }
    let mut until = SigSet::empty();
    until.add(Signal::SIGTERM);
    if args.hold {
        until.thread_block().context("block SIGTERM")?;
    }
    let mut report = Report::default();
    let mut held = Vec::new();
    let start = Instant::now();
    let end = args.for_ms.map(|ms| start + Duration::from_millis(ms));
    for n in 0..args.count {
        pace(&args, start, n);
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        held.extend(once(&args, &mut report).filter(|_| args.hold));
    }
    print(&report)?;
    if args.hold {
        until.wait().context("wait for SIGTERM")?;
        held.iter_mut().for_each(|stream| again(stream, &mut report));
        print(&report)?;
    }
    Ok(())
}

/// Open loop: connect `n` is due at a fixed time, however long those before it took.
fn pace(args: &Args, start: Instant, n: u64) {
    if let Some(rate) = args.rate {
        let due = start + Duration::from_micros(n * 1_000_000 / u64::from(rate.max(1)));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn once(args: &Args, report: &mut Report) -> Option<BufReader<TcpStream>> {
    report.connects += 1;
    let began = Instant::now();
    let connected = connect(args);
    report.slowest_us = report.slowest_us.max(began.elapsed().as_micros() as u64);
    let mut stream = match connected {
        Ok(stream) => BufReader::new(stream),
        Err(error) => {
            count(&mut report.errors, error_name(&error));
            return None;
        }
    };
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(0) => count(&mut report.broken, "closed".into()),
        Err(error) => count(&mut report.broken, error_name(&error)),
        Ok(_) => {
            let (server, seen) = line.trim().split_once(' ').unwrap_or((line.trim(), "?"));
            count(&mut report.servers, server.into());
            count(&mut report.seen_as, seen.into());
            let peer = stream.get_ref().peer_addr();
            count(&mut report.peer_names, peer.map_or_else(|e| error_name(&e), |a| a.to_string()));
            let own = stream.get_ref().local_addr();
            count(&mut report.socket_names, own.map_or_else(|e| error_name(&e), |a| a.ip().to_string()));
            return Some(stream);
        }
    }
    None
}

fn connect(args: &Args) -> std::io::Result<TcpStream> {
    let target = match args.target {
        SocketAddr::V4(v4) if args.mapped => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
        target => target,
    };
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(bind) = args.bind {
        socket.bind(&SocketAddr::new(bind, 0).into())?;
    }
    let timeout = Duration::from_millis(args.timeout_ms);
    socket.connect_timeout(&target.into(), timeout)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(timeout))?;
    Ok(stream)
}

/// Asks a held connection once more; one that does not answer is broken.
fn again(stream: &mut BufReader<TcpStream>, report: &mut Report) {
    let mut line = String::new();
    let answer = stream.get_mut().write_all(b"again\n").and_then(|()| stream.read_line(&mut line));
    match answer {
        Ok(0) => count(&mut report.broken, "closed".into()),
        Err(error) => count(&mut report.broken, error_name(&error)),
        Ok(_) => {}
    }
}

fn count(counts: &mut BTreeMap<String, u64>, key: String) {
    *counts.entry(key).or_default() += 1;
}
