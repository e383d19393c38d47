// SPDX-License-Identifier: Apache-2.0
//! Tier 1: client and server driven against each other, with lost streams, rejected resources, changes of content and
//! of interest, and any interleaving of messages across types.
//!
//! What is proved, for every schedule: once the faults stop, the pair falls silent (no loop), the client holds exactly
//! the content that it accepts (nothing lost, nothing left over), and a reconnect resends nothing that it holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use envoy_types::pb::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use evenkeel_xds::{
    DeltaClient, DeltaSession, EncodedResource, Event, Interest, Limits, ResourceSource, Response, Version,
    type_url::{CLUSTER_LOAD_ASSIGNMENT, SERVICE},
};
use proptest::{prelude::*, sample::select};

const TYPES: [&str; 2] = [SERVICE, CLUSTER_LOAD_ASSIGNMENT];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// More messages than any schedule below needs to settle; a pair that is still talking then is looping.
const SETTLE: usize = 2000;

/// Content that starts with '!' is refused by the client.
fn is_bad(content: &str) -> bool {
    content.starts_with('!')
}

#[derive(Debug, Default, Clone)]
struct World(BTreeMap<(&'static str, &'static str), String>);

impl ResourceSource for World {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        let (key, content) = self.0.iter().find(|((t, n), _)| *t == type_url && *n == name)?;
        Some(EncodedResource::new(key.0, key.1, content))
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        for ((t, n), content) in &self.0 {
            if *t == type_url {
                visit(&EncodedResource::new(t, *n, content));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Set or remove content; the server is told what changed.
    Change(&'static str, &'static str, Option<String>),
    /// The same, and the server compares everything.
    Sweep(&'static str, &'static str, Option<String>),
    /// Change what the client wants.
    Want(&'static str, Option<BTreeSet<&'static str>>),
    /// Deliver the oldest request, or response, of a type.
    ToServer(usize),
    ToClient(usize),
    /// Lose the stream with everything on it, then open another.
    Drop,
}

struct Pair {
    world: World,
    limits: Limits,
    client: DeltaClient,
    server: DeltaSession<World>,
    interest: BTreeMap<&'static str, Interest>,
    /// The client's application: what is in force.
    applied: BTreeMap<(String, String), String>,
    requests: [VecDeque<DeltaDiscoveryRequest>; 2],
    responses: [VecDeque<DeltaDiscoveryResponse>; 2],
    /// Names of resources sent since the last reset.
    sent: Vec<(String, String)>,
}

impl Pair {
    fn new(response_bytes: usize) -> Self {
        let limits = Limits { response_bytes, ..Limits::default() };
        let mut pair = Self {
            world: World::default(),
            client: DeltaClient::new(Node { id: "n1".into(), ..Node::default() }),
            server: DeltaSession::new(limits.clone(), World::default()),
            limits,
            interest: BTreeMap::new(),
            applied: BTreeMap::new(),
            requests: Default::default(),
            responses: Default::default(),
            sent: Vec::new(),
        };
        pair.want(SERVICE, Interest::Wildcard);
        pair.reconnect();
        pair
    }

    fn queue_requests(&mut self, requests: impl IntoIterator<Item = DeltaDiscoveryRequest>) {
        for request in requests {
            let lane = TYPES.iter().position(|t| *t == request.type_url).unwrap();
            self.requests[lane].push_back(request);
        }
    }

    fn queue_responses(&mut self, responses: Vec<Response>) {
        for response in responses.iter().map(Response::to_delta) {
            let lane = TYPES.iter().position(|t| *t == response.type_url).unwrap();
            self.sent.extend(response.resources.iter().map(|r| (response.type_url.clone(), r.name.clone())));
            self.responses[lane].push_back(response);
            // One unacknowledged response per type is the bound on memory.
            assert!(self.responses[lane].len() <= 1, "two unacknowledged responses for {}", TYPES[lane]);
        }
    }

    fn want(&mut self, type_url: &'static str, interest: Interest) {
        self.interest.insert(type_url, interest.clone());
        let change = self.client.subscribe(type_url, interest);
        for name in change.dropped {
            self.applied.remove(&(type_url.to_owned(), name));
        }
        self.queue_requests(change.request);
    }

    fn reconnect(&mut self) {
        self.client.on_disconnected();
        self.requests = Default::default();
        self.responses = Default::default();
        self.server = DeltaSession::new(self.limits.clone(), self.world.clone());
        let requests = self.client.on_connected();
        self.queue_requests(requests);
    }

    fn deliver_request(&mut self, lane: usize) -> bool {
        let Some(request) = self.requests[lane].pop_front() else { return false };
        let responses = self.server.on_request(request).unwrap();
        self.queue_responses(responses);
        true
    }

    fn deliver_response(&mut self, lane: usize) -> bool {
        let Some(response) = self.responses[lane].pop_front() else { return false };
        let outcome = self.client.on_response(response, |_, _, any| {
            let content = String::from_utf8(any.value).unwrap();
            if is_bad(&content) { Err(format!("bad content {content:?}")) } else { Ok(content) }
        });
        for event in outcome.events {
            match event {
                Event::Updated { name, version, value } => {
                    assert_eq!(version, Version::of(value.as_bytes()).to_string());
                    self.applied.insert((outcome.type_url.clone(), name), value);
                }
                Event::Removed { name } => {
                    self.applied.remove(&(outcome.type_url.clone(), name));
                }
            }
        }
        self.queue_requests(outcome.reply);
        true
    }

    fn change(&mut self, type_url: &'static str, name: &'static str, content: Option<String>, sweep: bool) {
        match content {
            Some(content) => self.world.0.insert((type_url, name), content),
            None => self.world.0.remove(&(type_url, name)),
        };
        let responses = if sweep {
            self.server.on_update(&self.world)
        } else {
            self.server.on_changes(&[(type_url, &[name.into()][..])], &self.world)
        };
        self.queue_responses(responses);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(type_url, name, content) => self.change(type_url, name, content, false),
            Step::Sweep(type_url, name, content) => self.change(type_url, name, content, true),
            Step::Want(type_url, None) => self.want(type_url, Interest::Wildcard),
            Step::Want(type_url, Some(names)) => {
                let names = names.into_iter().map(str::to_owned).collect();
                self.want(type_url, Interest::Names(names));
            }
            Step::ToServer(lane) => {
                self.deliver_request(lane);
            }
            Step::ToClient(lane) => {
                self.deliver_response(lane);
            }
            Step::Drop => self.reconnect(),
        }
    }

    /// Delivers everything until both ends are silent.
    fn settle(&mut self) {
        for _ in 0..SETTLE {
            let moved = (0..2).any(|lane| self.deliver_request(lane) || self.deliver_response(lane));
            if !moved {
                assert!(self.server.in_sync(), "silent, but the server has more to tell");
                return;
            }
        }
        panic!("still talking after {SETTLE} messages");
    }

    /// The client holds what the server has and the client accepts.
    fn check(&self) {
        for type_url in TYPES {
            let interest = self.interest.get(type_url).cloned().unwrap_or_default();
            for name in NAMES {
                let applied = self.applied.get(&(type_url.to_owned(), name.to_owned()));
                let content = self.world.0.get(&(type_url, name)).filter(|_| interest.covers(name));
                let rejected = self.client.rejections().any(|(t, r)| t == type_url && r.name == name);
                match content {
                    Some(content) if is_bad(content) => {
                        // What was good before stays in force; both ends know what is wrong.
                        assert!(applied.is_none_or(|held| !is_bad(held)));
                        assert!(rejected, "{name} was not rejected");
                        let known =
                            self.server.rejections().find(|r| r.type_url == type_url && r.name == name);
                        assert!(
                            known.is_some_and(|r| r.reason.contains(content.as_str())),
                            "{name} is not known as rejected"
                        );
                    }
                    _ => {
                        assert_eq!(applied, content, "{type_url} {name}");
                        assert!(!rejected);
                    }
                }
                let version =
                    self.client.versions(type_url).find(|(n, _)| *n == name).map(|(_, v)| v.to_owned());
                assert_eq!(version, applied.map(|c| Version::of(c.as_bytes()).to_string()));
            }
        }
    }
}

fn content() -> impl Strategy<Value = Option<String>> {
    // Few values, so that content often returns to what it was.
    select(vec![None, Some("one"), Some("two"), Some("!bad"), Some("!worse")])
        .prop_map(|c| c.map(str::to_owned))
}

fn step() -> impl Strategy<Value = Step> {
    let (types, names) = (select(&TYPES[..]), select(&NAMES[..]));
    prop_oneof![
        4 => (types.clone(), names.clone(), content()).prop_map(|(t, n, c)| Step::Change(t, n, c)),
        2 => (types.clone(), names, content()).prop_map(|(t, n, c)| Step::Sweep(t, n, c)),
        2 => (types, prop::option::weighted(0.7, prop::collection::btree_set(select(&NAMES[..]), 0..5)))
            .prop_map(|(t, n)| Step::Want(t, n)),
        6 => (0usize..2).prop_map(Step::ToServer),
        6 => (0usize..2).prop_map(Step::ToClient),
        1 => Just(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_converges_and_resumes_without_resending(
        steps in prop::collection::vec(step(), 0..60),
        response_bytes in select(vec![1usize, 300, 1 << 20]),
    ) {
        let mut pair = Pair::new(response_bytes);
        for step in steps {
            pair.step(step);
        }
        pair.settle();
        pair.check();

        pair.sent.clear();
        pair.reconnect();
        pair.settle();
        pair.check();
        for (type_url, name) in &pair.sent {
            let rejected = pair.client.rejections().any(|(t, r)| t == type_url && r.name == *name);
            prop_assert!(rejected, "{} was sent again though the client holds it", name);
        }
    }
}

#[test]
fn what_is_gone_while_disconnected_is_told_after_the_reconnect() {
    let mut pair = Pair::new(1 << 20);
    pair.want(CLUSTER_LOAD_ASSIGNMENT, Interest::Names(["a".to_owned(), "b".to_owned()].into()));
    for (type_url, name) in
        [(SERVICE, "a"), (SERVICE, "b"), (CLUSTER_LOAD_ASSIGNMENT, "a"), (CLUSTER_LOAD_ASSIGNMENT, "b")]
    {
        pair.change(type_url, name, Some("one".into()), false);
    }
    pair.settle();
    assert_eq!(pair.applied.len(), 4);

    pair.client.on_disconnected();
    pair.world.0.remove(&(SERVICE, "a"));
    pair.world.0.remove(&(CLUSTER_LOAD_ASSIGNMENT, "b"));
    pair.sent.clear();
    pair.reconnect();
    pair.settle();
    pair.check();
    assert_eq!(pair.applied.len(), 2);
    assert!(pair.sent.is_empty());
}

#[test]
fn a_rejected_resource_is_not_repeated_until_its_content_changes() {
    let mut pair = Pair::new(1 << 20);
    pair.change(SERVICE, "a", Some("one".into()), false);
    pair.change(SERVICE, "b", Some("!bad".into()), false);
    pair.settle();
    pair.sent.clear();
    for _ in 0..5 {
        let responses = pair.server.on_update(&pair.world);
        pair.queue_responses(responses);
        pair.settle();
    }
    assert!(pair.sent.is_empty(), "{:?}", pair.sent);
    pair.change(SERVICE, "b", Some("two".into()), true);
    pair.settle();
    pair.check();
    assert_eq!(pair.sent, [(SERVICE.to_owned(), "b".to_owned())]);
    assert_eq!(pair.server.rejections().count(), 0);
}

#[test]
fn changes_while_a_response_is_unacknowledged_become_one() {
    let mut pair = Pair::new(1 << 20);
    pair.settle();
    pair.sent.clear();
    pair.change(SERVICE, "a", Some("0".into()), false);
    for round in 1..100 {
        pair.change(SERVICE, "a", Some(round.to_string()), false);
        pair.change(SERVICE, "b", Some(round.to_string()), true);
    }
    pair.settle();
    pair.check();
    assert_eq!(pair.sent.len(), 3, "a, then a and b once more: {:?}", pair.sent);
}
