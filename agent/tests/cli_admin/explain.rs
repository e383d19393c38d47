// SPDX-License-Identifier: Apache-2.0
//! `explain`: each verdict with its story.

use std::time::Duration;

use crate::{
    fake::Fake,
    server::{Server, golden},
};

#[test]
fn each_verdict_has_its_story() {
    let fake = Fake::busy();
    let server = Server::start(fake.clone());
    let mut story = String::new();
    let mut tell = |title: &str, address: &str| {
        let answer = server.answer(&["explain", address]);
        // The endpoint table has a golden of its own.
        let steps = answer.split("\n\n").next().unwrap().trim_end();
        story.push_str(&format!("# {title}\n{steps}\n\n"));
    };
    tell("a per-request port", "10.96.0.10:50051");
    tell("its IPv6 address, on which one pod does not listen", "[fd00::10]:50051");
    tell("an IPv4-mapped address", "[::ffff:10.96.0.10]:50051");
    tell("a port that says nothing", "10.96.0.10:7000");
    tell("an opaque port of a per-request Service, failed over", "10.96.0.10:9000");
    tell("a per-connection Service", "10.96.0.53:9153");
    tell("a UDP port without endpoints", "10.96.0.53:53");
    tell("a Service without endpoints", "10.96.0.20:80");
    tell("another port of a Service's address", "10.96.0.10:1");
    tell("an endpoint", "10.244.1.2:8080");
    tell("an address nobody knows", "192.0.2.1:443");
    fake.state.lock().unwrap().pods.clear();
    tell("no pods", "10.96.0.10:50051");
    fake.state.lock().unwrap().kernel.heartbeat_age = Some(Duration::from_millis(2_500));
    tell("a stale heartbeat", "10.96.0.10:50051");
    fake.state.lock().unwrap().kernel.heartbeat_age = Some(Duration::from_secs(31));
    tell("no heartbeat for long", "10.96.0.10:50051");
    fake.state.lock().unwrap().kernel.heartbeat_age = None;
    tell("never a heartbeat", "10.96.0.10:50051");
    golden("explain-stories.txt", &story);
}

#[test]
fn verdicts_are_words_in_json() {
    let fake = Fake::busy();
    let server = Server::start(fake.clone());
    let verdict = |address: &str| {
        let json: serde_json::Value =
            serde_json::from_str(&server.answer(&["explain", address, "-o", "json"])).unwrap();
        json["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict("10.96.0.10:50051"), "request");
    assert_eq!(verdict("10.96.0.10:9000"), "kernel");
    assert_eq!(verdict("192.0.2.1:443"), "untouched");
    fake.state.lock().unwrap().kernel.heartbeat_age = Some(Duration::from_secs(3));
    assert_eq!(verdict("10.96.0.10:50051"), "kernel");
    fake.state.lock().unwrap().kernel.heartbeat_age = Some(Duration::from_secs(60));
    assert_eq!(verdict("10.96.0.10:9000"), "untouched");
}
