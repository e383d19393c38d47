// SPDX-License-Identifier: Apache-2.0
//! The delta client's state machine.
//!
//! What must always be true: see the module above. Deliberately not here: see there.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    },
    google::protobuf::Any,
};

use super::Interest;
use crate::{nack, type_url};

/// What a change of interest leads to.
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use = "the request has to be sent and the dropped resources have to be let go"]
pub struct Change {
    /// To be sent if a stream is open.
    pub request: Option<DeltaDiscoveryRequest>,
    /// Names that were held and are no longer wanted. No event will be raised for them.
    pub dropped: Vec<String>,
}

/// One thing that a response changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<T> {
    /// A resource is new or different.
    Updated {
        /// Its name.
        name: String,
        /// Its version, as the server wrote it.
        version: String,
        /// What `validate` made of it.
        value: T,
    },
    /// There is no such resource, or no longer.
    Removed {
        /// Its name.
        name: String,
    },
}

/// A resource that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its name; for a resource without one, its place in the response.
    pub name: String,
    /// The refused version.
    pub version: String,
    /// Why.
    pub reason: String,
}

/// What came of a response. The events are one batch.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "the reply has to be sent and the events have to be applied"]
pub struct Outcome<T> {
    /// The response's type.
    pub type_url: String,
    /// Updates first, then removals.
    pub events: Vec<Event<T>>,
    /// What was refused in this response.
    pub rejected: Vec<Rejected>,
    /// ACK or NACK. `None` only if no stream is open: the response came from one that is gone.
    pub reply: Option<DeltaDiscoveryRequest>,
}

/// One type's state.
#[derive(Debug, Default)]
struct Held {
    interest: Interest,
    /// Accepted resources: name to version.
    versions: BTreeMap<String, String>,
    rejected: BTreeMap<String, Rejected>,
    /// Whether this stream has seen a request for the type.
    opened: bool,
}

/// The asking end of ADS, delta variant. Lives as long as the process; streams come and go.
#[derive(Debug)]
pub struct DeltaClient {
    node: Node,
    types: BTreeMap<String, Held>,
    connected: bool,
    node_sent: bool,
}

impl DeltaClient {
    /// A client that holds nothing and wants nothing.
    pub fn new(node: Node) -> Self {
        Self { node, types: BTreeMap::new(), connected: false, node_sent: false }
    }

    /// Notes a resource that is held from before (a last-good file). Call before [`DeltaClient::subscribe`] for the type,
    /// which drops what it does not cover.
    pub fn preload(&mut self, type_url: &str, name: &str, version: &str) {
        let held = self.types.entry(type_url.to_owned()).or_default();
        held.versions.insert(name.to_owned(), version.to_owned());
    }

    /// Sets what is wanted of a type. At any time; only the difference is sent.
    pub fn subscribe(&mut self, type_url: &str, interest: Interest) -> Change {
        let held = self.types.entry(type_url.to_owned()).or_default();
        let before = std::mem::replace(&mut held.interest, interest);
        let dropped: Vec<String> =
            held.versions.keys().filter(|name| !held.interest.covers(name)).cloned().collect();
        for name in &dropped {
            held.versions.remove(name);
        }
        held.rejected.retain(|name, _| held.interest.covers(name));
        let request = match (self.connected, held.opened) {
            (false, _) => None,
            (true, false) => self.first_request(type_url),
            (true, true) => {
                let (subscribe, unsubscribe) = before.difference(&held.interest);
                (!subscribe.is_empty() || !unsubscribe.is_empty()).then(|| DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    resource_names_subscribe: subscribe,
                    resource_names_unsubscribe: unsubscribe,
                    ..DeltaDiscoveryRequest::default()
                })
            }
        };
        Change { request, dropped }
    }

    /// A stream is open. Returns what to send first.
    pub fn on_connected(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.on_disconnected();
        self.connected = true;
        let mut types: Vec<String> = self.types.keys().cloned().collect();
        types.sort_by_key(|t| type_url::rank(t));
        types.iter().filter_map(|t| self.first_request(t)).collect()
    }

    /// The stream is gone. What is held stays held.
    pub fn on_disconnected(&mut self) {
        self.connected = false;
        self.node_sent = false;
        for held in self.types.values_mut() {
            held.opened = false;
        }
    }

    /// Takes one response from the stream.
    ///
    /// `validate` is given type, name and body of each wanted resource and returns its value or a reason against it.
    pub fn on_response<T>(
        &mut self,
        response: DeltaDiscoveryResponse,
        mut validate: impl FnMut(&str, &str, Any) -> Result<T, String>,
    ) -> Outcome<T> {
        let type_url = response.type_url;
        let mut outcome = Outcome { type_url, events: Vec::new(), rejected: Vec::new(), reply: None };
        if !self.connected {
            return outcome;
        }
        let mut reply = DeltaDiscoveryRequest {
            type_url: outcome.type_url.clone(),
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        let Some(held) = self.types.get_mut(&outcome.type_url).filter(|held| held.opened) else {
            reply.error_detail = Some(nack::whole(&format!("{:?} was not asked for", outcome.type_url)));
            outcome.reply = Some(reply);
            return outcome;
        };
        let removed = response
            .removed_resources
            .into_iter()
            .chain(response.removed_resource_names.into_iter().map(|locator| locator.name));
        let batch = Batch::new(response.resources, removed);
        batch.apply(held, &mut outcome, &mut validate);
        if !outcome.rejected.is_empty() {
            let named = outcome.rejected.iter().map(|r| (r.name.as_str(), r.reason.as_str()));
            reply.error_detail = Some(nack::status(named));
        }
        outcome.reply = Some(reply);
        outcome
    }

    /// What was refused and has not been replaced by something good since, with its type.
    pub fn rejections(&self) -> impl Iterator<Item = (&str, &Rejected)> {
        self.types.iter().flat_map(|(type_url, held)| held.rejected.values().map(move |r| (&**type_url, r)))
    }

    /// Names and versions held of a type.
    pub fn versions(&self, type_url: &str) -> impl Iterator<Item = (&str, &str)> {
        self.types.get(type_url).into_iter().flat_map(|h| &h.versions).map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The first request for a type on this stream, with all that is held of it. `None` if nothing is wanted of it: an
    /// empty first request would ask for everything.
    fn first_request(&mut self, type_url: &str) -> Option<DeltaDiscoveryRequest> {
        let held = self.types.get_mut(type_url).filter(|held| !held.interest.is_empty())?;
        held.opened = true;
        // The server of this stream sends again what is still bad; what it does not send may be mended or gone.
        held.rejected.clear();
        let node = (!std::mem::replace(&mut self.node_sent, true)).then(|| self.node.clone());
        Some(DeltaDiscoveryRequest {
            node,
            type_url: type_url.to_owned(),
            resource_names_subscribe: held.interest.subscribe(),
            initial_resource_versions: held.versions.clone().into_iter().collect(),
            ..DeltaDiscoveryRequest::default()
        })
    }
}

// === a response's contents ===

/// The resources and removals of a response, and the names that it contradicts itself about.
struct Batch {
    resources: Vec<Resource>,
    removed: BTreeSet<String>,
    twice: HashSet<String>,
}

impl Batch {
    fn new(mut resources: Vec<Resource>, removed: impl Iterator<Item = String>) -> Self {
        let removed: BTreeSet<String> = removed.collect();
        let mut seen = HashSet::new();
        let mut twice = HashSet::new();
        for resource in &mut resources {
            if let (true, Some(locator)) = (resource.name.is_empty(), resource.resource_name.take()) {
                resource.name = locator.name;
            }
            let name = &resource.name;
            if !name.is_empty() && (removed.contains(name) || !seen.insert(name.clone())) {
                twice.insert(name.clone());
            }
        }
        Self { resources, removed, twice }
    }

    fn apply<T>(
        self,
        held: &mut Held,
        outcome: &mut Outcome<T>,
        validate: &mut impl FnMut(&str, &str, Any) -> Result<T, String>,
    ) {
        let Self { resources, removed, twice } = self;
        let mut reported = HashSet::new();
        for (index, resource) in resources.into_iter().enumerate() {
            let Resource { name, version, resource: body, .. } = resource;
            if name.is_empty() {
                let rejected =
                    Rejected { name: format!("resources[{index}]"), version, reason: "no name".into() };
                outcome.rejected.push(rejected);
                continue;
            }
            // The protocol allows resources that were not asked for, or no longer are; they are nobody's fault.
            if !held.interest.covers(&name) {
                continue;
            }
            let value = if twice.contains(&name) {
                if !reported.insert(name.clone()) {
                    continue;
                }
                Err("named more than once in one response".to_owned())
            } else if body.is_none() && held.versions.get(&name) == Some(&version) {
                // A heartbeat: renews a time to live, which we do not use, and changes nothing.
                continue;
            } else {
                open(&outcome.type_url, body).and_then(|any| validate(&outcome.type_url, &name, any))
            };
            match value {
                Ok(value) => {
                    held.rejected.remove(&name);
                    held.versions.insert(name.clone(), version.clone());
                    outcome.events.push(Event::Updated { name, version, value });
                }
                Err(reason) => {
                    let reason = nack::cut(&reason).to_owned();
                    let rejected = Rejected { name: name.clone(), version, reason };
                    held.rejected.insert(name, rejected.clone());
                    outcome.rejected.push(rejected);
                }
            }
        }
        for name in removed {
            if held.interest.covers(&name) && !twice.contains(&name) {
                held.versions.remove(&name);
                held.rejected.remove(&name);
                outcome.events.push(Event::Removed { name });
            }
        }
    }
}

/// The body of a resource, if there is one and it is of the response's type.
fn open(type_url: &str, body: Option<Any>) -> Result<Any, String> {
    match body {
        Some(any) if any.type_url == type_url => Ok(any),
        Some(any) => Err(format!("a {:?} in a response for {type_url:?}", nack::cut(&any.type_url))),
        None => Err("no resource inside".to_owned()),
    }
}
