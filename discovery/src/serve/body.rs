// SPDX-License-Identifier: Apache-2.0
//! An ADS stream as the body of an HTTP response: it works when the transport asks it for more.
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
use std::convert::Infallible;
use std::io::Cursor;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use evenkeel_xds::Response;
use evenkeel_xds::server::{Message, Variant};
use futures_util::Stream as _;
use http::HeaderMap;
use hyper::body::{Body, Bytes, Frame};
use prost::bytes::Buf;
use prost::bytes::buf::Chain;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use super::Ads;
use super::connection::Peer;
use super::gated::Gated;
use super::requests::{PREFIX, Requests};
use super::stream::AdsStream;
use crate::registry::{Ask, Registration};
use crate::snapshot::Snapshot;

/// A response with what gRPC has before it.
pub(super) type Prefixed = Chain<Cursor<[u8; PREFIX]>, Message>;

/// Responses of one variant, until the stream ends.
pub(super) struct ResponseBody<V, B> {
    requests: Gated<Requests<V, B>>,
    snapshots: Gated<WatchStream<Option<Arc<Snapshot>>>>,
    asks: Gated<mpsc::Receiver<Ask>>,
    leave: Gated<Pin<Box<WaitForCancellationFutureOwned>>>,
    state: State<V>,
    waiting: VecDeque<Response>,
    /// Whether the last response may still wait for the client to read.
    writing: bool,
}

enum State<V> {
    /// Before the first snapshot.
    New(Box<Opening>),
    Open(Box<AdsStream<V>>),
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

impl<V: Variant, B: Body<Data = Bytes> + Unpin> ResponseBody<V, B> {
    /// The answer to this body of requests.
    pub(super) fn new(requests: B, peer: &Peer, ads: &Ads, place: OwnedSemaphorePermit) -> Self {
        // Before the first sync, so that those who wait for it are seen.
        let (entry, asks) = ads.registry.enter(V::NAME, peer.address);
        peer.watch(&entry);
        Self {
            requests: Gated::new(Requests::new(requests)),
            snapshots: Gated::new(WatchStream::new(ads.snapshots.clone())),
            asks: Gated::new(asks),
            leave: Gated::new(Box::pin(peer.leave.clone().cancelled_owned())),
            state: State::New(Box::new(Opening { ads: ads.clone(), entry, place })),
            waiting: VecDeque::new(),
            writing: false,
        }
    }

    /// Deals with what has happened until there is something to tell, or nothing more has happened.
    fn advance(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.waiting.is_empty() && !matches!(self.state, State::Ending(_) | State::Ended) {
            if self.leave.poll(context, |leave, context| leave.as_mut().poll(context)).is_ready() {
                self.end(Status::unavailable("discovery is shutting down"));
                break;
            }
            let progress = match self.state {
                State::New(_) => self.open(context),
                _ => self.step(context),
            };
            if !progress {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Whether anything has happened that the stream cares about.
    fn open(&mut self, context: &mut Context<'_>) -> bool {
        match self.snapshots.poll(context, |snapshots, context| Pin::new(snapshots).poll_next(context)) {
            Poll::Pending => false,
            Poll::Ready(None) => self.stopped(),
            Poll::Ready(Some(None)) => true,
            Poll::Ready(Some(Some(snapshot))) => {
                let State::New(opening) = std::mem::replace(&mut self.state, State::Ended) else {
                    return true;
                };
                let Opening { ads: Ads { metrics, names, tidy, .. }, entry, place } = *opening;
                let stream = AdsStream::new(snapshot, entry, metrics, (&names, &tidy), place);
                self.state = State::Open(Box::new(stream));
                true
            }
        }
    }

    /// The same for an open stream. Each source has its turn, so that a client that asks all the time is told as well.
    fn step(&mut self, context: &mut Context<'_>) -> bool {
        let State::Open(stream) = &mut self.state else { return false };
        let request = self.requests.poll(context, Requests::poll_next);
        let responses = match request {
            Poll::Pending => None,
            Poll::Ready(Some(Ok(request))) => Some(stream.on_request(request)),
            Poll::Ready(Some(Err(status))) => Some(Err(status)),
            Poll::Ready(None) => Some(Err(Status::ok(""))),
        };
        let mut progress = responses.is_some();
        match responses.transpose() {
            Ok(responses) => self.waiting.extend(responses.into_iter().flatten()),
            Err(status) => {
                self.end(status);
                return true;
            }
        }
        if let Poll::Ready(ask) = self.asks.poll(context, |asks, context| asks.poll_recv(context)) {
            // The registry holds the other end for as long as the stream's entry exists, so there is one.
            ask.into_iter().for_each(|ask| stream.on_ask(ask));
            progress = true;
        }
        match self.snapshots.poll(context, |snapshots, context| Pin::new(snapshots).poll_next(context)) {
            Poll::Pending => {}
            Poll::Ready(None) => return self.stopped(),
            Poll::Ready(Some(snapshot)) => {
                self.waiting.extend(snapshot.into_iter().flat_map(|snapshot| stream.on_snapshot(snapshot)));
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

    fn next(&mut self) -> Option<Frame<Prefixed>> {
        if let Some(response) = self.waiting.pop_front() {
            if let State::Open(stream) = &self.state {
                stream.writing();
                self.writing = true;
            }
            return Some(Frame::data(prefixed(V::message(response))));
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ending(status) => Some(Frame::trailers(trailers(&status))),
            _ => None,
        }
    }
}

impl<V: Variant, B: Body<Data = Bytes> + Unpin> Body for ResponseBody<V, B> {
    type Data = Prefixed;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Prefixed>, Infallible>>> {
        let this = self.get_mut();
        this.wrote();
        this.advance(context).map(|()| this.next().map(Ok))
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
