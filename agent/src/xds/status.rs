// SPDX-License-Identifier: Apache-2.0
//! What the client of discovery tells about itself: plain values in a `watch` channel.
//!
//! What must always be true: one writer; readers see whole values. Deliberately not here: metrics and words for users, which
//! are made from this by those who show it.

use std::{collections::BTreeMap, time::Instant};

use tokio::sync::watch;

/// Where what is in force comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Nothing is in force yet.
    #[default]
    Nothing,
    /// The last-good file; discovery has not answered since the start.
    LastGood,
    /// Discovery.
    Discovery,
}

/// A resource that is rejected now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its type, short: `Service` or `ClusterLoadAssignment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What is wrong with it: resource, field, value, rule.
    pub reason: String,
}

/// State of the connection to discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// A stream is open.
    pub connected: bool,
    /// When the last response came; `None` before the first.
    pub last_message: Option<Instant>,
    /// Responses since the start.
    pub messages: u64,
    /// Streams opened since the start.
    pub streams_opened: u64,
    /// What is rejected now. What was in force of these names before still is.
    pub rejected: Vec<Rejected>,
    /// Resources rejected since the start, repeats included.
    pub rejections: u64,
    /// Where what is in force comes from.
    pub source: Source,
    /// Why the last stream ended or could not be opened.
    pub last_error: Option<String>,
    /// How often streams ended or could not be opened, by kind of reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// Why the last-good file could not be read; stays until the next start.
    pub load_error: Option<String>,
    /// Why the last-good file could not be written; cleared by the next successful write.
    pub save_error: Option<String>,
    /// Times the last-good file was written.
    pub saves: u64,
}

/// The writer's end for [`super::run`] and the readers' end.
#[must_use]
pub fn status() -> (watch::Sender<Status>, watch::Receiver<Status>) {
    watch::channel(Status::default())
}

impl Source {
    /// The word for users.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing yet",
            Self::LastGood => "last-good file",
            Self::Discovery => "discovery",
        }
    }
}
