// SPDX-License-Identifier: Apache-2.0
//! Several sources, one inbox: each source has a task of its own that carries its batches to the indexer.
//!
//! What must always be true: a source that waits or has ended holds up no other; the inbox is small, so an indexer that
//! is behind slows the sources down instead of filling memory.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::source::{Change, Source, SourceError};

/// Messages that may wait. Sources have queues of their own.
const WAITING: usize = 16;

/// One step of one source.
#[derive(Debug)]
pub struct Batch {
    /// Name of the fallback cluster; `None`: our own.
    pub cluster: Option<Arc<str>>,
    /// What has changed, in order.
    pub changes: Vec<Change>,
}

/// What the indexer is told.
#[derive(Debug)]
pub enum Message {
    /// A source has told something.
    Batch(Batch),
    /// A source will tell nothing any more.
    Ended {
        /// Name of the fallback cluster; `None`: our own.
        cluster: Option<Arc<str>>,
        /// Why.
        error: SourceError,
    },
}

/// Where messages arrive.
pub type Inbox = mpsc::Receiver<Message>;

/// All sources of a service.
pub struct Feeds {
    sender: mpsc::Sender<Message>,
    inbox: Inbox,
    tasks: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
    fallbacks: Vec<Arc<str>>,
}

// === impl Feeds ===

impl Feeds {
    /// The source of our own cluster. Its first sync is what clients wait for.
    pub fn new(primary: impl Source + 'static) -> Self {
        let (sender, inbox) = mpsc::channel(WAITING);
        let tasks = vec![Box::pin(carry(primary, None, sender.clone())) as Pin<Box<_>>];
        Self { sender, inbox, tasks, fallbacks: Vec::new() }
    }

    /// Adds the source of a fallback cluster.
    pub fn add_fallback(&mut self, name: Arc<str>, source: impl Source + 'static) {
        self.tasks.push(Box::pin(carry(source, Some(name.clone()), self.sender.clone())));
        self.fallbacks.push(name);
    }

    /// Names of the fallback clusters.
    pub fn fallbacks(&self) -> &[Arc<str>] {
        &self.fallbacks
    }

    /// Starts all sources until `shutdown`, and returns where their messages arrive.
    pub fn start(self, shutdown: &CancellationToken) -> Inbox {
        for task in self.tasks {
            let shutdown = shutdown.clone();
            tokio::spawn(async move { shutdown.run_until_cancelled(task).await });
        }
        self.inbox
    }
}

async fn carry(mut source: impl Source, cluster: Option<Arc<str>>, sender: mpsc::Sender<Message>) {
    loop {
        let cluster = cluster.clone();
        let message = match source.next().await {
            Ok(changes) => Message::Batch(Batch { cluster, changes }),
            Err(error) => Message::Ended { cluster, error },
        };
        let ended = matches!(message, Message::Ended { .. });
        if sender.send(message).await.is_err() || ended {
            return;
        }
    }
}
