// SPDX-License-Identifier: Apache-2.0
//! `probe-reconnect`: what clients do that give up no connection. Some hold one over which they have begun HTTP/2, and
//! connect again in the instant in which it breaks; others connect and close, one connect after the other.
//!
//! Prints a line when all that hold one have it, and after SIGTERM one JSON object with every failure by its name.
//!
//! Deliberately not here: requests ([`crate::peer`]). Whoever sends none sees nothing but the kernel's answer to connect.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::{error_name, last_report, print};

/// A client's connection preface and its empty SETTINGS (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Longest wait for a connect.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Parser)]
struct Args {
    /// Where to connect.
    #[arg(long)]
    target: SocketAddr,
    /// Clients that hold a connection.
    #[arg(long, default_value_t = 8)]
    held: usize,
    /// Clients that connect and close.
    #[arg(long, default_value_t = 1)]
    fresh: usize,
}

/// What a probe found.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Connects that were tried.
    pub connects: u64,
    /// Failed connects, by the name of the error.
    pub errors: BTreeMap<String, u64>,
    /// Held connections that broke.
    pub broken: u64,
    /// Longest connect, in microseconds.
    pub slowest_us: u64,
}

impl Report {
    /// The report in a probe's output.
    ///
    /// # Errors
    /// There is none.
    pub fn last(text: &str) -> Result<Self> {
        last_report(text)
    }
}

/// What the clients share.
struct Clients {
    target: SocketAddr,
    ended: AtomicBool,
    report: Mutex<Report>,
    /// The connections that are held, to end the reading of them.
    held: Vec<Mutex<Option<TcpStream>>>,
}

/// Runs the probe until SIGTERM.
///
/// # Errors
/// Bad arguments. Failed connects are part of the report, not errors.
pub fn main(args: Vec<OsString>) -> Result<()> {
    let args = Args::try_parse_from(std::iter::once("probe-reconnect".into()).chain(args))?;
    let mut until = SigSet::empty();
    until.add(Signal::SIGTERM);
    until.thread_block().context("block SIGTERM")?;
    let clients = Clients {
        target: args.target,
        ended: AtomicBool::new(false),
        report: Mutex::default(),
        held: (0..args.held).map(|_| Mutex::default()).collect(),
    };
    let made = Barrier::new(args.held + 1);
    std::thread::scope(|scope| -> Result<()> {
        for held in &clients.held {
            scope.spawn(|| clients.hold(held, &made));
        }
        made.wait();
        for _ in 0..args.fresh {
            scope.spawn(|| clients.connect_and_close());
        }
        print(&"holding")?;
        until.wait().context("wait for SIGTERM")?;
        clients.end();
        Ok(())
    })?;
    print(&*clients.report.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Clients {
    fn hold(&self, held: &Mutex<Option<TcpStream>>, made: &Barrier) {
        let mut first = true;
        while !self.ended.load(SeqCst) {
            let connection = self.connect();
            if std::mem::take(&mut first) {
                made.wait();
            }
            let Some(stream) = connection else { continue };
            *held.lock().unwrap_or_else(PoisonError::into_inner) = stream.try_clone().ok();
            // Looked at after it is there for `end` to find: one of the two sees the other.
            if self.ended.load(SeqCst) {
                return;
            }
            until_broken(stream);
            if !self.ended.load(SeqCst) {
                self.note(|report| report.broken += 1);
            }
        }
    }

    fn connect_and_close(&self) {
        while !self.ended.load(SeqCst) {
            // Dropped with a reset: one in TIME_WAIT would use up the ports.
            drop(self.connect());
        }
    }

    fn connect(&self) -> Option<TcpStream> {
        let began = Instant::now();
        let connected = connect(self.target);
        let took = began.elapsed().as_micros() as u64;
        self.note(|report| {
            report.connects += 1;
            report.slowest_us = report.slowest_us.max(took);
            if let Err(error) = &connected {
                *report.errors.entry(error_name(error)).or_default() += 1;
            }
        });
        connected.ok()
    }

    fn note(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn end(&self) {
        self.ended.store(true, SeqCst);
        for held in &self.held {
            if let Some(stream) = &*held.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect_timeout(&target.into(), TIMEOUT)?;
    Ok(socket.into())
}

/// Begins HTTP/2 and reads until there is nothing more to be read.
fn until_broken(mut stream: TcpStream) {
    if stream.write_all(PREFACE).is_ok() {
        let mut rest = [0; 256];
        while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
    }
}
