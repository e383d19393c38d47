// SPDX-License-Identifier: Apache-2.0
//! What can be called: the two methods of `envoy.service.discovery.v3.AggregatedDiscoveryService`, which are served here,
//! and the others, which tonic serves.
//!
//! tonic would do for ADS as well, but for what it costs per stream: a task, a queue, and buffers that are kept. Deliberately
//! not here: what the methods do.

use std::task::{Context, Poll};

use evenkeel_xds::server::{Delta, StateOfTheWorld};
use http::Request;
use tonic::Status;
use tonic::service::Routes;

use super::bell::Bell;
use super::body::ResponseBody;
use super::bridge::Bridge;
use super::peer::Peer;
use super::said::Said;
use super::{Ads, Snapshots};

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

// === impl Methods ===

impl Methods {
    pub(super) fn new(ads: Ads, others: Routes) -> Self {
        Self { ads, others: others.prepare() }
    }

    /// Gives memory back from time to time, for ever.
    pub(super) async fn tidy_up(&self) {
        self.ads.tidy.clone().run(evenkeel_heap::give_back).await;
    }

    /// Where streams learn of snapshots.
    pub(super) fn snapshots(&self) -> &Snapshots {
        &self.ads.snapshots
    }

    /// Calls a method; `bell` tells its stream of snapshots.
    ///
    /// # Errors
    /// There is no place for another stream.
    pub(super) fn call(&self, request: Request<()>, peer: &Peer, bell: &Bell) -> Result<Call, Status> {
        Ok(match request.uri().path() {
            DELTA => Call::Delta(Box::new(ResponseBody::new(peer, &self.ads, bell, self.ads.place()?))),
            SOTW => Call::Sotw(Box::new(ResponseBody::new(peer, &self.ads, bell, self.ads.place()?))),
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
            Self::Delta(body) => body.requests().push(bytes),
            Self::Sotw(body) => body.requests().push(bytes),
            Self::Other(bridge) => bridge.upload().push(bytes),
        }
    }

    /// The client sends no more.
    pub(super) fn finished(&mut self) {
        match self {
            Self::Delta(body) => body.requests().end(),
            Self::Sotw(body) => body.requests().end(),
            Self::Other(bridge) => bridge.upload().finish(),
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
            Self::Delta(body) => body.poll_next(context),
            Self::Sotw(body) => body.poll_next(context),
            Self::Other(bridge) => bridge.poll_next(context),
        }
    }

    /// Bytes that the client may send in place of those that were read.
    pub(super) fn take_credit(&mut self, context: &Context<'_>) -> usize {
        match self {
            Self::Delta(body) => body.requests().take_credit(),
            Self::Sotw(body) => body.requests().take_credit(),
            Self::Other(bridge) => bridge.upload().take_credit(context),
        }
    }
}
