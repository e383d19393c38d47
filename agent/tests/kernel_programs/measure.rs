// SPDX-License-Identifier: Apache-2.0
//! What the connect program costs, by the kernel's own accounting. A measurement, not a check: its figures depend on the
//! machine. Run it alone: `cargo test -p evenkeel-agent --test kernel_programs -- --ignored --nocapture`.

use std::{fs, net::SocketAddr};

use aya::programs::loaded_programs;
use evenkeel_abi::{programs, service_flags::REQUEST};
use evenkeel_agent::kernel::{Family, Kernel, ServiceImage, Weighted, backend};
use socket2::{Domain, SockAddr, Socket};

use crate::node::{Node, TCP, image, publish};

const ROUNDS: u32 = 800;
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The accounting, switched on while this lives.
struct Accounting(String);

impl Accounting {
    fn on() -> Self {
        let before = fs::read_to_string(SWITCH).unwrap();
        fs::write(SWITCH, "1").unwrap();
        Self(before)
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, &self.0);
    }
}

/// Run time in ns and runs of the program that was loaded last under a name.
fn stats(name: &str) -> (u128, u64) {
    let own = loaded_programs().filter_map(Result::ok).filter(|program| program.name_as_str() == Some(name));
    let newest = own.max_by_key(|program| program.id()).unwrap();
    (newest.run_time().as_nanos(), newest.run_count())
}

fn per_run(name: &str, work: impl FnOnce()) -> u128 {
    let before = stats(name);
    work();
    let after = stats(name);
    (after.0 - before.0) / u128::from(after.1 - before.1)
}

/// Connects fresh sockets back to back. They are made beforehand: that happens in another process, which
/// would leave the caches cold.
fn connects(sockets: &[Socket], to: &str) {
    let to: SockAddr = to.parse::<SocketAddr>().unwrap().into();
    for socket in sockets {
        let _ = socket.connect(&to);
    }
}

fn sockets(node: &Node) -> Vec<Socket> {
    (0..ROUNDS).map(|_| node.socket(Domain::IPV4)).collect()
}

fn many(services: u32, endpoints: u16) -> evenkeel_agent::kernel::Image {
    let mut all = image(&[]);
    let list: Vec<Weighted> = (0..endpoints)
        .map(|i| Weighted { backend: backend(([127, 3, 0, 1], 1_000 + i).into(), TCP), weight: 1 })
        .collect();
    for i in 0..services {
        let address = std::net::Ipv4Addr::from(0x7f09_0001 + i);
        let key = evenkeel_abi::ServiceKey::new(std::net::IpAddr::from(address).into(), 80, TCP);
        all.services
            .insert(key, ServiceImage::new(0, if i == 0 { list.clone() } else { list[..1].to_vec() }));
    }
    all
}

fn row(node: &Node, kernel: &mut Kernel, services: u32, endpoints: u16) {
    publish(kernel, many(services, endpoints));
    let fresh = sockets(node);
    kernel.heartbeat.beat().unwrap();
    let miss = per_run(programs::CONNECT4, || connects(&fresh, "127.2.0.1:80"));
    let hit = per_run(programs::CONNECT4, || connects(&fresh, "127.9.0.1:80"));
    let again = per_run(programs::CONNECT4, || connects(&fresh, "127.9.0.1:80"));
    println!(
        "{services:6} services {endpoints:5} endpoints: miss {miss} ns, hit {hit} ns, hit with storage {again} ns"
    );
}

#[test]
#[ignore = "a measurement, run it alone"]
fn measure_the_connect_program() {
    let _accounting = Accounting::on();
    let node = Node::new();
    let mut kernel = node.up();
    for (services, endpoints) in [(1, 1), (1, 10), (1, 1_000), (10_000, 10), (10_000, 1_000)] {
        row(&node, &mut kernel, services, endpoints);
    }
    publish(&mut kernel, image(&[("127.9.0.1:80", REQUEST, &[("127.3.0.1:1000", 1)])]));
    let proxy = node.listen("127.0.0.1:0");
    kernel.listeners.insert(node.cookie(), Family::V4, &proxy).unwrap();
    proxy.set_nonblocking(true).unwrap();
    let handed = per_run(programs::CONNECT4, || {
        for _ in 0..ROUNDS {
            kernel.heartbeat.beat().unwrap();
            let _client = node.connect("127.9.0.1:80").unwrap();
            while proxy.accept().is_ok() {}
        }
    });
    let client = node.connect(&proxy.local_addr().unwrap().to_string()).unwrap();
    let floor = per_run(programs::GETPEERNAME4, || {
        for _ in 0..ROUNDS {
            client.peer_addr().unwrap();
        }
    });
    println!(
        "handed over {handed} ns; accounting and an empty program (getpeername, nothing stored) {floor} ns"
    );
}
