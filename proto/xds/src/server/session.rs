// SPDX-License-Identifier: Apache-2.0
//! One ADS stream: routes requests and changes to the subscriptions per type.
//!
//! What must always be true: types are independent of each other except for the order in which they are served, and that
//! a cluster is followed by its endpoints.
//! Deliberately not here: the rules within a type, see `subscription`.

use std::{marker::PhantomData, sync::Arc};

use envoy_types::pb::envoy::config::core::v3::Node;
use prost::Message;

use super::{
    Acknowledgement, Changes, Limits, NamePool, Rejection, ResourceSource, Response, SessionError,
    SessionReport,
    subscription::{Interest, Scope, Subscription},
    variant::{Delta, StateOfTheWorld, Variant, sealed::Parts},
};
use crate::{
    type_url::{self, CLUSTER, CLUSTER_LOAD_ASSIGNMENT},
    version::Nonces,
};

/// Metadata of a node that is kept for reports, in bytes. Nobody needs more to recognise a client.
const METADATA_BYTES: usize = 2048;

/// The serving end of one ADS stream of the incremental variant. A new stream is a new session.
pub type DeltaSession<S> = Session<S, Delta>;

/// The serving end of one ADS stream of the state-of-the-world variant.
pub type SotwSession<S> = Session<S, StateOfTheWorld>;

/// The serving end of one ADS stream.
#[derive(Debug)]
pub struct Session<S, V> {
    limits: Limits,
    nonces: Nonces,
    names: NamePool,
    /// Aside: it is large, and seldom looked at.
    node: Option<Box<Node>>,
    view: S,
    /// In the order in which they are served.
    types: Vec<(Arc<str>, Subscription)>,
    variant: PhantomData<fn() -> V>,
}

impl<S: ResourceSource + Clone, V: Variant> Session<S, V> {
    /// A session for a stream that was just opened and is to see this view.
    pub fn new(limits: Limits, view: S) -> Self {
        Self {
            limits,
            nonces: Nonces::default(),
            names: NamePool::default(),
            node: None,
            view,
            types: Vec::new(),
            variant: PhantomData,
        }
    }

    /// The same session, which holds its lists of names together with all others of this pool. To be called before the
    /// first request.
    pub fn sharing(mut self, names: &NamePool) -> Self {
        self.names = names.clone();
        self
    }

    /// Takes one request from the stream and returns what to write.
    ///
    /// An error ends the stream: answer with its text and drop the session.
    pub fn on_request(&mut self, request: V::Request) -> Result<Vec<Response>, SessionError> {
        let mut responses = Vec::new();
        self.take_request(request, &mut responses)?;
        Ok(responses)
    }

    /// The same for a caller that has a place for responses.
    pub fn take_request(
        &mut self,
        request: V::Request,
        out: &mut impl Extend<Response>,
    ) -> Result<(), SessionError> {
        let mut parts = V::open(request);
        self.check_sizes(&parts)?;
        if self.node.is_none() {
            self.node = parts.node.take().map(|node| Box::new(recognisable(node)));
        }
        let (index, first) = self.place(&parts.type_url)?;
        let (type_url, subscription) = &mut self.types[index];
        let scope = Scope { type_url, view: &self.view };
        subscription.acknowledge(&parts.nonce, parts.error.as_ref(), self.limits.reasons);
        subscription.change(first, parts.interest, scope);
        let count = subscription.names();
        if count > self.limits.subscriptions {
            let limit = self.limits.subscriptions;
            return Err(SessionError::TooManySubscriptions { type_url: type_url.to_string(), count, limit });
        }
        self.answer(index, out);
        Ok(())
    }

    /// Takes an encoded request, if all it does is to acknowledge the last response of a type: that type. `None`: nothing
    /// was done, decode it. Nearly all that clients say is this.
    pub fn take_acknowledgement(&mut self, message: &[u8], out: &mut impl Extend<Response>) -> Option<&str> {
        let Acknowledgement { type_url, nonce } = V::acknowledgement(message)?;
        let index = self.types.iter().position(|(known, _)| known.as_bytes() == type_url)?;
        self.types[index].1.is_acknowledged(nonce).then(|| self.answer(index, out))?;
        Some(&self.types[index].0)
    }

    /// What there is to tell after a request for this type.
    fn answer(&mut self, index: usize, out: &mut impl Extend<Response>) {
        let Some(response) = self.flush(index) else { return };
        out.extend([response]);
        if *self.types[index].0 == *CLUSTER {
            let endpoints = self.types.iter().position(|(known, _)| **known == *CLUSTER_LOAD_ASSIGNMENT);
            out.extend(endpoints.and_then(|index| self.flush(index)));
        }
    }

    /// Goes over to another view and compares everything: for when it is unknown what is different.
    pub fn on_update(&mut self, view: &S) -> Vec<Response> {
        let mut responses = Vec::new();
        self.take_view(view.clone(), &mut responses);
        responses
    }

    /// The same for a caller that has a place for responses.
    pub fn take_view(&mut self, view: S, out: &mut impl Extend<Response>) {
        for (type_url, subscription) in &mut self.types {
            let old = Scope { type_url, view: &self.view };
            subscription.compare_all(old, Scope { type_url, view: &view });
        }
        self.view = view;
        self.flush_all(out);
    }

    /// Goes over to another view of which it is known what is different. Costs O(names that changed).
    pub fn on_changes(&mut self, changes: &impl Changes<S>, view: &S) -> Vec<Response> {
        let mut responses = Vec::new();
        self.take_changes(changes, view.clone(), &mut responses);
        responses
    }

    /// The same for a caller that has a place for responses.
    pub fn take_changes(&mut self, changes: &impl Changes<S>, view: S, out: &mut impl Extend<Response>) {
        let Self { types, limits, nonces, .. } = self;
        // Types are told in their order, and clusters make endpoints pending: then all has to be known first.
        let mut at_once = changes.names(CLUSTER).is_empty();
        for (type_url, subscription) in types {
            let names = changes.names(type_url);
            if names.is_empty() {
                continue;
            }
            let difference = |place| changes.difference(type_url, place, &self.view, &view);
            let new = Scope { type_url, view: &view };
            at_once &= subscription.is_ready(names);
            if at_once {
                let response =
                    subscription.tell((type_url, names), difference, new, limits.response_bytes, nonces);
                out.extend(response);
            } else {
                subscription.compare(names, difference, new);
            }
        }
        self.view = view;
        if !at_once {
            self.flush_all(out);
        }
    }

    /// The client's node, from the first request that carried one, without what is long and says little about who it is.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// The view that is served.
    pub fn view(&self) -> &S {
        &self.view
    }

    /// What the client rejected and still does not have.
    pub fn rejections(&self) -> impl Iterator<Item = Rejection<'_>> {
        self.types.iter().flat_map(|(type_url, subscription)| {
            subscription.rejections().map(move |(name, version, reason)| Rejection {
                type_url,
                name,
                version,
                reason,
            })
        })
    }

    /// How many [`Session::rejections`] there are.
    pub fn rejected(&self) -> usize {
        self.types.iter().map(|(_, subscription)| subscription.rejected()).sum()
    }

    /// Whether the client has acknowledged all there is to tell.
    pub fn in_sync(&self) -> bool {
        self.types.iter().all(|(_, subscription)| subscription.in_sync())
    }

    /// All that is known of the client.
    pub fn report(&self) -> SessionReport {
        let report = |(type_url, subscription): &(Arc<str>, Subscription)| {
            subscription.report(type_url.clone(), Scope { type_url, view: &self.view })
        };
        SessionReport { node: self.node.as_deref().cloned(), types: self.types.iter().map(report).collect() }
    }

    fn flush_all(&mut self, out: &mut impl Extend<Response>) {
        for index in 0..self.types.len() {
            out.extend(self.flush(index));
        }
    }

    fn flush(&mut self, index: usize) -> Option<Response> {
        let (type_url, subscription) = &mut self.types[index];
        let scope = Scope { type_url, view: &self.view };
        let response = subscription.respond(type_url, scope, self.limits.response_bytes, &mut self.nonces)?;
        if **type_url == *CLUSTER {
            self.warm(index);
        }
        Some(response)
    }

    /// Makes the endpoints of the clusters just sent pending. "Warming of Cluster is completed only when a new
    /// ClusterLoadAssignment response is supplied by management server even though there is no change in endpoints."
    fn warm(&mut self, clusters: usize) {
        // Endpoints are served after clusters, so they are behind them.
        let (before, behind) = self.types.split_at_mut(clusters + 1);
        let endpoints = behind.iter_mut().find(|(known, _)| **known == *CLUSTER_LOAD_ASSIGNMENT);
        if let (Some((_, clusters)), Some((type_url, endpoints))) = (before.last(), endpoints) {
            let scope = Scope { type_url, view: &self.view };
            endpoints.repeat(clusters.unacknowledged().map(|(name, _)| name), scope);
        }
    }

    /// Index of the type's subscription, and whether this is the first request for it.
    fn place(&mut self, type_url: &str) -> Result<(usize, bool), SessionError> {
        if type_url.is_empty() {
            return Err(SessionError::MissingTypeUrl);
        }
        if let Some(index) = self.types.iter().position(|(known, _)| **known == *type_url) {
            return Ok((index, false));
        }
        if self.types.len() >= self.limits.types {
            return Err(SessionError::TooManyTypes { type_url: type_url.into(), limit: self.limits.types });
        }
        let rank = type_url::rank(type_url);
        let index = self.types.partition_point(|(known, _)| type_url::rank(known) <= rank);
        let subscription = Subscription::new(V::grouping(type_url), self.names.clone());
        self.types.insert(index, (type_url::shared(type_url), subscription));
        Ok((index, true))
    }

    fn check_sizes(&self, parts: &Parts) -> Result<(), SessionError> {
        let (count, longest) = measure(&parts.interest);
        let limit = self.limits.names_per_request;
        if count > limit {
            let type_url = crate::nack::cut(&parts.type_url).to_owned();
            return Err(SessionError::TooManyNames { type_url, count, limit });
        }
        let longest = longest.max(parts.type_url.len());
        let limit = self.limits.name_bytes;
        if longest > limit {
            return Err(SessionError::NameTooLong { bytes: longest, limit });
        }
        Ok(())
    }
}

/// Number of names in a request, and the length of the longest that would be kept.
fn measure(interest: &Interest) -> (usize, usize) {
    let longest = |names: &mut dyn Iterator<Item = &String>| names.map(String::len).max().unwrap_or(0);
    match interest {
        Interest::Difference { subscribe, unsubscribe, held } => (
            subscribe.len() + unsubscribe.len() + held.len(),
            longest(&mut subscribe.iter().chain(held.keys())),
        ),
        Interest::All(names) => (names.len(), longest(&mut names.iter())),
    }
}

/// Envoy's node lists hundreds of extensions, which is more than all else that is remembered of a client.
fn recognisable(node: Node) -> Node {
    Node {
        extensions: Vec::new(),
        client_features: Vec::new(),
        dynamic_parameters: Default::default(),
        metadata: node.metadata.filter(|metadata| metadata.encoded_len() <= METADATA_BYTES),
        ..node
    }
}
