// SPDX-License-Identifier: Apache-2.0
//! Handing connections to a listener in the client's own namespace, and every reason not to.

use std::{io::Read, net::SocketAddr, time::Duration};

use evenkeel_abi::{EventKind, service_flags::REQUEST};
use evenkeel_agent::kernel::{Beat, Config, Family, Kernel, origin_key};
use socket2::{Domain, Socket};

use crate::node::{Node, count, image, load, local, peer, publish};

const VIP: &str = "127.9.0.1:80";
const ENDPOINT: &str = "127.1.0.1:8080";

/// A node whose one Service is balanced per request, with its endpoint.
fn node() -> (Node, Kernel, std::net::TcpListener) {
    let node = Node::new();
    let mut kernel = node.up();
    publish(&mut kernel, image(&[(VIP, REQUEST, &[(ENDPOINT, 1)])]));
    let endpoint = node.listen(ENDPOINT);
    (node, kernel, endpoint)
}

#[test]
fn a_connect_is_handed_to_the_listener_with_a_record_of_where_it_wanted_to_go() {
    let (node, kernel, _endpoint) = node();
    let (proxy, cookie) = (node.listen("127.0.0.1:0"), node.cookie());
    kernel.listeners.insert(cookie, Family::V4, &proxy).unwrap();
    kernel.pods.insert(cookie, Some([10, 1, 2, 3].into()), None, 1).unwrap();
    let client = node.socket(Domain::IPV4);
    client.set_mark(0x77).unwrap();
    client.connect(&VIP.parse::<SocketAddr>().unwrap().into()).unwrap();
    let (_accepted, from) = proxy.accept().unwrap();
    let origin = kernel.origins.get(&origin_key(cookie, from)).unwrap();
    assert_eq!(std::net::IpAddr::from(origin.address).to_string(), "127.9.0.1");
    assert_eq!((u16::from_be(origin.port_be), origin.mark), (80, 0x77));
    assert_ne!(origin.cgroup, 0);
    assert_eq!(peer(&client).to_string(), VIP);
    assert_eq!(local(&client).to_string(), "10.1.2.3", "the application sees its pod's address");
    assert_eq!((count(&kernel, "handed_over"), count(&kernel, "established")), (1, 1));
    assert_eq!(load(&kernel, ENDPOINT), 0, "the request path counts for itself");
}

#[test]
fn a_connection_that_nobody_redirected_has_no_record() {
    let (node, kernel, _endpoint) = node();
    let (proxy, cookie) = (node.listen("127.0.0.1:0"), node.cookie());
    kernel.listeners.insert(cookie, Family::V4, &proxy).unwrap();
    let _client = node.connect(&proxy.local_addr().unwrap().to_string()).unwrap();
    let (_accepted, from) = proxy.accept().unwrap();
    assert_eq!(kernel.origins.get(&origin_key(cookie, from)), None);
}

#[test]
fn ipv4_mapped_and_ipv6_connects_are_handed_over_each_to_its_family() {
    let (node, mut kernel, _endpoint) = node();
    publish(
        &mut kernel,
        image(&[(VIP, REQUEST, &[(ENDPOINT, 1)]), ("[fd00::9]:80", REQUEST, &[("[::1]:9", 1)])]),
    );
    let cookie = node.cookie();
    let (v4, v6) = (node.listen("127.0.0.1:0"), node.listen("[::1]:0"));
    kernel.listeners.insert(cookie, Family::V4, &v4).unwrap();
    kernel.listeners.insert(cookie, Family::V6, &v6).unwrap();
    kernel.pods.insert(cookie, Some([10, 1, 2, 3].into()), Some("fd00::3".parse().unwrap()), 1).unwrap();
    let cases = [
        (&v4, "[::ffff:127.9.0.1]:80", "::ffff:10.1.2.3", "127.9.0.1"),
        (&v6, "[fd00::9]:80", "fd00::3", "fd00::9"),
    ];
    for (proxy, dialled, own, wanted) in cases {
        let client = node.connect(dialled).unwrap();
        let (_accepted, from) = proxy.accept().unwrap();
        let origin = kernel.origins.get(&origin_key(cookie, from)).unwrap();
        assert_eq!(std::net::IpAddr::from(origin.address).to_string(), wanted);
        assert_eq!(peer(&client), dialled.parse().unwrap());
        assert_eq!(local(&client).to_string(), own);
    }
}

#[test]
fn a_killed_listener_costs_no_connect() {
    let (node, kernel, endpoint) = node();
    let proxy = node.listen("127.0.0.1:0");
    kernel.listeners.insert(node.cookie(), Family::V4, &proxy).unwrap();
    let first = node.connect(VIP).unwrap();
    let port = proxy.local_addr().unwrap();
    drop(proxy);
    // Somebody else takes the port at once and must not be handed the traffic.
    let thief = node.listen(&port.to_string());
    thief.set_nonblocking(true).unwrap();
    for _ in 0..50 {
        let _client = node.connect(VIP).unwrap();
        endpoint.accept().unwrap();
    }
    assert!(thief.accept().is_err(), "traffic was handed to another process");
    assert_eq!(count(&kernel, "no_listener"), 50);
    drop(first);
}

/// A process that ends when it is killed.
fn process() -> std::process::Child {
    std::process::Command::new("sleep").arg("60").spawn().unwrap()
}

fn kill(mut process: std::process::Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn nothing_is_handed_to_a_dead_agent_whose_listener_is_still_there() {
    let (node, kernel, _endpoint) = node();
    let proxy = node.listen("127.0.0.1:0");
    kernel.listeners.insert(node.cookie(), Family::V4, &proxy).unwrap();
    let (agent, other) = (process(), process());
    let generation = kernel.heartbeat.generation();
    kernel.exit_hook.as_ref().unwrap().arm(agent.id(), generation).unwrap();
    kill(other);
    let _client = node.connect(VIP).unwrap();
    assert_eq!((count(&kernel, "handed_over"), count(&kernel, "stale")), (1, 0), "another process died");
    kill(agent);
    let _client = node.connect(VIP).unwrap();
    assert_eq!((count(&kernel, "handed_over"), count(&kernel, "stale")), (1, 1));
    assert_eq!(load(&kernel, ENDPOINT), 1, "chosen in the kernel");
    assert_eq!(kernel.heartbeat.look().unwrap(), Beat::Owner, "for itself an agent is never dead");
    kernel.heartbeat.claim(generation + 1).unwrap();
    let _client = node.connect(VIP).unwrap();
    assert_eq!(count(&kernel, "handed_over"), 2, "the next agent is alive");
}

#[test]
fn the_death_of_an_agent_that_was_superseded_is_none_of_the_nodes() {
    let (node, kernel, _endpoint) = node();
    let proxy = node.listen("127.0.0.1:0");
    kernel.listeners.insert(node.cookie(), Family::V4, &proxy).unwrap();
    let (old, generation) = (process(), kernel.heartbeat.generation());
    kernel.exit_hook.as_ref().unwrap().arm(old.id(), generation).unwrap();
    kernel.heartbeat.claim(generation + 1).unwrap();
    kill(old);
    let _client = node.connect(VIP).unwrap();
    assert_eq!((count(&kernel, "handed_over"), count(&kernel, "stale")), (1, 0));
}

#[test]
fn another_listener_in_its_place_takes_over() {
    let (node, kernel, _endpoint) = node();
    let (old, new, cookie) = (node.listen("127.0.0.1:0"), node.listen("127.0.0.1:0"), node.cookie());
    kernel.listeners.insert(cookie, Family::V4, &old).unwrap();
    kernel.listeners.insert(cookie, Family::V4, &new).unwrap();
    let _client = node.connect(VIP).unwrap();
    new.accept().unwrap();
    kernel.listeners.remove(cookie, Family::V4).unwrap();
    kernel.listeners.remove(cookie, Family::V4).unwrap();
    let _client = node.connect(VIP).unwrap();
    assert_eq!(load(&kernel, ENDPOINT), 1);
}

#[test]
fn a_namespace_without_a_listener_is_reported_once() {
    let (node, mut kernel, _endpoint) = node();
    let clients: Vec<Socket> = (0..3).map(|_| node.connect(VIP).unwrap()).collect();
    let event =
        node.block_on(async { tokio::time::timeout(Duration::from_secs(5), kernel.events.next()).await });
    let event = event.expect("no event");
    assert_eq!((event.netns_cookie, event.kind), (node.cookie(), EventKind::NoListener as u32));
    assert_eq!(event.tgid, std::process::id());
    let more =
        node.block_on(async { tokio::time::timeout(Duration::from_millis(50), kernel.events.next()).await });
    assert!(more.is_err(), "three connects made more than one event");
    assert_eq!(clients.len(), 3);
}

#[test]
fn sockets_that_cannot_use_loopback_are_balanced_in_the_kernel() {
    let (node, kernel, _endpoint) = node();
    let (proxy, cookie) = (node.listen("127.0.0.1:0"), node.cookie());
    kernel.listeners.insert(cookie, Family::V4, &proxy).unwrap();
    kernel.pods.insert(cookie, Some([127, 0, 0, 7].into()), None, 1).unwrap();
    let vip = VIP.parse::<SocketAddr>().unwrap().into();
    let device = node.socket(Domain::IPV4);
    device.bind_device(Some(b"lo")).unwrap();
    device.connect(&vip).unwrap();
    let foreign = node.socket(Domain::IPV4);
    foreign.bind(&"127.0.0.5:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    foreign.connect(&vip).unwrap();
    assert_eq!((count(&kernel, "unsuitable"), load(&kernel, ENDPOINT)), (2, 2));
    let own = node.socket(Domain::IPV4);
    own.bind(&"127.0.0.7:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    own.connect(&vip).unwrap();
    let (_accepted, from) = proxy.accept().unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.7");
    assert!(
        kernel.origins.get(&origin_key(cookie, from)).is_some(),
        "bound to the pod's address: handed over"
    );
}

#[test]
fn a_stale_heartbeat_balances_in_the_kernel() {
    let node = Node::new();
    let config = Config { stale_after: Duration::ZERO, ..node.config() };
    let mut kernel = node.try_open(&config).unwrap();
    kernel.heartbeat.claim(1).unwrap();
    publish(&mut kernel, image(&[(VIP, REQUEST, &[(ENDPOINT, 1)])]));
    let (proxy, _endpoint) = (node.listen("127.0.0.1:0"), node.listen(ENDPOINT));
    kernel.listeners.insert(node.cookie(), Family::V4, &proxy).unwrap();
    let _client = node.connect(VIP).unwrap();
    assert_eq!((count(&kernel, "stale"), load(&kernel, ENDPOINT)), (1, 1));
}

#[test]
fn a_heartbeat_stale_for_long_leaves_every_connect_alone() {
    let node = Node::new();
    let config = Config { stale_after: Duration::ZERO, stand_aside_after: Duration::ZERO, ..node.config() };
    let mut kernel = node.try_open(&config).unwrap();
    kernel.heartbeat.claim(1).unwrap();
    publish(&mut kernel, image(&[(VIP, 0, &[(ENDPOINT, 1)]), ("127.9.0.2:80", REQUEST, &[(ENDPOINT, 1)])]));
    for vip in [VIP, "127.9.0.2:80"] {
        let fallback = node.listen(vip);
        let client = node.connect(vip).unwrap();
        fallback.accept().unwrap();
        assert_eq!(peer(&client).to_string(), vip);
    }
    assert_eq!((count(&kernel, "stood_aside"), load(&kernel, ENDPOINT)), (2, 0));
}

#[test]
fn before_the_first_claim_every_connect_is_left_alone() {
    let node = Node::new();
    let mut kernel = node.open();
    let report = kernel.writer.publish_image(image(&[(VIP, 0, &[(ENDPOINT, 1)])]), Duration::ZERO);
    assert!(report.superseded && report.operations == 0, "{report:?}");
    let fallback = node.listen(VIP);
    let client = node.connect(VIP).unwrap();
    drop(client);
    assert_eq!(fallback.accept().unwrap().0.read(&mut [0]).unwrap(), 0);
}
