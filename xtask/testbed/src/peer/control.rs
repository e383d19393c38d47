// SPDX-License-Identifier: Apache-2.0
//! The peer's end of the control socket: lines out, commands in.
//!
//! A unix socket reaches across network namespaces, so control works when the network under test does not. What must
//! always be true: when the orchestrator goes, the peer goes, so that no load outlives its run.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::peer::messages::{Command, Line};

/// Lines that wait to be written. A reader that is so far behind is gone.
const BACKLOG: usize = 1024;

/// The sending half, cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lines(mpsc::Sender<Line>);

impl Lines {
    /// Queues a line; lost if the orchestrator is gone, for then nobody reads it.
    pub(crate) fn send(&self, line: Line) {
        let _lost_with_the_reader = self.0.try_send(line);
    }
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Commands(tokio::io::Lines<BufReader<OwnedReadHalf>>);

impl Commands {
    /// The next command; `None` when the orchestrator has gone.
    pub(crate) async fn next(&mut self) -> Result<Option<Command>> {
        let Ok(Some(line)) = self.0.next_line().await else { return Ok(None) };
        let command =
            serde_json::from_str(&line).with_context(|| format!("control line {line:?} is no command"))?;
        Ok(Some(command))
    }
}

/// Connects to the orchestrator's socket at `path` and introduces this peer.
pub(crate) async fn connect(path: &Path, name: &str) -> Result<(Lines, Commands)> {
    let stream = UnixStream::connect(path)
        .await
        .with_context(|| format!("cannot open control socket {}", path.display()))?;
    let (read, write) = stream.into_split();
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(write_lines(write, receiver));
    let lines = Lines(sender);
    lines.send(Line::Hello { name: name.to_owned() });
    Ok((lines, Commands(BufReader::new(read).lines())))
}

async fn write_lines(mut socket: OwnedWriteHalf, mut lines: mpsc::Receiver<Line>) {
    while let Some(line) = lines.recv().await {
        let Ok(mut text) = serde_json::to_vec(&line) else { continue };
        text.push(b'\n');
        if socket.write_all(&text).await.is_err() {
            return;
        }
    }
}
