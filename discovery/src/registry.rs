// SPDX-License-Identifier: Apache-2.0
//! Who is connected: one entry per open ADS stream, for those who look after the service.
//!
//! A stream keeps its own entry up to date ([`Registration`]) and answers when asked for details ([`Ask`]). The list of all
//! clients needs no stream to answer, so a client that does not read, whose stream stands still, is in it like any other.
//!
//! What must always be true: an entry lives exactly as long as its stream; it has a fixed size, apart from texts of the
//! client that are cut to [`MAX_TEXT`] bytes; asking a client never waits longer than [`ANSWER`].
//!
//! Deliberately not here: limits on streams (the server has them), and what a client was sent (its session knows).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use evenkeel_xds::SessionReport;
use evenkeel_xds::server::{Delta, StateOfTheWorld, Variant as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Longest text of a client that is kept, in bytes.
pub const MAX_TEXT: usize = 256;
/// How long a stream has to answer. It does at once, unless it waits for its client to read.
const ANSWER: Duration = Duration::from_millis(500);

/// Both variants of the protocol, so that a metric can say zero.
pub const VARIANTS: [&str; 2] = [Delta::NAME, StateOfTheWorld::NAME];

/// Asks a stream for its session's report.
pub type Ask = oneshot::Sender<SessionReport>;

/// Which program a client is, by what it calls itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `evenkeel run`.
    Agent,
    /// Envoy.
    Envoy,
    /// A gRPC library, in any language.
    Grpc,
    /// Anything else, and what has not said yet.
    #[default]
    Other,
}

/// What is known of one client now.
#[derive(Clone, Debug)]
pub struct Client {
    /// Number of the stream, unique in this process.
    pub stream: u64,
    /// `node.id`, cut; empty before the first request.
    pub id: Arc<str>,
    /// Which program it is.
    pub kind: Kind,
    /// What it calls itself, with its version.
    pub user_agent: Arc<str>,
    /// Its zone; empty: unknown.
    pub zone: Arc<str>,
    /// Its end of the connection, if that has an address.
    pub peer: Option<SocketAddr>,
    /// Which variant of the protocol it speaks, see [`VARIANTS`].
    pub variant: &'static str,
    /// When the stream was opened.
    pub since: Instant,
    /// How it is getting on.
    pub progress: Progress,
}

/// How a client is getting on.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Since when there is something that it has not acknowledged; `None`: it is in sync.
    pub behind_since: Option<Instant>,
    /// Since when a response waits for it to read.
    pub blocked_since: Option<Instant>,
    /// Resources that it rejects now.
    pub rejected: usize,
    /// Its words about the last that it rejected, cut.
    pub last_rejection: Option<Arc<str>>,
    /// Requests read.
    pub requests: u64,
    /// Responses written.
    pub responses: u64,
    /// When its last request came.
    pub heard: Instant,
}

/// All open streams. Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    streams: Arc<Mutex<Streams>>,
}

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    open: BTreeMap<u64, (Arc<Mutex<Client>>, mpsc::Sender<Ask>)>,
}

/// A stream's own entry; dropped with the stream.
#[derive(Debug)]
pub struct Registration {
    registry: Registry,
    stream: u64,
    client: Arc<Mutex<Client>>,
}

/// Tells from outside whether a stream's client reads.
#[derive(Clone, Debug)]
pub struct Reading(Weak<Mutex<Client>>);

/// Why a client did not tell details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It has gone meanwhile.
    #[error("its stream has ended")]
    Gone,
    /// It stands still, for as long as the client does not read.
    #[error("its stream waits for it to read")]
    Blocked,
    /// It does not answer in time.
    #[error("its stream did not answer within {} ms", ANSWER.as_millis())]
    Late,
}

/// At most [`MAX_TEXT`] bytes of a client's text on one line.
#[must_use]
pub fn cut(text: &str) -> Arc<str> {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    text.replace(char::is_control, " ").into()
}

// === impl Kind ===

impl Kind {
    /// All kinds, so that a metric can say zero.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Envoy, Self::Grpc, Self::Other];

    /// By `node.user_agent_name`: ours says `evenkeel`, Envoy `envoy`, gRPC `gRPC C-core`, `gRPC Go`, `gRPC Java`.
    #[must_use]
    pub fn of(user_agent: &str) -> Self {
        let begins = |with: &str| user_agent.get(..with.len()).is_some_and(|s| s.eq_ignore_ascii_case(with));
        match () {
            () if begins("evenkeel") => Self::Agent,
            () if begins("envoy") => Self::Envoy,
            () if begins("grpc") => Self::Grpc,
            () => Self::Other,
        }
    }

    /// The word for it in metrics, logs and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Envoy => "envoy",
            Self::Grpc => "grpc",
            Self::Other => "other",
        }
    }
}

// === impl Registry ===

impl Registry {
    /// Enters a stream that was just opened. It is asked through the receiver.
    #[must_use]
    pub fn enter(
        &self,
        variant: &'static str,
        peer: Option<SocketAddr>,
    ) -> (Registration, mpsc::Receiver<Ask>) {
        let (sender, asks) = mpsc::channel(1);
        let now = Instant::now();
        let mut streams = lock(&self.streams);
        streams.last += 1;
        let stream = streams.last;
        let client = Arc::new(Mutex::new(Client {
            stream,
            id: "".into(),
            kind: Kind::Other,
            user_agent: "".into(),
            zone: "".into(),
            peer,
            variant,
            since: now,
            progress: Progress::new(now),
        }));
        streams.open.insert(stream, (client.clone(), sender));
        drop(streams);
        (Registration { registry: self.clone(), stream, client }, asks)
    }

    /// All clients as they are now, in the order in which they came.
    #[must_use]
    pub fn clients(&self) -> Vec<Client> {
        let entries: Vec<_> = lock(&self.streams).open.values().map(|(client, _)| client.clone()).collect();
        entries.iter().map(|client| lock(client).clone()).collect()
    }

    /// How many streams of each kind and variant are open.
    #[must_use]
    pub fn count(&self) -> BTreeMap<(Kind, &'static str), usize> {
        let all = Kind::ALL.into_iter().flat_map(|kind| VARIANTS.map(|variant| ((kind, variant), 0)));
        let mut counts: BTreeMap<_, _> = all.collect();
        for client in self.clients() {
            *counts.entry((client.kind, client.variant)).or_default() += 1;
        }
        counts
    }

    /// Asks a client's session what it wants, holds and rejects.
    ///
    /// # Errors
    /// [`NoAnswer`], after half a second at the latest.
    pub async fn ask(&self, stream: u64) -> Result<SessionReport, NoAnswer> {
        let (client, sender) = lock(&self.streams).open.get(&stream).cloned().ok_or(NoAnswer::Gone)?;
        if lock(&client).progress.blocked_since.is_some() {
            return Err(NoAnswer::Blocked);
        }
        let (ask, answer) = oneshot::channel();
        let answered = async {
            sender.send(ask).await.map_err(|_| NoAnswer::Gone)?;
            answer.await.map_err(|_| NoAnswer::Gone)
        };
        tokio::time::timeout(ANSWER, answered).await.unwrap_or(Err(NoAnswer::Late))
    }
}

// === impl Registration ===

impl Registration {
    /// Number of the stream.
    #[must_use]
    pub fn stream(&self) -> u64 {
        self.stream
    }

    /// The client has said who it is. `zone` is the one that it is served for.
    pub fn meet(&self, node: &Node, zone: &Arc<str>) {
        let version = match &node.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
            Some(UserAgentVersionType::UserAgentBuildVersion(build)) => match &build.version {
                Some(v) => format!("{}.{}.{}", v.major_number, v.minor_number, v.patch),
                None => String::new(),
            },
            None => String::new(),
        };
        let name = cut(&node.user_agent_name);
        let mut client = lock(&self.client);
        client.id = cut(&node.id);
        client.kind = Kind::of(&name);
        client.user_agent = cut(format!("{name} {version}").trim());
        client.zone = zone.clone();
    }

    /// Which kind of client it is, and where from: for the log.
    #[must_use]
    pub fn origin(&self) -> (&'static str, String) {
        let client = lock(&self.client);
        (client.kind.as_str(), client.peer.map(|peer| peer.to_string()).unwrap_or_default())
    }

    /// The client rejected something, in these words.
    pub fn rejected(&self, reason: &str) {
        lock(&self.client).progress.last_rejection = Some(cut(reason));
    }

    /// A request was read, and this is where the client stands now.
    pub fn heard(&self, in_sync: bool, rejected: usize) {
        let mut client = lock(&self.client);
        client.progress.requests += 1;
        client.progress.heard = Instant::now();
        client.progress.stands(in_sync, rejected);
    }

    /// Where the client stands after a change.
    pub fn stands(&self, in_sync: bool, rejected: usize) {
        lock(&self.client).progress.stands(in_sync, rejected);
    }

    /// A response is about to be written; it may have to wait for the client to read.
    pub fn writing(&self) {
        lock(&self.client).progress.blocked_since = Some(Instant::now());
    }

    /// The response has been written.
    pub fn wrote(&self) {
        let mut client = lock(&self.client);
        client.progress.blocked_since = None;
        client.progress.responses += 1;
    }

    /// For whoever looks after the connection.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading(Arc::downgrade(&self.client))
    }
}

// === impl Reading ===

impl Reading {
    /// How long the client has not read what waits for it; zero: it reads. `None`: the stream has ended.
    #[must_use]
    pub fn blocked_for(&self) -> Option<Duration> {
        let client = self.0.upgrade()?;
        let since = lock(&client).progress.blocked_since;
        Some(since.map_or(Duration::ZERO, |since| since.elapsed()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.registry.streams).open.remove(&self.stream);
    }
}

// === impl Progress ===

impl Progress {
    fn new(now: Instant) -> Self {
        Self {
            behind_since: Some(now),
            blocked_since: None,
            rejected: 0,
            last_rejection: None,
            requests: 0,
            responses: 0,
            heard: now,
        }
    }

    fn stands(&mut self, in_sync: bool, rejected: usize) {
        self.rejected = rejected;
        match (in_sync, self.behind_since) {
            (true, _) => self.behind_since = None,
            (false, None) => self.behind_since = Some(Instant::now()),
            (false, Some(_)) => {}
        }
    }
}

/// No panic can leave these plain values half written, so poisoning means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
