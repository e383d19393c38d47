// SPDX-License-Identifier: Apache-2.0
//! An ADS stream as the body of an answer: it works when its connection has room for more.
//!
//! So there is no task per stream and no queue between it and the transport; what is to be told is made when there is
//! room to tell it. A client that does not read makes its own stream stand still, and all that waits for it is one response
//! of references to what all clients share. How long it may is up to its connection.
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message" and "Trailers"
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
//!
//! What must always be true: nothing is told before the first snapshot; a stream that is sent away ends after its last
//! whole response; it ends once.

use std::collections::VecDeque;
use std::io::Cursor;
use std::task::{Context, Poll};

use evenkeel_xds::Response;
use evenkeel_xds::server::{Message, Variant};
use http::HeaderMap;
use prost::bytes::Buf;
use prost::bytes::buf::Chain;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::Status;

use super::Ads;
use super::bell::{Bell, Subscription};
use super::gated::Gated;
use super::peer::Peer;
use super::requests::{Next, PREFIX, Requests};
use super::said::{Data, Said};
use super::stream::AdsStream;
use crate::registry::{Ask, Registration};

/// A response with what gRPC has before it.
pub(super) type Prefixed = Chain<Cursor<[u8; PREFIX]>, Message>;

/// Responses of one variant, until the stream ends.
pub(super) struct ResponseBody<V> {
    requests: Requests,
    snapshots: Subscription,
    asks: Gated<mpsc::Receiver<Ask>>,
    state: State<V>,
    waiting: VecDeque<Response>,
    /// Whether the last response may still wait for the client to read.
    writing: bool,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are open, and a client's state is to be in one place"
)]
enum State<V> {
    /// Before the first snapshot.
    New(Box<Opening>),
    Open(AdsStream<V>),
    /// This is told last.
    Ending(Status),
    Ended,
}

struct Opening {
    ads: Ads,
    entry: Registration,
    place: OwnedSemaphorePermit,
}

// === impl ResponseBody ===

impl<V: Variant> ResponseBody<V> {
    /// The answer to requests that are yet to come.
    pub(super) fn new(peer: &Peer, ads: &Ads, bell: &Bell, place: OwnedSemaphorePermit) -> Self {
        // Before the first sync, so that those who wait for it are seen.
        let (entry, asks) = ads.registry.enter(V::NAME, peer.address);
        peer.watch(&entry);
        Self {
            requests: Requests::default(),
            snapshots: bell.subscribe(&ads.snapshots),
            asks: Gated::new(asks),
            state: State::New(Box::new(Opening { ads: ads.clone(), entry, place })),
            waiting: VecDeque::new(),
            writing: false,
        }
    }

    /// What the client sends.
    pub(super) fn requests(&mut self) -> &mut Requests {
        &mut self.requests
    }

    /// Ends the stream after what is about to be said.
    pub(super) fn leave(&mut self) {
        if matches!(self.state, State::New(_) | State::Open(_)) {
            self.end(Status::unavailable("discovery is shutting down"));
        }
    }

    /// The next piece, when the one before has gone; after the last one, never another.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Said> {
        self.wrote();
        while self.waiting.is_empty() {
            let progress = match self.state {
                State::New(_) => self.open(context),
                State::Open(_) => self.step(context),
                State::Ending(_) | State::Ended => break,
            };
            if !progress {
                return Poll::Pending;
            }
        }
        self.next()
    }

    /// Whether anything has happened that the stream cares about.
    fn open(&mut self, context: &mut Context<'_>) -> bool {
        match self.snapshots.poll_next(context) {
            Poll::Pending => false,
            Poll::Ready(None) => self.stopped(),
            Poll::Ready(Some(None)) => true,
            Poll::Ready(Some(Some(snapshot))) => {
                let State::New(opening) = std::mem::replace(&mut self.state, State::Ended) else {
                    return true;
                };
                let Opening { ads: Ads { metrics, names, tidy, .. }, entry, place } = *opening;
                let stream = AdsStream::new(snapshot, entry, &metrics, (&names, &tidy), place);
                self.state = State::Open(stream);
                true
            }
        }
    }

    /// The same for an open stream. Each source has its turn, so that a client that asks all the time is told as well.
    fn step(&mut self, context: &mut Context<'_>) -> bool {
        let State::Open(stream) = &mut self.state else { return false };
        let mut progress = false;
        let taken = match self.requests.next() {
            Ok(Next::Nothing) => Ok(()),
            Ok(Next::Request(message)) => {
                progress = true;
                stream.on_request(message, &mut self.waiting)
            }
            Ok(Next::End) => Err(Status::ok("")),
            Err(status) => Err(status),
        };
        if let Err(status) = taken {
            self.end(status);
            return true;
        }
        if let Poll::Ready(ask) = self.asks.poll(context, |asks, context| asks.poll_recv(context)) {
            // The registry holds the other end for as long as the stream's entry exists, so there is one.
            ask.into_iter().for_each(|ask| stream.on_ask(ask));
            progress = true;
        }
        match self.snapshots.poll_next(context) {
            Poll::Pending => {}
            Poll::Ready(None) => return self.stopped(),
            Poll::Ready(Some(snapshot)) => {
                snapshot.into_iter().for_each(|snapshot| stream.on_snapshot(snapshot, &mut self.waiting));
                progress = true;
            }
        }
        progress
    }

    fn stopped(&mut self) -> bool {
        self.end(Status::unavailable("discovery has stopped publishing"));
        true
    }

    fn end(&mut self, status: Status) {
        self.state = State::Ending(status);
    }

    fn wrote(&mut self) {
        if std::mem::take(&mut self.writing)
            && let State::Open(stream) = &self.state
        {
            stream.wrote();
        }
    }

    fn next(&mut self) -> Poll<Said> {
        if let Some(response) = self.waiting.pop_front() {
            if let State::Open(stream) = &self.state {
                stream.writing();
                self.writing = true;
            }
            return Poll::Ready(Said::Piece(Data::Message(prefixed(V::message(response)))));
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ending(status) => Poll::Ready(Said::End(trailers(&status))),
            _ => Poll::Pending,
        }
    }
}

fn prefixed(message: Message) -> Prefixed {
    let mut prefix = [0; PREFIX];
    // Responses are cut far below 4 GiB, and a single resource is no larger than its Service's slices.
    let length = u32::try_from(message.remaining()).unwrap_or(u32::MAX);
    prefix[1..].copy_from_slice(&length.to_be_bytes());
    Cursor::new(prefix).chain(message)
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // A text that cannot be a header: the code alone still says the most.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", i32::from(status.code()).into());
    }
    trailers
}

#[cfg(test)]
mod tests;
