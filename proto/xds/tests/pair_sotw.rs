// SPDX-License-Identifier: Apache-2.0
//! Tier 1: a state-of-the-world client, as small as the protocol allows, driven against the server with lost streams,
//! rejected resources, changes of content and of interest, and any interleaving of the two directions.
//!
//! What is proved, for every schedule: once the faults stop, the pair falls silent (no loop), the client holds the
//! content that it accepts, and every cluster that changed was followed by its endpoints (Envoy waits for them).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use envoy_types::pb::{
    envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    google::rpc::Status,
};
use evenkeel_xds::{
    EncodedResource, Limits, ResourceSource, Response, SotwSession,
    type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT},
};
use proptest::{prelude::*, sample::select};

const TYPES: [&str; 2] = [CLUSTER, CLUSTER_LOAD_ASSIGNMENT];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const SETTLE: usize = 2000;

/// Content is `NAME=VALUE`, as real resources carry their names; a value that starts with '!' is refused.
fn is_bad(content: &str) -> bool {
    content.contains("=!")
}

fn name_of(content: &str) -> &str {
    content.split('=').next().unwrap()
}

#[derive(Debug, Default, Clone)]
struct World(BTreeMap<(&'static str, &'static str), String>);

impl ResourceSource for World {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        let (key, content) = self.0.iter().find(|((t, n), _)| *t == type_url && *n == name)?;
        Some(EncodedResource::new(key.0, key.1, content))
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        for ((t, n), content) in self.0.iter().filter(|((t, _), _)| *t == type_url) {
            visit(&EncodedResource::new(t, *n, content));
        }
    }
}

/// `None`: all.
type Want = Option<BTreeSet<&'static str>>;

/// One type on one stream, from the client's side.
#[derive(Default)]
struct Lane {
    want: Want,
    opened: bool,
    nonce: String,
    version: String,
    applied: BTreeMap<String, String>,
    rejected: BTreeSet<String>,
}

#[derive(Debug, Clone)]
enum Step {
    Change(usize, &'static str, Option<&'static str>),
    Sweep(usize, &'static str, Option<&'static str>),
    Want(usize, Want),
    ToServer,
    ToClient,
    Drop,
}

struct Pair {
    world: World,
    limits: Limits,
    server: SotwSession<World>,
    lanes: [Lane; 2],
    /// The stream, which keeps the order of messages.
    requests: VecDeque<DiscoveryRequest>,
    responses: VecDeque<DiscoveryResponse>,
    /// Clusters that the client has taken and whose endpoints have not come since.
    warming: BTreeSet<String>,
}

impl Lane {
    fn covers(&self, name: &str) -> bool {
        self.want.as_ref().is_none_or(|names| names.contains(name))
    }

    fn request(&mut self, lane: usize, error: Option<Status>) -> Option<DiscoveryRequest> {
        let names: Vec<String> = match &self.want {
            None => vec!["*".into()],
            Some(names) => names.iter().map(|name| (*name).into()).collect(),
        };
        // An empty first request would ask for everything.
        if !self.opened && names.is_empty() {
            return None;
        }
        self.opened = true;
        Some(DiscoveryRequest {
            version_info: self.version.clone(),
            resource_names: names,
            type_url: TYPES[lane].into(),
            response_nonce: self.nonce.clone(),
            error_detail: error,
            ..DiscoveryRequest::default()
        })
    }
}

impl Pair {
    fn new(response_bytes: usize) -> Self {
        let limits = Limits { response_bytes, ..Limits::default() };
        let server = SotwSession::new(limits.clone(), World::default());
        let mut pair = Self {
            world: World::default(),
            limits,
            server,
            lanes: Default::default(),
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            warming: BTreeSet::new(),
        };
        pair.lanes[1].want = Some(BTreeSet::new());
        pair.reconnect();
        pair
    }

    fn reconnect(&mut self) {
        self.server = SotwSession::new(self.limits.clone(), self.world.clone());
        self.requests.clear();
        self.responses.clear();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.nonce.clear();
            lane.opened = false;
            self.requests.extend(lane.request(index, None));
        }
    }

    fn want(&mut self, lane: usize, want: Want) {
        let state = &mut self.lanes[lane];
        if state.want == want {
            return;
        }
        state.want = want;
        let Lane { want, applied, rejected, .. } = state;
        let covers = |name: &str| want.as_ref().is_none_or(|names| names.contains(name));
        applied.retain(|name, _| covers(name));
        rejected.retain(|name| covers(name));
        if lane == 1 {
            self.warming.retain(|name| covers(name));
        }
        self.requests.extend(self.lanes[lane].request(lane, None));
    }

    fn change(&mut self, lane: usize, name: &'static str, value: Option<&str>, sweep: bool) {
        let key = (TYPES[lane], name);
        match value {
            Some(value) => self.world.0.insert(key, format!("{name}={value}")),
            None => self.world.0.remove(&key),
        };
        let responses = match sweep {
            true => self.server.on_update(&self.world),
            false => self.server.on_changes(&[(TYPES[lane], &[name.into()][..])], &self.world),
        };
        self.queue(responses);
    }

    fn queue(&mut self, responses: Vec<Response>) {
        for response in responses.iter().map(Response::to_sotw) {
            let twice = self.responses.iter().any(|other| other.type_url == response.type_url);
            assert!(!twice, "two unacknowledged responses for {}", response.type_url);
            self.responses.push_back(response);
        }
    }

    fn deliver_request(&mut self) -> bool {
        let Some(request) = self.requests.pop_front() else { return false };
        let responses = self.server.on_request(request).unwrap();
        self.queue(responses);
        true
    }

    fn deliver_response(&mut self) -> bool {
        let Some(response) = self.responses.pop_front() else { return false };
        let lane = TYPES.iter().position(|t| *t == response.type_url).unwrap();
        let state = &mut self.lanes[lane];
        let mut bad = Vec::new();
        let mut there = BTreeSet::new();
        for any in response.resources {
            let content = String::from_utf8(any.value).unwrap();
            let name = name_of(&content).to_owned();
            if !state.covers(&name) {
                continue;
            }
            assert!(there.insert(name.clone()), "{name} twice in one response");
            if is_bad(&content) {
                bad.push(name.clone());
                state.rejected.insert(name);
                continue;
            }
            state.rejected.remove(&name);
            let before = state.applied.insert(name.clone(), content.clone());
            match lane {
                0 if before.as_ref() != Some(&content) => drop(self.warming.insert(name)),
                0 => {}
                _ => drop(self.warming.remove(&name)),
            }
        }
        if lane == 0 {
            state.applied.retain(|name, _| there.contains(name));
            state.rejected.retain(|name| there.contains(name));
            // A cluster that is gone waits for nothing.
            self.warming.retain(|name| there.contains(name));
        }
        state.nonce = response.nonce;
        let error = (!bad.is_empty()).then(|| Status { message: bad.join(","), ..Status::default() });
        if error.is_none() {
            state.version = response.version_info;
        }
        self.requests.extend(self.lanes[lane].request(lane, error));
        true
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(lane, name, value) => self.change(lane, name, value, false),
            Step::Sweep(lane, name, value) => self.change(lane, name, value, true),
            Step::Want(lane, want) => self.want(lane, want),
            Step::ToServer => drop(self.deliver_request()),
            Step::ToClient => drop(self.deliver_response()),
            Step::Drop => self.reconnect(),
        }
    }

    fn settle(&mut self) {
        for _ in 0..SETTLE {
            if !self.deliver_request() && !self.deliver_response() {
                assert!(self.server.in_sync(), "silent, but the server has more to tell");
                return;
            }
        }
        panic!("still talking after {SETTLE} messages");
    }

    fn check(&self) {
        for (lane, type_url) in TYPES.into_iter().enumerate() {
            let state = &self.lanes[lane];
            for name in NAMES {
                let applied = state.applied.get(name);
                match self.world.0.get(&(type_url, name)).filter(|_| state.covers(name)) {
                    Some(content) if is_bad(content) => {
                        assert!(state.rejected.contains(name), "{name} was not rejected");
                        let known =
                            self.server.rejections().any(|r| r.type_url == type_url && r.name == name);
                        assert!(known, "{name} is not known as rejected");
                    }
                    Some(content) => assert_eq!(applied, Some(content), "{type_url} {name}"),
                    // That endpoints are gone cannot be told.
                    None if lane == 0 => assert_eq!(applied, None, "{type_url} {name}"),
                    None => {}
                }
            }
        }
        let endpoints = &self.lanes[1];
        for name in &self.warming {
            let there = self.world.0.iter().find(|((t, n), _)| *t == TYPES[1] && n == name);
            let waits = endpoints.covers(name) && there.is_some_and(|(_, content)| !is_bad(content));
            assert!(!waits, "cluster {name} waits for its endpoints");
        }
    }
}

fn value() -> impl Strategy<Value = Option<&'static str>> {
    select(vec![None, Some("one"), Some("two"), Some("!bad")])
}

fn step() -> impl Strategy<Value = Step> {
    let name = || select(&NAMES[..]);
    let names = || prop::collection::btree_set(name(), 0..5);
    prop_oneof![
        4 => (0usize..2, name(), value()).prop_map(|(l, n, v)| Step::Change(l, n, v)),
        2 => (0usize..2, name(), value()).prop_map(|(l, n, v)| Step::Sweep(l, n, v)),
        2 => names().prop_map(|names| Step::Want(1, Some(names))),
        1 => prop::option::weighted(0.6, names()).prop_map(|want| Step::Want(0, want)),
        6 => Just(Step::ToServer),
        6 => Just(Step::ToClient),
        1 => Just(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_converges(
        steps in prop::collection::vec(step(), 0..60),
        response_bytes in select(vec![1usize, 1 << 20]),
    ) {
        let mut pair = Pair::new(response_bytes);
        for step in steps {
            pair.step(step);
        }
        pair.settle();
        pair.check();
        // Nothing has changed, so nothing is said.
        let responses = pair.server.on_update(&pair.world);
        prop_assert_eq!(responses, vec![]);
        pair.reconnect();
        pair.settle();
        pair.check();
    }
}
