// SPDX-License-Identifier: Apache-2.0
//! Balancing in the kernel: what is rewritten, what is shown, what is counted.

use std::{io, net::SocketAddr};

use socket2::Domain;

use crate::node::{Node, count, eventually, image, load, local, peer, publish};

const VIP: &str = "127.9.0.1:80";

#[test]
fn a_connect_to_what_is_not_opted_in_is_untouched() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, 0, &[("127.1.0.1:80", 1)])]));
    let _server = node.listen("127.2.0.1:80");
    let client = node.connect("127.2.0.1:80").unwrap();
    assert_eq!(peer(&client).to_string(), "127.2.0.1:80");
    assert!(kernel.counters.read().unwrap().iter().all(|(_, _, sum)| *sum == 0));
}

#[test]
fn a_balanced_connect_reaches_the_endpoint_and_shows_the_service_address() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, 0, &[("127.1.0.1:8080", 1)])]));
    let server = node.listen("127.1.0.1:8080");
    let client = node.connect(VIP).unwrap();
    let (accepted, _) = server.accept().unwrap();
    assert_eq!(accepted.local_addr().unwrap().to_string(), "127.1.0.1:8080");
    assert_eq!(peer(&client).to_string(), VIP);
    assert_eq!(local(&client).to_string(), "127.0.0.1", "the local address is the truth");
    assert_eq!((count(&kernel, "balanced"), count(&kernel, "translated")), (1, 1));
}

#[test]
fn an_ipv6_connect_is_balanced_to_ipv6() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[("[fd00::9]:80", 0, &[("[::1]:8080", 1)])]));
    let server = node.listen("[::1]:8080");
    let client = node.connect("[fd00::9]:80").unwrap();
    server.accept().unwrap();
    assert_eq!(peer(&client).to_string(), "[fd00::9]:80");
}

#[test]
fn an_ipv4_mapped_connect_is_balanced_as_ipv4() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, 0, &[("127.1.0.1:8080", 1)])]));
    let server = node.listen("127.1.0.1:8080");
    let client = node.connect("[::ffff:127.9.0.1]:80").unwrap();
    server.accept().unwrap();
    assert_eq!(peer(&client), "[::ffff:127.9.0.1]:80".parse().unwrap());
    assert_eq!(load(&kernel, "127.1.0.1:8080"), 1);
}

#[test]
fn an_endpoint_of_the_other_family_is_never_written() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, 0, &[("[::1]:8080", 1)])]));
    let fallback = node.listen(VIP);
    let _client = node.connect(VIP).unwrap();
    fallback.accept().unwrap();
    assert_eq!((count(&kernel, "dangling"), count(&kernel, "balanced")), (1, 0));
}

#[test]
fn load_is_counted_at_connect_and_returned_at_close() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, 0, &[("127.1.0.1:80", 1)])]));
    let _server = node.listen("127.1.0.1:80");
    let first = node.connect(VIP).unwrap();
    let second = node.connect(VIP).unwrap();
    assert_eq!(load(&kernel, "127.1.0.1:80"), 2);
    let kept = first.try_clone().unwrap();
    drop(first);
    assert_eq!(load(&kernel, "127.1.0.1:80"), 2, "one descriptor of two is not the socket");
    drop((kept, second));
    eventually("both counts are returned", || load(&kernel, "127.1.0.1:80") == 0);
    assert_eq!(count(&kernel, "released"), 2);
}

#[test]
fn a_failed_connect_returns_its_count_when_the_socket_connects_again() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(
        &mut kernel,
        image(&[(VIP, 0, &[("127.1.0.1:80", 1)]), ("127.9.0.2:80", 0, &[("127.1.0.2:80", 1)])]),
    );
    let _server = node.listen("127.1.0.2:80");
    let socket = node.socket(Domain::IPV4);
    let dial = |to: &str| socket.connect(&to.parse::<SocketAddr>().unwrap().into());
    assert_eq!(dial(VIP).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(load(&kernel, "127.1.0.1:80"), 1, "held until the socket does something else");
    dial("127.9.0.2:80").unwrap();
    assert_eq!((load(&kernel, "127.1.0.1:80"), load(&kernel, "127.1.0.2:80")), (0, 1));
    assert_eq!(count(&kernel, "reconnected"), 1);
}

#[test]
fn a_socket_that_goes_elsewhere_after_a_failure_shows_the_truth() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, 0, &[("127.1.0.1:80", 1)])]));
    let _server = node.listen("127.2.0.1:80");
    let socket = node.socket(Domain::IPV4);
    let dial = |to: &str| socket.connect(&to.parse::<SocketAddr>().unwrap().into());
    dial(VIP).unwrap_err();
    dial("127.2.0.1:80").unwrap();
    assert_eq!(peer(&socket).to_string(), "127.2.0.1:80");
    assert_eq!(load(&kernel, "127.1.0.1:80"), 0);
}

#[test]
fn a_thousand_connects_to_ten_endpoints_differ_by_at_most_three() {
    let node = Node::new();
    let mut kernel = node.up();
    let addresses: Vec<String> = (1..=10).map(|i| format!("127.1.0.{i}:80")).collect();
    let endpoints: Vec<(&str, u32)> = addresses.iter().map(|a| (a.as_str(), 1)).collect();
    publish(&mut kernel, image(&[(VIP, 0, &endpoints)]));
    let servers: Vec<_> = addresses.iter().map(|a| node.listen(a)).collect();
    let clients: Vec<_> = (0..1_000).map(|_| node.connect(VIP).unwrap()).collect();
    let loads: Vec<u64> = addresses.iter().map(|a| load(&kernel, a)).collect();
    assert_eq!(loads.iter().sum::<u64>(), 1_000);
    assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 3, "{loads:?}");
    drop((clients, servers));
    eventually("all counts are returned", || addresses.iter().all(|a| load(&kernel, a) == 0));
}

#[test]
fn without_endpoints_or_with_unknown_flags_the_connect_is_left_alone() {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, 0, &[]), ("127.9.0.2:80", 1 << 20, &[("127.1.0.1:80", 1)])]));
    for vip in [VIP, "127.9.0.2:80"] {
        let fallback = node.listen(vip);
        let _client = node.connect(vip).unwrap();
        fallback.accept().unwrap();
    }
    assert_eq!((count(&kernel, "no_endpoint"), count(&kernel, "unknown_flags")), (1, 1));
}
