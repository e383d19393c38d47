// SPDX-License-Identifier: Apache-2.0
//! What people read: whole texts, and the states of a client.

use super::*;

fn client_of(id: &str) -> api::Client {
    api::Client {
        stream: 4,
        id: id.into(),
        kind: "agent".into(),
        zone: "zone-a".into(),
        peer: "10.0.0.1:41234".into(),
        variant: "delta".into(),
        age_seconds: 200,
        in_sync: true,
        requests: 12,
        responses: 14,
        ..api::Client::default()
    }
}

#[test]
fn the_state_says_what_needs_a_look_first() {
    let sync = client_of("a");
    let behind = api::Client { in_sync: false, behind_ms: 30, ..sync.clone() };
    for (client, words) in [
        (sync.clone(), "in sync"),
        (behind.clone(), "being updated"),
        (api::Client { behind_ms: 61_000, ..behind.clone() }, "NO ANSWER for 1m1s"),
        (api::Client { not_reading_ms: 5_000, behind_ms: 61_000, ..behind.clone() }, "DOES NOT READ for 5s"),
        (api::Client { rejected: 1, not_reading_ms: 5_000, ..behind.clone() }, "REJECTS 1 resource"),
        (api::Client { requests: 0, ..behind }, "has not asked yet"),
    ] {
        assert_eq!(state(&client), words);
    }
}

#[test]
fn the_list_of_clients_fits_one_screen_and_names_rejections() {
    let rejecting =
        api::Client { rejected: 2, last_rejection: "demo/web: no ports".into(), ..client_of("node-a") };
    let mut list = vec![rejecting];
    list.extend((0..50).map(|i| client_of(&format!("node-{i}"))));
    let text = clients(&api::ListClientsResponse { clients: list }, 3);
    let expected = "\
51 clients (51 agent): 51 in sync, 1 REJECTING

STREAM CLIENT KIND  ZONE   FROM           XDS     AGE SENT STATE
     4 node-a agent zone-a 10.0.0.1:41234 delta 3m20s   14 REJECTS 2 resources
     4 node-0 agent zone-a 10.0.0.1:41234 delta 3m20s   14 in sync
     4 node-1 agent zone-a 10.0.0.1:41234 delta 3m20s   14 in sync
… and 48 more clients; --all shows them
! node-a rejects: demo/web: no ports
";
    assert_eq!(text, expected);
}

#[test]
fn a_clients_rejections_come_first_with_its_words() {
    let held = |name: &str, state: &str, reason: &str| api::Held {
        name: name.into(),
        version: "0123456789abcdef".into(),
        state: state.into(),
        reason: reason.into(),
    };
    let subscription = api::Subscription {
        type_url: type_url::SERVICE.into(),
        wildcard: true,
        names: 0,
        in_sync: true,
        resources: vec![held("demo/a", "acknowledged", ""), held("demo/b", "rejected", "no ports")],
    };
    let detail = api::ClientDetail {
        client: Some(api::Client { last_heard_ms: 40, ..client_of("node-a") }),
        subscriptions: vec![subscription],
        no_answer: String::new(),
    };
    let expected = "\
Client        node-a, stream 4
Is            agent (-), zone zone-a
Connected     for 3m20s, from 10.0.0.1:41234, delta
Said          12 requests, the last 40ms ago; was sent 14 responses
State         in sync
Service       asked for all: 1 acknowledged, 1 rejected; in sync

TYPE    NAME   VERSION      STATE
Service demo/b 0123456789ab rejected
Service demo/a 0123456789ab acknowledged
! demo/b was rejected: no ports
";
    assert_eq!(client(&detail, 30), expected);
}

#[test]
fn load_is_shown_with_its_course_and_what_was_left_out() {
    let flow = api::Flow {
        service: "demo/web".into(),
        port: 80,
        protocol: "TCP".into(),
        from: "zone-a".into(),
        to: "zone-b".into(),
        requests_per_second: 123.4,
        errors_per_second: 0.5,
        in_flight: 12.34,
        utilization: Some(0.42),
        history: vec![0, 500, 1000],
        ..api::Flow::default()
    };
    let message = api::Load {
        window_seconds: 30,
        interval_seconds: 10,
        reporters: 1,
        flows: vec![flow],
        ignored: vec![api::Count { kind: "unknown_cluster".into(), count: 3 }],
    };
    let expected = "\
1 client reports load every 10s.
Means of the last 30s:

SERVICE  PORT FROM   TO     REQ/S ERR/S DROP/S IN FLIGHT USED COURSE
demo/web   80 zone-a zone-b   123  0.50      0      12.3 42 % ▁▅█
! Parts of reports left out: 3 unknown cluster
";
    assert_eq!(load(&message, 30), expected);
    let none = api::Load { flows: vec![], ignored: vec![], ..message };
    assert!(load(&none, 30).ends_with("Nothing was reported in the last 30s.\n"));
}

#[test]
fn the_index_shows_faulty_services_first_and_what_is_wrong() {
    let port = |ready| api::PortSummary {
        name: "grpc".into(),
        port: 80,
        protocol: "TCP".into(),
        ready,
        zones: vec!["zone-a".into(), "zone-b".into()],
        ..api::PortSummary::default()
    };
    let service = |name: &str, ready, faults: &[&str]| api::ServiceSummary {
        name: name.into(),
        balance: "request".into(),
        strategy: "least-request".into(),
        zone_policy: "prefer".into(),
        ports: vec![port(ready)],
        faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
        ..api::ServiceSummary::default()
    };
    let message = api::Index {
        version: "0.1.0".into(),
        uptime_seconds: 65,
        not_ready: vec!["shutting down".into()],
        revision: 7,
        revision_age_seconds: 5,
        objects: vec![api::Count { kind: "services_opted_in".into(), count: 3 }],
        endpoints: 4,
        source: vec!["the source has ended".into()],
        clients: 9,
        clients_not_in_sync: 1,
        services: vec![
            service("demo/good", 2, &[]),
            service("demo/empty", 0, &[]),
            service("demo/odd", 2, &["x"]),
        ],
        faults: vec!["Service demo/odd: x".into()],
        ..api::Index::default()
    };
    let expected = "\
Discovery     NOT READY, version 0.1.0, up 1m5s
              shutting down
Serves        3 Services, 4 endpoints, revision 7, published 5s ago
Knows         services opted in: 3
Source        the source has ended
Clients       9 connected, 1 not in sync: see `evenkeel-discovery clients`

SERVICE    BALANCE STRATEGY      ZONE   PORT    READY DRAINING ZONES
demo/odd   request least-request prefer 80 grpc     2        0 zone-a zone-b FAULTY
demo/empty request least-request prefer 80 grpc     0        0 zone-a zone-b
demo/good  request least-request prefer 80 grpc     2        0 zone-a zone-b

Faults
  - Service demo/odd: x
";
    assert_eq!(index(&message, 30), expected);
}
