// SPDX-License-Identifier: Apache-2.0
//! Follows one kind of object: a list, then a watch, for ever, whatever the server does.
//!
//! kube-rs' own `watcher` was looked at first. It starts a watch anew at once, without a word to its caller, when a
//! server closes it (a server that closes every watch is then asked in a tight loop), does not see `Retry-After`, drops a
//! whole list for one object that it cannot parse, and holds no record by which a relist could tell only what differs.
//!
//! What must always be true: nothing is deleted but by a DELETED event or by a complete list; every failure is followed
//! by a wait ([`super::backoff`]); memory is bounded by a page or a line, not by what exists; silence is never trusted
//! for longer than [`Timing::idle`].

use std::hash::{BuildHasher, Hasher, RandomState};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use http::StatusCode;
use kube::client::{Body, Client};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Timing;
use super::ask::{self, Opening, Read, collect, read, stalled};
use super::backoff::Backoff;
use super::gather::{Feed, Report};
use super::kinds::{Kind, Meta};
use super::known::Known;
use super::lines::Lines;
use super::request::{self, Start};
use super::wire::{self, Line, Object, Refusal};
use crate::fault::{Fault, FaultKind};
use crate::source::{Change, ObjectKey};

/// Changes that are told together while a list is read.
const BATCH: usize = 500;
/// Why an attempt has ended.
enum End {
    /// All is well: go on where it was.
    Again,
    /// It worked until now. Only if it happens again at once the server counts as lost.
    Broken(String),
    /// The server does not give what it is asked for.
    Failed(String, Option<Duration>),
    /// Nobody listens any more.
    Deaf,
}

type Step<T> = Result<T, End>;

/// The follower of one kind.
pub(super) struct Watcher<K> {
    client: Client,
    path: String,
    feed: Feed,
    reports: mpsc::Sender<(Feed, Report)>,
    timing: Timing,
    known: Known,
    backoff: Backoff,
    /// After which version to watch. `None`: list first.
    version: Option<String>,
    /// The server streams lists, as far as is known.
    streams: bool,
    /// Something could not be told from something else: the present list must not delete, and another must follow.
    tainted: bool,
    up: bool,
    batch: Vec<Change>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Watcher<K> {
    /// Of everything, or of one namespace.
    pub(super) fn new(
        client: Client,
        feed: Feed,
        reports: mpsc::Sender<(Feed, Report)>,
        timing: Timing,
    ) -> Self {
        let path = match &feed {
            Feed::All(_) => request::path::<K>(None),
            Feed::Pods(namespace) => request::path::<K>(Some(namespace)),
        };
        Self {
            client,
            path,
            feed,
            reports,
            timing,
            known: Known::default(),
            backoff: Backoff::default(),
            version: None,
            streams: true,
            tainted: false,
            up: false,
            batch: Vec::new(),
            kind: PhantomData,
        }
    }

    /// Follows until `stop`, then takes back all that was told.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        if stop.run_until_cancelled(self.follow()).await.is_some() {
            return;
        }
        for (key, faulty) in self.known.clear() {
            self.gone(key, faulty);
        }
        self.tell_faults(self.link_origin(), Vec::new());
        self.tell_faults(self.garbage_origin(), Vec::new());
        if self.flush().await.is_ok() {
            self.report(Report::Stopped).await.ok();
        }
    }

    async fn follow(&mut self) {
        loop {
            let Err(end) = self.attempt().await;
            // What was seen is true, however the attempt has ended, and will not be told again.
            if self.flush().await.is_err() {
                return;
            }
            let (reason, retry_after, lost) = match end {
                End::Again => continue,
                End::Deaf => return,
                End::Broken(reason) => (reason, None, self.backoff.is_repeated()),
                End::Failed(reason, retry_after) => (reason, retry_after, true),
            };
            let wait = self.backoff.next(retry_after, random());
            tracing::debug!(watch = %self.path, %reason, ?wait, "the watch has ended");
            if lost && self.set_down(reason).await.is_err() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Ends with the reason to try again.
    async fn attempt(&mut self) -> Step<std::convert::Infallible> {
        match self.version.clone() {
            Some(version) => self.watch(Start::After(version)).await,
            None if self.streams => self.watch(Start::Everything).await,
            None => {
                let version = self.list().await?;
                self.watch(Start::After(version)).await
            }
        }
    }

    async fn list(&mut self) -> Step<String> {
        self.begin_list();
        let mut next = String::new();
        loop {
            let uri = request::list::<K>(&self.path, &next);
            let body = self.open(&uri, request::accept_list::<K>()).await.map_err(|end| self.refused(end))?;
            let bytes = collect(body, self.timing.stall).await.map_err(|reason| End::Failed(reason, None))?;
            let page = wire::page::<K>(&bytes)
                .map_err(|error| End::Failed(format!("a list that cannot be read: {error}"), None))?;
            for object in page.objects {
                match object {
                    Ok(object) => drop(self.apply(object)),
                    Err(reason) => self.garbage(&reason),
                }
            }
            self.flush().await?;
            if page.next.is_empty() {
                self.end_list(page.version.clone()).await?;
                return Ok(page.version);
            }
            next = page.next;
        }
    }

    async fn watch(&mut self, start: Start) -> Step<std::convert::Infallible> {
        let mut listing = start == Start::Everything;
        let uri = request::watch::<K>(&self.path, &start, self.timing.lifetime(random()));
        let opened = self.open(&uri, request::accept_watch::<K>()).await;
        let mut body = match opened {
            Ok(body) => body,
            Err(Opening::Refused(refusal)) if listing => return Err(self.refused_list(refusal)),
            Err(error) => return Err(self.refused(error)),
        };
        if listing {
            self.begin_list();
        }
        let (began, mut lines, mut settled) = (Instant::now(), Lines::default(), false);
        loop {
            let limit = match (listing, settled) {
                (true, _) => self.timing.stall,
                (false, false) => self.timing.settle,
                (false, true) => self.timing.idle,
            };
            match read(&mut body, limit).await {
                Read::Bytes(bytes) => {
                    lines.push(&bytes).map_err(|error| self.distrust(error.to_string()))?;
                    while let Some(line) = lines.next() {
                        self.take(wire::line::<K>(line), &mut listing).await?;
                    }
                    if !listing || self.batch.len() >= BATCH {
                        self.flush().await?;
                    }
                }
                Read::Silent if listing => {
                    self.streams = false;
                    return Err(End::Failed(stalled(limit), None));
                }
                // A server may well have nothing to say, but a dead one says nothing either: ask anew.
                Read::Silent if settled => return Err(End::Again),
                Read::Silent => {}
                Read::Closed if listing => {
                    return Err(End::Failed("the list ended before it was complete".into(), None));
                }
                Read::Closed if settled => return Err(End::Again),
                Read::Closed => return Err(End::Broken("the server closed the watch at once".into())),
                Read::Broken(reason) if listing => return Err(End::Failed(reason, None)),
                Read::Broken(reason) => return Err(End::Broken(reason)),
            }
            if !listing && !settled && began.elapsed() >= self.timing.settle {
                settled = true;
                self.backoff.reset();
            }
            if !listing && (settled || !self.backoff.is_repeated()) {
                self.set_up().await?;
            }
        }
    }

    /// One line of a watch.
    async fn take(&mut self, line: Line<K>, listing: &mut bool) -> Step<()> {
        match line {
            Line::Object(object) => {
                let version = self.apply(object);
                self.advance(version, *listing);
            }
            Line::Deleted(key, version) => {
                if let Some(faulty) = self.known.remove(&key) {
                    self.gone(key, faulty);
                }
                self.advance(version, *listing);
            }
            Line::Bookmark { version, end_of_list } => {
                if *listing && end_of_list {
                    *listing = false;
                    self.end_list(version).await?;
                } else {
                    self.advance(version, *listing);
                }
            }
            Line::Error(refusal) if *listing => return Err(self.refused_list(refusal)),
            Line::Error(refusal) => {
                return Err(self.refused(Opening::Refused(refusal)));
            }
            Line::Garbage(reason) if *listing => self.garbage(&reason),
            Line::Garbage(reason) => {
                self.garbage(&reason);
                self.flush().await?;
                return Err(self.distrust(format!("an event that cannot be read: {reason}")));
            }
        }
        Ok(())
    }

    /// Everything up to this version has been told, unless a list is under way or something was lost.
    fn advance(&mut self, version: String, listing: bool) {
        if !listing && !self.tainted && !version.is_empty() {
            self.version = Some(version);
        }
    }

    /// The stream can no longer be trusted to have told everything.
    fn distrust(&mut self, reason: String) -> End {
        self.version = None;
        End::Broken(reason)
    }

    /// A streaming list was refused, by its head or by an event in it.
    fn refused_list(&mut self, refusal: Refusal) -> End {
        if can_stream(&refusal) {
            return self.refused(Opening::Refused(refusal));
        }
        let Refusal { code, message, .. } = &refusal;
        tracing::info!(watch = %self.path, code, reason = message, "lists are not streamed; pages are read instead");
        self.streams = false;
        // A server in trouble is not asked twice as often for that.
        if *code < 500 { End::Again } else { self.refused(Opening::Refused(refusal)) }
    }

    fn refused(&mut self, opening: Opening) -> End {
        match opening {
            Opening::Failed(reason) => End::Failed(reason, None),
            // 410 Gone: what comes after our version is not known any more.
            Opening::Refused(refusal) if refusal.code == StatusCode::GONE => {
                tracing::info!(watch = %self.path, reason = refusal.message, "expired: reading everything anew");
                self.distrust(refusal.message)
            }
            Opening::Refused(refusal) => End::Failed(explain::<K>(&refusal), refusal.retry_after),
        }
    }

    fn begin_list(&mut self) {
        self.tainted = false;
        self.known.begin();
    }

    async fn end_list(&mut self, version: String) -> Step<()> {
        if self.tainted {
            // What could not be read may be one of those that were not seen. The next list may know.
            self.version = None;
        } else {
            for (key, faulty) in self.known.end() {
                self.gone(key, faulty);
            }
            self.tell_faults(self.garbage_origin(), Vec::new());
            self.version = Some(version).filter(|version| !version.is_empty());
        }
        self.flush().await?;
        self.report(Report::Listed).await
    }

    /// Takes an object; returns its version.
    fn apply(&mut self, object: Object<K>) -> String {
        let (meta, reason) = match &object {
            Object::Good(wire) => (K::meta(wire), None),
            Object::Bad { meta, reason } => (&**meta, Some(reason)),
        };
        let Meta { uid, resource_version, .. } = meta;
        let (key, version) = (meta.key(), resource_version.clone());
        let seen = self.known.saw(&key, uid, resource_version, reason.is_some());
        if !seen.changed {
            return version;
        }
        match object {
            Object::Good(wire) => {
                if seen.was_faulty {
                    self.tell_faults(object_origin::<K>(&key), Vec::new());
                }
                self.batch.push(K::applied(wire));
            }
            Object::Bad { reason, .. } => {
                let text =
                    format!("{} {key}: cannot be read: {reason}; what was last good stays in force", K::NAME);
                self.tell_faults(object_origin::<K>(&key), vec![Fault::new(FaultKind::Field, text)]);
            }
        }
        version
    }

    fn gone(&mut self, key: ObjectKey, faulty: bool) {
        if faulty {
            self.tell_faults(object_origin::<K>(&key), Vec::new());
        }
        self.batch.push(K::deleted(key));
    }

    fn garbage(&mut self, reason: &str) {
        self.tainted = true;
        let text = format!("API server: something among {} cannot be read: {reason}", K::RESOURCE);
        self.tell_faults(self.garbage_origin(), vec![Fault::new(FaultKind::Syntax, text)]);
    }

    async fn set_up(&mut self) -> Step<()> {
        if self.up {
            return Ok(());
        }
        self.up = true;
        self.tell_faults(self.link_origin(), Vec::new());
        self.flush().await?;
        self.report(Report::Up).await
    }

    async fn set_down(&mut self, reason: String) -> Step<()> {
        self.up = false;
        let text = format!("API server: cannot watch {}: {reason}", self.path);
        self.tell_faults(self.link_origin(), vec![Fault::new(FaultKind::Source, text.clone())]);
        self.flush().await?;
        self.report(Report::Down(text)).await
    }

    fn tell_faults(&mut self, origin: String, faults: Vec<Fault>) {
        self.batch.push(Change::Faults { origin, faults });
    }

    fn link_origin(&self) -> String {
        format!("watch of {}", self.path)
    }

    fn garbage_origin(&self) -> String {
        format!("contents of {}", self.path)
    }

    async fn flush(&mut self) -> Step<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.report(Report::Changes(batch)).await
    }

    async fn open(&self, uri: &str, accept: &str) -> Result<Body, Opening> {
        ask::open(&self.client, uri, accept, self.timing.stall).await
    }

    async fn report(&self, report: Report) -> Step<()> {
        self.reports.send((self.feed.clone(), report)).await.map_err(|_| End::Deaf)
    }
}

/// Whether a server that refused a streaming list may well give it later. Those before Kubernetes 1.27, or with the feature
/// turned off, answer 400 or 422 to its parameters; those over an etcd that cannot tell its progress (before 3.4.31 and
/// 3.5.13) send an error event with 500 each time. Pages are right in every case, so any other error of the server leads there, too.
fn can_stream(refusal: &Refusal) -> bool {
    matches!(refusal.code, 401 | 403 | 410 | 429)
}

fn object_origin<K: Kind>(key: &ObjectKey) -> String {
    format!("{} {key}", K::NAME)
}

fn explain<K: Kind>(refusal: &Refusal) -> String {
    let Refusal { code, message, .. } = refusal;
    match code {
        401 => {
            format!("401: {message}; the credentials are not accepted: is the token or certificate valid?")
        }
        403 => format!(
            "403: {message}; allow list and watch of {} (deploy/base/discovery-rbac.yaml has the ClusterRole)",
            K::RESOURCE
        ),
        _ => format!("{code}: {message}"),
    }
}

/// Only for jitter: the standard library's per-instance keys are random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
