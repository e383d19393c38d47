// SPDX-License-Identifier: Apache-2.0
//! The clients' process: any number of connections on one thread, told what to do by lines on standard input.
//!
//! | line in | line out |
//! |---|---|
//! | `connect` | `synced N` for each client that has everything |
//! | `expect SERVICE ADDRESS` | `expecting`, later `arrived T…`: when it reached each client |
//! | `record` | `recording` |
//! | `recorded` | `messages MOST DENSEST` |
//!
//! A client whose stream ends ends the process with the reason on standard error: then there is nothing to measure. The
//! process ends with its standard input.

mod board;
mod stream;
mod talk;
mod wire;

use std::{cell::RefCell, fmt::Write as _, io::Write as _, net::SocketAddr, process, rc::Rc};

use anyhow::{Context as _, Result, bail};
use board::Board;
pub(super) use stream::monotonic;
use talk::{Talk, Wants};
use tokio::{sync::mpsc, task::LocalSet};

use super::plan::Mode;

/// What the clients' process is started with.
#[derive(clap::Args)]
pub(crate) struct ClientArgs {
    /// Where the server serves ADS
    #[arg(long)]
    server: SocketAddr,
    /// State of the world instead of delta
    #[arg(long)]
    sotw: bool,
    /// How many clients
    #[arg(long)]
    clients: usize,
    /// How many Services there are
    #[arg(long)]
    services: usize,
    /// Ask for so many of them instead of all
    #[arg(long)]
    some: Option<usize>,
    /// How many of them change; these are always asked for
    #[arg(long)]
    changing: usize,
}

/// Runs the process.
pub(crate) fn run(args: &ClientArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    LocalSet::new().block_on(&runtime, obey(args, lines))
}

async fn obey(args: &ClientArgs, mut lines: mpsc::UnboundedReceiver<String>) -> Result<()> {
    let board = Rc::new(RefCell::new(Board::default()));
    while let Some(line) = lines.recv().await {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["connect"] => connect(args, &board),
            ["expect", service, address] => {
                // As protobuf writes it, with its length before it: 10.0.0.1 is no part of 10.0.0.12.
                let marker = [&[address.len() as u8], address.as_bytes()].concat();
                let service = service.parse().context("not a number")?;
                board.borrow_mut().expect(service, marker, args.clients);
                say("expecting", []);
            }
            ["record"] => {
                board.borrow_mut().record(args.clients);
                say("recording", []);
            }
            ["recorded"] => {
                let (most, densest) = board.borrow_mut().recorded();
                say("messages", [most as u64, densest as u64]);
            }
            _ => bail!("an unknown command: {line:?}"),
        }
    }
    Ok(())
}

fn connect(args: &ClientArgs, board: &Rc<RefCell<Board>>) {
    let mode = if args.sotw { Mode::Sotw } else { Mode::Delta };
    let wants = Wants { mode, services: args.services, some: args.some, changing: args.changing };
    let door = Rc::new(stream::Door::new(args.server));
    for client in 0..args.clients {
        let talk = Talk::new(client, &wants);
        let stream = stream::follow(door.clone(), mode, client, talk, board.clone());
        tokio::task::spawn_local(async move {
            if let Err(error) = stream.await {
                eprintln!("client {client}: {error:#}");
                process::exit(1);
            }
        });
    }
}

/// One line to the measuring process.
fn say(word: &str, numbers: impl IntoIterator<Item = u64>) {
    let mut line = word.to_owned();
    for number in numbers {
        let _ = write!(line, " {number}");
    }
    line.push('\n');
    // A measuring process that is gone needs no clients.
    if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
        process::exit(1);
    }
}
