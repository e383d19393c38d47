// SPDX-License-Identifier: Apache-2.0
//! `echo-server`: greets every connection, and answers every line, with `NAME PEER-ADDRESS\n`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};
use clap::Parser;

#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Who it says it is.
    #[arg(long)]
    name: String,
}

/// Runs the server until it is killed. Prints `listening ADDRESS` once it is.
///
/// # Errors
/// Bad arguments, or the address cannot be bound.
pub fn main(args: Vec<OsString>) -> Result<()> {
    let args = Args::try_parse_from(std::iter::once("echo-server".into()).chain(args))?;
    let listener = TcpListener::bind(args.listen).with_context(|| format!("bind {}", args.listen))?;
    println!("listening {}", listener.local_addr().context("read the bound address")?);
    for stream in listener.incoming() {
        // A client that is gone before it was accepted is no fault of the server.
        let Ok(stream) = stream else { continue };
        let name = args.name.clone();
        std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || drop(serve(&stream, &name)))
            .context("start a thread for a connection")?;
    }
    Ok(())
}

fn serve(stream: &TcpStream, name: &str) -> Result<()> {
    let mut stream = stream;
    let greeting = format!("{name} {}\n", stream.peer_addr()?.ip().to_canonical());
    stream.write_all(greeting.as_bytes())?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        stream.write_all(greeting.as_bytes())?;
        line.clear();
    }
    Ok(())
}
