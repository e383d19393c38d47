// SPDX-License-Identifier: Apache-2.0
//! Arrivals, requests, and the commands of the orchestrator.
//!
//! Two Poisson processes run side by side: requests over the long-lived connections, and short-lived connections with
//! one request each. What must always be true: neither ever waits for an answer.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request, Version};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Args;
use super::connection::{self, Slot};
use super::interval::{Interval, Live, Outcome, Outstanding};
use crate::peer::clock::Clock;
use crate::peer::control;
use crate::peer::grpc::{CALL, CONTENT_TYPE, EMPTY_MESSAGE, Reply};
use crate::peer::messages::{Command, FailureKind, LIVE_EVERY_MS, Line, Report};
use crate::peer::random::Random;

/// A running client.
pub(in crate::peer) struct Client {
    name: String,
    zone: String,
    source: Option<IpAddr>,
    target: SocketAddr,
    deadline: Duration,
    connect_timeout: Duration,
    clock: Clock,
    request: Request<()>,
    slots: Vec<Rc<Slot>>,
    interval: RefCell<Rc<Interval>>,
    interval_began: Cell<Instant>,
    live: Live,
    churn: Cell<f64>,
    churn_changed: Notify,
}

impl Client {
    /// Opens the connections and starts the load; needs a `LocalSet`.
    pub(in crate::peer) fn start(args: &Args) -> Rc<Self> {
        let client = Rc::new(Self {
            name: args.name.clone(),
            zone: args.zone.clone(),
            source: args.source,
            target: args.target,
            deadline: Duration::from_millis(args.deadline_ms),
            connect_timeout: Duration::from_millis(args.connect_timeout_ms),
            clock: Clock::start(),
            request: call(args.target),
            slots: (0..args.connections).map(|_| Rc::default()).collect(),
            interval: RefCell::new(Interval::begin(&args.name, &args.zone)),
            interval_began: Cell::new(Instant::now()),
            live: Live::new(),
            churn: Cell::new(args.churn),
            churn_changed: Notify::new(),
        });
        let keepalive = Duration::from_millis(args.keepalive_timeout_ms);
        for slot in &client.slots {
            let (client, slot) = (client.clone(), slot.clone());
            spawn_local(async move {
                let opened = |began, result| client.opened(began, result);
                connection::keep(&slot, client.target, client.connect_timeout, keepalive, opened).await;
            });
        }
        if !client.slots.is_empty() && args.rate > 0.0 {
            spawn_local(client.clone().arrivals(args.rate));
        }
        spawn_local(client.clone().churn());
        client
    }

    /// Takes commands from the orchestrator until it has gone.
    pub(super) async fn serve(self: &Rc<Self>, control: &Path) -> Result<()> {
        let (lines, mut commands) = control::connect(control, &self.name).await?;
        let (client, live) = (self.clone(), lines.clone());
        spawn_local(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(LIVE_EVERY_MS));
            loop {
                tick.tick().await;
                live.send(Line::Client(client.live.take()));
            }
        });
        while let Some(command) = commands.next().await? {
            match command {
                Command::Reset => drop(self.begin_interval()),
                Command::Report => {
                    let (finished, lines) = (self.end_interval(), lines.clone());
                    spawn_local(async move { lines.send(Line::Report(finished.await)) });
                }
                Command::Reconnect => {
                    let (client, lines) = (self.clone(), lines.clone());
                    spawn_local(async move {
                        client.reconnect().await;
                        lines.send(Line::Reconnected);
                    });
                }
                Command::Churn { rps } => {
                    self.churn.set(if rps.is_finite() { rps.max(0.0) } else { 0.0 });
                    self.churn_changed.notify_one();
                }
            }
        }
        Ok(())
    }

    /// Ends the interval and reports it once its last request has ended.
    pub(in crate::peer) async fn report(self: &Rc<Self>) -> Report {
        self.end_interval().await
    }

    /// Replaces every connection and waits until the new ones serve.
    pub(in crate::peer) async fn reconnect(&self) {
        futures_util::future::join_all(self.slots.iter().map(|slot| slot.renew())).await;
    }

    fn begin_interval(&self) -> Rc<Interval> {
        self.interval_began.set(Instant::now());
        for slot in &self.slots {
            slot.pods.borrow_mut().clear();
        }
        self.interval.replace(Interval::begin(&self.name, &self.zone))
    }

    fn end_interval(&self) -> impl Future<Output = Report> + use<> {
        let length = self.interval_began.get().elapsed();
        let connections = self.slots.iter().map(|slot| slot.pods.borrow().clone()).collect();
        let interval = self.begin_interval();
        async move { interval.finish(length, connections).await }
    }

    fn opened(&self, began: Instant, result: Result<(), connection::OpenError>) {
        let interval = self.interval.borrow();
        match result {
            Ok(()) => interval.connected(),
            Err((kind, detail)) => {
                self.live.not_connected();
                interval.not_connected(self.clock.micros(began.into_std()), kind, detail);
            }
        }
    }

    async fn arrivals(self: Rc<Self>, rate: f64) {
        let mut random = Random::named(&self.name);
        let mean = Duration::from_secs_f64(1.0 / rate);
        let mut due = Instant::now();
        for slot in self.slots.iter().cycle() {
            due += random.exponential(mean);
            sleep_until(due).await;
            let outstanding = self.interval.borrow().request();
            spawn_local(self.clone().request(slot.clone(), due, self.interval.borrow().clone(), outstanding));
        }
    }

    async fn request(
        self: Rc<Self>,
        slot: Rc<Slot>,
        due: Instant,
        interval: Rc<Interval>,
        _pending: Outstanding,
    ) {
        let sent = Cell::new(false);
        let outcome = match timeout_at(due + self.deadline, self.attempts(&slot, &sent)).await {
            Ok(outcome) => outcome,
            Err(_) if sent.get() => Outcome::Failed(FailureKind::Deadline),
            Err(_) => Outcome::Failed(FailureKind::NoConnection),
        };
        let latency = due.elapsed();
        if let Outcome::Answered { reply, .. } = &outcome
            && !slot.pods.borrow().contains(&reply.pod)
        {
            slot.pods.borrow_mut().insert(reply.pod.clone());
        }
        interval.ended(self.clock.micros(due.into_std()), latency, &outcome);
        self.live.ended(&self.zone, latency, &outcome);
    }

    /// Tries until the request has been sent on a connection that takes it.
    async fn attempts(&self, slot: &Slot, sent: &Cell<bool>) -> Outcome {
        loop {
            let (sender, epoch) = slot.sender().await;
            sent.set(true);
            match self.attempt(sender).await {
                Ok(outcome) => return outcome,
                Err(Unsent) => {
                    sent.set(false);
                    slot.refuses(epoch);
                }
            }
        }
    }

    /// One attempt; `Unsent` if the peer has certainly not processed it.
    async fn attempt(&self, sender: SendRequest<Bytes>) -> Result<Outcome, Unsent> {
        let Ok(mut sender) = sender.ready().await else { return Err(Unsent) };
        let Ok((response, mut stream)) = sender.send_request(self.request.clone(), false) else {
            return Err(Unsent);
        };
        drop(sender);
        let written = stream.send_data(EMPTY_MESSAGE, true);
        let answer = async {
            written?;
            let mut body = response.await?;
            let headers_status = body.headers().get("grpc-status").cloned();
            let ok = body.status() == http::StatusCode::OK && headers_status.is_none();
            let body = body.body_mut();
            let mut message = BytesMut::new();
            while let Some(chunk) = body.data().await {
                let chunk = chunk?;
                body.flow_control().release_capacity(chunk.len())?;
                message.extend_from_slice(&chunk);
            }
            let trailers = body.trailers().await?;
            let status_ok =
                trailers.is_some_and(|trailers| trailers.get("grpc-status").is_some_and(|s| s == "0"));
            Ok::<_, h2::Error>(if ok && status_ok { Reply::decode(&message) } else { None })
        };
        match answer.await {
            Ok(Some(reply)) => {
                let source_matches = self.source.is_none_or(|source| source == reply.peer);
                Ok(Outcome::Answered { reply, source_matches })
            }
            Ok(None) => Ok(Outcome::Failed(FailureKind::Status)),
            Err(error) if unprocessed(&error) => Err(Unsent),
            Err(_) => Ok(Outcome::Failed(FailureKind::Reset)),
        }
    }

    async fn churn(self: Rc<Self>) {
        let mut random = Random::named(&format!("{} churn", self.name));
        let mut due = Instant::now();
        loop {
            let rate = self.churn.get();
            if rate <= 0.0 {
                self.churn_changed.notified().await;
                due = Instant::now();
                continue;
            }
            due += random.exponential(Duration::from_secs_f64(1.0 / rate));
            tokio::select! {
                () = sleep_until(due) => {
                    let outstanding = self.interval.borrow().request();
                    spawn_local(self.clone().short_lived(due, self.interval.borrow().clone(), outstanding));
                }
                () = self.churn_changed.notified() => due = Instant::now(),
            }
        }
    }

    async fn short_lived(self: Rc<Self>, due: Instant, interval: Rc<Interval>, _pending: Outstanding) {
        let began = Instant::now();
        let due_us = self.clock.micros(due.into_std());
        match connection::open(self.target, self.connect_timeout).await {
            Ok(open) => {
                let outcome = match timeout_at(due + self.deadline, self.attempt(open.sender)).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(Unsent)) => Outcome::Failed(FailureKind::Reset),
                    Err(_) => Outcome::Failed(FailureKind::Deadline),
                };
                interval.churn_ended(due_us, &outcome);
            }
            Err((kind, detail)) => {
                self.live.not_connected();
                interval.not_connected(self.clock.micros(began.into_std()), kind, detail);
                interval.churn_unopened();
            }
        }
    }
}

/// The request was not processed and may be sent again (RFC 9113, sections 6.8 and 8.7).
struct Unsent;

/// Whether the peer has said that it did not process the stream: above the last one of a GOAWAY, or refused.
fn unprocessed(error: &h2::Error) -> bool {
    let graceful = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    graceful || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

fn call(target: SocketAddr) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = format!("http://{target}{CALL}").parse().expect("an address and a path make a URI");
    let headers = request.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(http::header::TE, http::HeaderValue::from_static("trailers"));
    request
}
