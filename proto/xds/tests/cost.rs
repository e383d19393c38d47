// SPDX-License-Identifier: Apache-2.0
//! Tier 1: what clients cost that come all at once, want the same and then are in sync: memory, and work when one of many
//! resources changes. All of it is counted, not timed, so that it is the same on every machine.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use evenkeel_xds::{
    EncodedResource, Limits, ResourceSource, Response,
    server::{Delta, NamePool, Session, StateOfTheWorld, Variant},
    type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT, SERVICE},
};

#[path = "cost/alloc.rs"]
mod alloc;

const SERVICES: usize = 1000;
const CLIENTS: usize = 100;
/// What discovery cuts responses to, so that clients learn of names piece by piece.
const RESPONSE_BYTES: usize = 64 << 10;
/// Bytes that a client in sync may hold: of the 50 KB that it may cost in all, nearly all is left to its connection.
const HELD: usize = 1500;
/// Bytes per client that may be held at once while all clients sync at the same time.
const PEAK: usize = 64 << 10;
/// Allocations for one change, the response to it and the acknowledgement.
const ALLOCATIONS: u64 = 2;

#[derive(Default)]
struct Inner {
    types: HashMap<&'static str, HashMap<Arc<str>, EncodedResource>>,
    looks: AtomicUsize,
}

/// Counts how often it is looked at.
#[derive(Clone, Default)]
struct World(Arc<Inner>);

impl ResourceSource for World {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        self.0.looks.fetch_add(1, Relaxed);
        self.0.types.get(type_url)?.get(name).cloned()
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        self.0.looks.fetch_add(SERVICES, Relaxed);
        self.0.types.get(type_url).into_iter().flat_map(HashMap::values).for_each(visit);
    }
}

impl World {
    /// Looks since the last call.
    fn looks(&self) -> usize {
        self.0.looks.swap(0, Relaxed)
    }
}

fn name(number: usize) -> String {
    format!("service-{number}.some-namespace.svc.cluster.local:8080")
}

fn world(first: &str) -> World {
    let mut types = HashMap::new();
    for type_url in [SERVICE, CLUSTER, CLUSTER_LOAD_ASSIGNMENT] {
        let all = (0..SERVICES).map(|number| {
            let content = if number == 0 { first } else { "endpoints" };
            let resource = EncodedResource::new(type_url, name(number), content.repeat(20));
            (resource.name().clone(), resource)
        });
        types.insert(type_url, all.collect());
    }
    World(Arc::new(Inner { types, ..Inner::default() }))
}

/// What a client of a variant asks for: everything of one type, and endpoints by the names of what it has got.
trait Asks: Variant {
    const ALL: &'static str;

    /// The first request.
    fn all() -> Self::Request;

    /// The requests that follow a response; `known` is all that the client has learnt of.
    fn next(response: &Response, known: &mut Vec<Arc<str>>) -> Vec<Self::Request>;
}

/// An agent: acknowledges, and asks for the endpoints of the Services that are new to it.
impl Asks for Delta {
    const ALL: &'static str = SERVICE;

    fn all() -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest { type_url: SERVICE.into(), ..DeltaDiscoveryRequest::default() }
    }

    fn next(response: &Response, _: &mut Vec<Arc<str>>) -> Vec<DeltaDiscoveryRequest> {
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url.to_string(),
            response_nonce: response.nonce.to_string(),
            ..DeltaDiscoveryRequest::default()
        };
        let endpoints = (*response.type_url == *SERVICE).then(|| DeltaDiscoveryRequest {
            type_url: CLUSTER_LOAD_ASSIGNMENT.into(),
            resource_names_subscribe: response.resources.iter().map(|r| r.name().to_string()).collect(),
            ..DeltaDiscoveryRequest::default()
        });
        endpoints.into_iter().chain([acknowledgement]).collect()
    }
}

/// Envoy: the same of clusters, and each request repeats all names.
impl Asks for StateOfTheWorld {
    const ALL: &'static str = CLUSTER;

    fn all() -> DiscoveryRequest {
        DiscoveryRequest { type_url: CLUSTER.into(), ..DiscoveryRequest::default() }
    }

    fn next(response: &Response, known: &mut Vec<Arc<str>>) -> Vec<DiscoveryRequest> {
        let request = |type_url: &str, nonce: &str, known: &[Arc<str>]| DiscoveryRequest {
            type_url: type_url.into(),
            resource_names: known.iter().map(|name| name.to_string()).collect(),
            response_nonce: nonce.into(),
            ..DiscoveryRequest::default()
        };
        if *response.type_url == *CLUSTER {
            known.extend(response.resources.iter().map(|r| r.name().clone()));
            let endpoints = request(CLUSTER_LOAD_ASSIGNMENT, "", known);
            return vec![request(CLUSTER, &response.nonce, &[]), endpoints];
        }
        vec![request(&response.type_url, &response.nonce, known)]
    }
}

struct Client<V> {
    session: Session<World, V>,
    known: Vec<Arc<str>>,
    unanswered: VecDeque<Response>,
    /// Allocations by the session.
    asked: u64,
}

impl<V: Asks> Client<V> {
    fn new(world: &World, pool: &NamePool) -> Self {
        let limits = Limits { response_bytes: RESPONSE_BYTES, ..Limits::default() };
        let session = Session::new(limits, world.clone()).sharing(pool);
        let mut client = Self { session, known: Vec::new(), unanswered: VecDeque::new(), asked: 0 };
        client.send(V::all());
        client
    }

    fn send(&mut self, request: V::Request) {
        let before = alloc::asked();
        let responses = self.session.on_request(request).unwrap();
        self.asked += alloc::asked() - before;
        self.unanswered.extend(responses);
    }

    /// Answers one response, if there is one.
    fn step(&mut self) -> bool {
        let Some(response) = self.unanswered.pop_front() else { return false };
        for request in V::next(&response, &mut self.known) {
            self.send(request);
        }
        true
    }
}

/// Clients that have acknowledged everything. They go in step, as those of a server that was restarted do.
fn crowd<V: Asks>(world: &World, pool: &NamePool, count: usize) -> Vec<Client<V>> {
    let mut clients: Vec<_> = (0..count).map(|_| Client::new(world, pool)).collect();
    while clients.iter_mut().fold(false, |any, client| client.step() | any) {}
    for client in &mut clients {
        assert!(client.session.in_sync());
        let report = client.session.report();
        assert!(report.types.iter().all(|t| t.told.len() == SERVICES), "{report:?}");
        (client.known, client.unanswered) = (Vec::new(), VecDeque::new());
    }
    clients
}

/// What `work` leaves behind and what it takes meanwhile, in bytes per client.
fn bytes<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let before = alloc::held();
    alloc::peak();
    let made = work();
    let per_client = |bytes: i64| usize::try_from(bytes - before).unwrap_or(0) / CLIENTS;
    (made, per_client(alloc::held()), per_client(alloc::peak()))
}

fn measure<V: Asks>() {
    let before = world("one");
    let pool = NamePool::default();
    // The lists of names belong to no client.
    let first = crowd::<V>(&before, &pool, 1);
    let (mut clients, held, peak) = bytes(|| crowd::<V>(&before, &pool, CLIENTS));
    println!(
        "{}: {held} bytes per client in sync, {peak} while syncing; allocations of a first sync: {} and {} more",
        V::NAME,
        first[0].asked,
        clients[0].asked,
    );
    assert!(held <= HELD, "{}: {held} bytes per client in sync", V::NAME);
    assert!(peak <= PEAK, "{}: {peak} bytes per client while all sync", V::NAME);

    let after = world("two");
    let changes = [(CLUSTER_LOAD_ASSIGNMENT, &[name(0).into()][..])];
    let everything: Vec<Arc<str>> = (0..SERVICES).map(|number| name(number).into()).collect();
    let (mut asked, mut answered) = (0, 0);
    for client in &mut clients {
        before.looks();
        after.looks();
        let so_far = alloc::asked();
        let mut responses = client.session.on_changes(&changes, &after);
        asked = alloc::asked() - so_far;
        let response = responses.pop().unwrap();
        assert!(responses.is_empty() && response.resources.len() == 1);
        // What was told and what is to be told: whatever the number of Services.
        assert_eq!((before.looks(), after.looks()), (1, 1), "looks at the old view and the new");
        client.known.clone_from(&everything);
        client.asked = 0;
        client.unanswered.push_back(response);
        assert!(client.step() && client.unanswered.is_empty() && client.session.in_sync());
        assert_eq!((before.looks(), after.looks()), (0, 0), "looks for an acknowledgement");
        answered = client.asked;
        assert!(asked + answered <= ALLOCATIONS, "{asked} allocations, {answered} for the acknowledgement");
    }
    println!("{}: {asked} allocations for a change, {answered} for its acknowledgement", V::NAME);
    // Named as changed and the same, or of no interest to the client.
    let same = [(CLUSTER_LOAD_ASSIGNMENT, &everything[..]), (V::ALL, &everything[..])];
    let other = [(CLUSTER_LOAD_ASSIGNMENT, &["other".into()][..])];
    let asked = alloc::asked();
    assert_eq!(clients[0].session.on_changes(&same, &after), []);
    before.looks();
    after.looks();
    assert_eq!(clients[0].session.on_changes(&other, &after), []);
    assert_eq!((before.looks(), after.looks()), (0, 0), "looks at what nobody has asked for");
    assert_eq!(alloc::asked() - asked, 0, "allocations for nothing");
}

#[test]
fn a_client_in_sync_costs_its_names_and_a_change_costs_what_changed() {
    measure::<Delta>();
    measure::<StateOfTheWorld>();
}
