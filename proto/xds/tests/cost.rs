// SPDX-License-Identifier: Apache-2.0
//! Tier 1: what a client costs that is in sync: memory while nothing happens, and work when one of many resources
//! changes. Alone in its process, because memory is read from the process as a whole.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use evenkeel_xds::{
    DeltaSession, EncodedResource, Limits, ResourceSource, Response, SotwSession,
    server::{Session, Variant},
    type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT, SERVICE},
};

const SERVICES: usize = 1000;
const CLIENTS: usize = 200;
/// Of the 50 KB that an idle client may cost in all, most has to be left to its connection.
const ALLOWED: usize = 24 << 10;

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

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// A client that has acknowledged everything.
fn in_sync<V: Variant>(
    world: &World,
    types: &[&'static str],
    request: impl Fn(&str, &str) -> V::Request,
) -> Session<World, V> {
    let mut session = Session::new(Limits::default(), world.clone());
    for type_url in types {
        let mut responses = session.on_request(request(type_url, "")).unwrap();
        while let Some(response) = responses.pop() {
            responses.extend(session.on_request(request(&response.type_url, &response.nonce)).unwrap());
        }
    }
    assert!(session.in_sync());
    session
}

/// An agent: all Services, endpoints by name.
fn agent(world: &World) -> DeltaSession<World> {
    in_sync(world, &[SERVICE, CLUSTER_LOAD_ASSIGNMENT], |type_url, nonce| DeltaDiscoveryRequest {
        type_url: type_url.into(),
        resource_names_subscribe: match (type_url, nonce) {
            (CLUSTER_LOAD_ASSIGNMENT, "") => (0..SERVICES).map(name).collect(),
            _ => Vec::new(),
        },
        response_nonce: nonce.into(),
        ..DeltaDiscoveryRequest::default()
    })
}

/// Envoy: all clusters, endpoints by name.
fn envoy(world: &World) -> SotwSession<World> {
    in_sync(world, &[CLUSTER, CLUSTER_LOAD_ASSIGNMENT], |type_url, nonce| DiscoveryRequest {
        type_url: type_url.into(),
        resource_names: match type_url {
            CLUSTER_LOAD_ASSIGNMENT => (0..SERVICES).map(name).collect(),
            _ => Vec::new(),
        },
        response_nonce: nonce.into(),
        ..DiscoveryRequest::default()
    })
}

/// Bytes per client, and microseconds that one client's part of a change costs. The clients are returned, because what
/// they leave behind would hide what the next ones take.
fn measure<V: Variant>(make: impl Fn(&World) -> Session<World, V>) -> (usize, f64, Vec<Session<World, V>>) {
    let before_change = world("one");
    // What the first one needs for a moment the allocator keeps for the others.
    let _warm = make(&before_change);
    let before = resident();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| make(&before_change)).collect();
    let bytes = resident().saturating_sub(before) / CLIENTS;

    let after_change = world("two");
    let changes = [(CLUSTER_LOAD_ASSIGNMENT, &[name(0).into()][..])];
    for world in [&before_change, &after_change] {
        world.0.looks.store(0, Relaxed);
    }
    let began = Instant::now();
    let mut out = Vec::new();
    for client in &mut clients {
        let responses: Vec<Response> = client.on_changes(&changes, &after_change);
        let [response] = &responses[..] else { panic!("{} responses", responses.len()) };
        assert_eq!(response.resources.len(), 1);
        out.clear();
        V::encode(response, &mut out);
    }
    let micros = began.elapsed().as_secs_f64() * 1e6 / CLIENTS as f64;
    // What was told, what is to be told, and the content: whatever the number of Services.
    let looks = before_change.0.looks.load(Relaxed) + after_change.0.looks.load(Relaxed);
    assert_eq!(looks, 3 * CLIENTS, "{looks} looks at resources for {CLIENTS} clients");
    (bytes, micros, clients)
}

fn check(kind: &str, bytes: usize, micros: f64) {
    println!("{kind}: {bytes} bytes per client, {micros:.1} us per client and change");
    assert!(bytes <= ALLOWED, "{kind}: {bytes} bytes per client");
}

#[test]
fn a_client_in_sync_costs_its_names_and_a_change_costs_what_changed() {
    let (bytes, micros, _agents) = measure(agent);
    check("agent, delta", bytes, micros);
    let (bytes, micros, _gateways) = measure(envoy);
    check("Envoy, sotw", bytes, micros);
}
