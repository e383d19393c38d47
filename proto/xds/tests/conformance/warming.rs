// SPDX-License-Identifier: Apache-2.0
//! "Warming of Cluster is completed only when a new ClusterLoadAssignment response is supplied by management server even
//! though there is no change in endpoints." In both variants; and what a wildcard does not cover.

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use evenkeel_xds::{
    DeltaSession, EncodedResource, Limits, ResourceSource, Response, SotwSession,
    server::{Session, Variant},
    type_url::{CLUSTER as CDS, CLUSTER_LOAD_ASSIGNMENT as EDS, LISTENER as LDS},
};

use crate::content::Content;

fn delta(type_url: &str, names: &[&str], nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.into(),
        // After the first request names are there already.
        resource_names_subscribe: if nonce.is_empty() { owned(names) } else { Vec::new() },
        response_nonce: nonce.into(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn sotw(type_url: &str, names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: type_url.into(),
        resource_names: owned(names),
        response_nonce: nonce.into(),
        ..DiscoveryRequest::default()
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// (type, names) of the resources in responses.
fn sent(responses: &[Response]) -> Vec<(&str, Vec<&str>)> {
    let name = |resource| EncodedResource::name(resource).as_ref();
    responses.iter().map(|r| (&*r.type_url, r.resources.iter().map(name).collect())).collect()
}

const CLUSTERS: [(&str, &str, &str); 4] =
    [(CDS, "a", "1"), (CDS, "b", "1"), (EDS, "a", "1"), (EDS, "b", "1")];

fn warms<V: Variant>(
    mut session: Session<Content, V>,
    request: fn(&str, &[&str], &str) -> V::Request,
    whole: &[&str],
) {
    let answer = |session: &mut Session<Content, V>, responses: Vec<Response>| {
        for response in responses {
            let names: &[&str] = if *response.type_url == *CDS { &[] } else { &["a", "b"] };
            assert_eq!(session.on_request(request(&response.type_url, names, &response.nonce)).unwrap(), []);
        }
    };
    let first = session.on_request(request(CDS, &[], "")).unwrap();
    answer(&mut session, first);
    let first = session.on_request(request(EDS, &["a", "b"], "")).unwrap();
    answer(&mut session, first);
    assert!(session.in_sync());

    let mut changed = Content::of(CLUSTERS);
    changed.put(CDS, "b", "2");
    let responses = session.on_changes(&[(CDS, &["b".into()][..])], &changed);
    assert_eq!(sent(&responses), [(CDS, whole.to_vec()), (EDS, vec!["b"])]);
    // While both are unacknowledged the cluster changes once more: its endpoints follow again, after it.
    changed.put(CDS, "b", "3");
    assert_eq!(session.on_changes(&[(CDS, &["b".into()][..])], &changed), []);
    let [clusters, endpoints] = &responses[..] else { panic!("{responses:?}") };
    let again = session.on_request(request(CDS, &[], &clusters.nonce)).unwrap();
    assert_eq!(sent(&again), [(CDS, whole.to_vec())]);
    let again = session.on_request(request(EDS, &["a", "b"], &endpoints.nonce)).unwrap();
    assert_eq!(sent(&again), [(EDS, vec!["b"])]);
}

#[test]
fn a_cluster_that_changes_is_followed_by_its_endpoints() {
    warms(DeltaSession::new(Limits::default(), Content::of(CLUSTERS)), delta, &["b"]);
    warms(SotwSession::new(Limits::default(), Content::of(CLUSTERS)), sotw, &["a", "b"]);
}

#[test]
fn endpoints_of_a_cluster_that_nobody_subscribed_to_do_not_follow_it() {
    let mut session = DeltaSession::new(Limits::default(), Content::of(CLUSTERS));
    session.on_request(delta(EDS, &["b"], "")).unwrap();
    let responses = session.on_request(delta(CDS, &["a"], "")).unwrap();
    assert_eq!(sent(&responses), [(CDS, vec!["a"])]);
}

/// Of the listeners only `gateway` is for those who do not name what they want.
#[derive(Clone)]
struct Gateway(Content);

impl ResourceSource for Gateway {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        self.0.get(type_url, name)
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        self.0.for_each(type_url, &mut |resource| {
            if self.in_wildcard(type_url, resource.name()) {
                visit(resource);
            }
        });
    }

    fn in_wildcard(&self, _: &str, name: &str) -> bool {
        name == "gateway"
    }
}

#[test]
fn what_a_wildcard_does_not_cover_is_sent_to_those_who_name_it() {
    let content = |a| Gateway(Content::of([(LDS, "a", a), (LDS, "gateway", "1")]));
    let change = [(LDS, &["a".into()][..])];
    let mut wild = DeltaSession::new(Limits::default(), content("1"));
    let first = wild.on_request(delta(LDS, &["*"], "")).unwrap();
    assert_eq!(sent(&first), [(LDS, vec!["gateway"])]);
    wild.on_request(delta(LDS, &[], &first[0].nonce)).unwrap();
    assert_eq!(wild.on_changes(&change, &content("2")), []);
    assert_eq!(wild.on_update(&content("3")), []);

    let mut both = SotwSession::new(Limits::default(), content("1"));
    let first = both.on_request(sotw(LDS, &["*", "a"], "")).unwrap();
    assert_eq!(sent(&first), [(LDS, vec!["a", "gateway"])]);
    both.on_request(sotw(LDS, &["*", "a"], &first[0].nonce)).unwrap();
    assert_eq!(sent(&both.on_changes(&change, &content("2"))), [(LDS, vec!["a", "gateway"])]);
}
