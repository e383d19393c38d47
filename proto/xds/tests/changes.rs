// SPDX-License-Identifier: Apache-2.0
//! Tier 1: the short ways say what the long ways say. A client is told of changes by name as if everything had been
//! compared, and an acknowledgement that is read where it lies counts as one that was decoded.

use std::{collections::BTreeMap, sync::Arc};

use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    google::rpc::Status,
};
use evenkeel_xds::{
    EncodedResource, Limits, ResourceSource, Response,
    server::{Delta, Session, StateOfTheWorld, Variant},
    type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT, SERVICE},
};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    sample::{select, subsequence},
};
use prost::Message as _;

const TYPES: [&str; 3] = [SERVICE, CLUSTER, CLUSTER_LOAD_ASSIGNMENT];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Content by name; the same for all types.
#[derive(Debug, Clone, Default)]
struct Content(Arc<BTreeMap<&'static str, u8>>);

impl ResourceSource for Content {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        let (name, content) = self.0.get_key_value(name)?;
        let type_url = TYPES.into_iter().find(|known| *known == type_url)?;
        Some(EncodedResource::new(type_url, *name, vec![*content; 100]))
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        self.0.keys().for_each(|name| self.get(type_url, name).iter().for_each(&mut *visit));
    }
}

trait Asks: Variant {
    fn request(type_url: &str, names: &[&str], nonce: &str, error: Option<&str>) -> Self::Request;
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn status(error: Option<&str>) -> Option<Status> {
    error.map(|message| Status { code: 3, message: message.into(), ..Status::default() })
}

impl Asks for Delta {
    fn request(type_url: &str, names: &[&str], nonce: &str, error: Option<&str>) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: type_url.into(),
            resource_names_subscribe: texts(names),
            response_nonce: nonce.into(),
            error_detail: status(error),
            ..DeltaDiscoveryRequest::default()
        }
    }
}

impl Asks for StateOfTheWorld {
    fn request(type_url: &str, names: &[&str], nonce: &str, error: Option<&str>) -> DiscoveryRequest {
        DiscoveryRequest {
            type_url: type_url.into(),
            resource_names: texts(names),
            response_nonce: nonce.into(),
            error_detail: status(error),
            ..DiscoveryRequest::default()
        }
    }
}

/// What is asked for of each type: these names, or everything.
type Wants = Vec<(&'static str, Vec<&'static str>)>;

fn session<V: Asks>(wants: &Wants, view: &Content, response_bytes: usize) -> Session<Content, V> {
    let mut session = Session::new(Limits { response_bytes, ..Limits::default() }, view.clone());
    for (type_url, names) in wants {
        let responses = session.on_request(V::request(type_url, names, "", None)).unwrap();
        settle::<V>(&mut session, wants, responses);
    }
    session
}

/// Acknowledges until all is told; all that was.
fn settle<V: Asks>(
    session: &mut Session<Content, V>,
    wants: &Wants,
    responses: Vec<Response>,
) -> Vec<Response> {
    let mut all = responses;
    let mut at = 0;
    while let Some(Response { type_url, nonce, .. }) = all.get(at) {
        let (_, names) = wants.iter().find(|(known, _)| **known == **type_url).unwrap();
        // Delta clients do not repeat their names.
        let names = if V::NAME == Delta::NAME { &[][..] } else { names };
        all.extend(session.on_request(V::request(type_url, names, nonce, None)).unwrap());
        at += 1;
    }
    assert!(session.in_sync());
    all
}

fn by_name_or_all<V: Asks>(wants: &Wants, before: &Content, after: &Content, budget: usize, waits: bool) {
    let all: Vec<Arc<str>> = NAMES.map(Arc::from).into();
    let changes = TYPES.map(|type_url| (type_url, &all[..]));
    let between = waits.then(Content::default);
    let told = |by_name: bool| {
        let mut session = session::<V>(wants, before, budget);
        let mut responses = Vec::new();
        // Perhaps with something between that the client does not acknowledge.
        for view in between.iter().chain([after]) {
            responses.extend(match by_name {
                true => session.on_changes(&changes, view),
                false => session.on_update(view),
            });
        }
        let report = session.report();
        (responses.clone(), report, settle(&mut session, wants, responses), session.report())
    };
    assert_eq!(told(true), told(false));
}

fn wants() -> impl Strategy<Value = Wants> {
    let names = || subsequence(&NAMES[..], 0..=NAMES.len());
    let asked = (names(), names(), names())
        .prop_map(|(a, b, c)| vec![(SERVICE, a), (CLUSTER, b), (CLUSTER_LOAD_ASSIGNMENT, c)]);
    (asked, subsequence(vec![0, 1, 2], 1..=3))
        .prop_map(|(asked, places)| places.into_iter().map(|place| asked[place].clone()).collect())
}

fn content() -> impl Strategy<Value = Content> {
    btree_map(select(&NAMES[..]), 0..3_u8, 0..=NAMES.len()).prop_map(|all| Content(Arc::new(all)))
}

#[derive(Debug, Clone)]
enum Step {
    /// A request for a type, with names, this nonce, and perhaps an error.
    Ask(&'static str, Vec<&'static str>, u8, bool),
    /// An acknowledgement of the last response of a type.
    Answer(&'static str),
    Change(Content),
}

fn step() -> impl Strategy<Value = Step> {
    let type_url = || select(&TYPES[..]);
    let names = prop_oneof![2 => Just(Vec::new()), 1 => subsequence(&NAMES[..], 0..3)];
    prop_oneof![
        2 => (type_url(), names, 0..9_u8, prop::bool::weighted(0.2)).prop_map(|(t, n, nonce, e)| Step::Ask(t, n, nonce, e)),
        3 => type_url().prop_map(Step::Answer),
        2 => content().prop_map(Step::Change),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn being_told_by_name_is_being_told_all_that_is_different(
        wants in wants(), before in content(), after in content(),
        budget in select(vec![0_usize, 300, 1 << 20]), waits in any::<bool>(),
    ) {
        by_name_or_all::<Delta>(&wants, &before, &after, budget, waits);
        by_name_or_all::<StateOfTheWorld>(&wants, &before, &after, budget, waits);
    }

    #[test]
    fn an_acknowledgement_counts_whether_or_not_it_is_decoded(steps in vec(step(), 0..40)) {
        let fresh = || Session::<_, Delta>::new(Limits::default(), Content::default());
        let (mut short, mut long) = (fresh(), fresh());
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        let mut taken = 0;
        for step in steps {
            let (type_url, names, nonce, error) = match step {
                Step::Ask(type_url, names, nonce, error) => (type_url, names, nonce.to_string(), error),
                Step::Answer(type_url) => (type_url, Vec::new(), last.get(type_url).cloned().unwrap_or_default(), false),
                Step::Change(content) => {
                    let told = short.on_update(&content);
                    last.extend(told.iter().map(|r| (r.type_url.to_string(), r.nonce.to_string())));
                    prop_assert_eq!(told, long.on_update(&content));
                    continue;
                }
            };
            let request = Delta::request(type_url, &names, &nonce, error.then_some("no"));
            let message = request.encode_to_vec();
            let mut told = Vec::new();
            match short.take_acknowledgement(&message, &mut told) {
                Some(known) => {
                    prop_assert_eq!(known, type_url);
                    taken += 1;
                }
                None => told = short.on_request(request.clone()).unwrap(),
            }
            last.extend(told.iter().map(|r| (r.type_url.to_string(), r.nonce.to_string())));
            prop_assert_eq!(told, long.on_request(request).unwrap());
            prop_assert_eq!(short.report(), long.report());
            prop_assert_eq!(short.rejected(), short.rejections().count());
        }
        prop_assert!(taken <= last.values().filter_map(|nonce| nonce.parse::<usize>().ok()).max().unwrap_or(0));
    }
}

#[test]
fn an_acknowledgement_of_the_last_response_need_not_be_decoded() {
    let view = Content(Arc::new([("a", 1)].into()));
    let mut session = Session::<_, Delta>::new(Limits::default(), view);
    let responses = session.on_request(Delta::request(SERVICE, &[], "", None)).unwrap();
    let message = |nonce| Delta::request(SERVICE, &[], nonce, None).encode_to_vec();
    let mut told = Vec::new();
    assert_eq!(session.take_acknowledgement(&message("7"), &mut told), None);
    let message = message(&responses[0].nonce);
    assert_eq!(session.take_acknowledgement(&message, &mut told), Some(SERVICE));
    assert!(session.in_sync() && told.is_empty());
    assert_eq!(session.take_acknowledgement(&message, &mut told), None, "it is answered once");
}
