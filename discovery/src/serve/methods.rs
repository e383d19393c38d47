// SPDX-License-Identifier: Apache-2.0
//! What can be called: the two methods of `envoy.service.discovery.v3.AggregatedDiscoveryService`, which are served here,
//! and the others, which tonic serves.
//!
//! tonic would do for ADS as well, but for what it costs per stream: a task, a queue, and buffers that are kept. Deliberately
//! not here: what the methods do.

use std::task::{Context, Poll};

use evenkeel_http2::Room;
use evenkeel_xds::server::{Delta, StateOfTheWorld};
use http::{HeaderMap, Request};
use hyper::body::Bytes;
use prost::bytes::Buf;
use tonic::Status;
use tonic::service::Routes;

use super::Ads;
use super::bell::Bell;
use super::body::{Piece, Prefixed, ResponseBody};
use super::bridge::Bridge;
use super::peer::Peer;
use super::requests::Requests;

/// The service's name.
pub(super) const NAME: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
const SOTW: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// All that is served to clients. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Methods {
    ads: Ads,
    others: Routes,
}

/// A method that was called.
pub(super) enum Call {
    Delta(Box<ResponseBody<Delta>>),
    Sotw(Box<ResponseBody<StateOfTheWorld>>),
    Other(Box<Bridge>),
}

/// What a method says.
pub(super) enum Said {
    /// How the answer begins, and whether that is all.
    Head(Box<http::response::Parts>, bool),
    Piece(Data),
    /// The answer ends here, with these trailers.
    End(HeaderMap),
    /// It broke off.
    Broken,
}

/// A piece of an answer.
pub(super) enum Data {
    Message(Prefixed),
    Bytes(Bytes),
}

// === impl Methods ===

impl Methods {
    pub(super) fn new(ads: Ads, others: Routes) -> Self {
        Self { ads, others: others.prepare() }
    }

    /// Gives memory back from time to time, for ever.
    pub(super) async fn tidy_up(&self) {
        self.ads.tidy.clone().run(evenkeel_heap::give_back).await;
    }

    /// The same, for connections that a bell of their own tells of snapshots.
    pub(super) fn with_own_bell(&self) -> Self {
        let ads = Ads { bell: Bell::default(), ..self.ads.clone() };
        Self { ads, others: self.others.clone() }
    }

    /// Rings that bell, as long as there are snapshots.
    pub(super) fn follow(&self) -> impl Future<Output = ()> + use<> {
        self.ads.bell.clone().follow(self.ads.snapshots.clone())
    }

    /// # Errors
    /// There is no place for another stream.
    pub(super) fn call(&self, request: Request<()>, peer: &Peer) -> Result<Call, Status> {
        Ok(match request.uri().path() {
            DELTA => Call::Delta(Box::new(ResponseBody::new(peer, &self.ads, self.ads.place()?))),
            SOTW => Call::Sotw(Box::new(ResponseBody::new(peer, &self.ads, self.ads.place()?))),
            _ => Call::Other(Box::new(Bridge::new(&self.others, request, peer.clone()))),
        })
    }
}

// === impl Call ===

impl Call {
    /// Whether its answer begins as every good answer of gRPC does; otherwise it says so itself.
    pub(super) fn is_ads(&self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// The client has sent this.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        match self {
            Self::Other(bridge) => bridge.upload().push(bytes),
            ads => ads.requests().into_iter().for_each(|requests| requests.push(bytes)),
        }
    }

    /// The client sends no more.
    pub(super) fn finished(&mut self) {
        match self {
            Self::Other(bridge) => bridge.upload().finish(),
            ads => ads.requests().into_iter().for_each(Requests::end),
        }
    }

    /// The connection is sent away. tonic's methods know by [`Peer::leave`].
    pub(super) fn leave(&mut self) {
        match self {
            Self::Delta(body) => body.leave(),
            Self::Sotw(body) => body.leave(),
            Self::Other(_) => {}
        }
    }

    /// What is said next, when what was said before has gone; after the end, nothing.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Said> {
        match self {
            Self::Delta(body) => body.poll_next(context).map(Said::from),
            Self::Sotw(body) => body.poll_next(context).map(Said::from),
            Self::Other(bridge) => bridge.poll_next(context),
        }
    }

    /// Bytes that the client may send in place of those that were read.
    pub(super) fn take_credit(&mut self, context: &Context<'_>) -> usize {
        match self {
            Self::Other(bridge) => bridge.upload().take_credit(context),
            ads => ads.requests().map_or(0, Requests::take_credit),
        }
    }

    fn requests(&mut self) -> Option<&mut Requests> {
        match self {
            Self::Delta(body) => Some(body.requests()),
            Self::Sotw(body) => Some(body.requests()),
            Self::Other(_) => None,
        }
    }
}

impl From<Piece> for Said {
    fn from(piece: Piece) -> Self {
        match piece {
            Piece::Message(message) => Self::Piece(Data::Message(message)),
            Piece::End(trailers) => Self::End(trailers),
        }
    }
}

// === impl Data ===

impl Data {
    /// Puts as much there as there is room for; whether that was all.
    pub(super) fn fill(&mut self, room: &mut Room<'_>) -> bool {
        match self {
            Self::Message(message) => fill(message, room),
            Self::Bytes(bytes) => fill(bytes, room),
        }
    }
}

fn fill(from: &mut impl Buf, room: &mut Room<'_>) -> bool {
    while from.has_remaining() && room.left() > 0 {
        let count = room.put(from.chunk());
        from.advance(count);
    }
    !from.has_remaining()
}
