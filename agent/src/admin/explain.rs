// SPDX-License-Identifier: Apache-2.0
//! Why a connect to an address goes where it goes, told step by step in the order in which the kernel and the request path
//! decide. Pure: it narrates the snapshot and the facts, and uses the programs' own rule for the heartbeat.

use std::net::SocketAddr;

use evenkeel_abi::Stance;
use evenkeel_balance::{
    picker::Strategy,
    priority::{Plan, Reason},
};
use evenkeel_proto::admin as api;

use super::{
    describe::{balance_word, port_endpoints, protocol_word, zone_word},
    facts::{Facts, KernelFacts, PodFacts},
};
use crate::store::{Application, Balance, Cluster, Frontend, Port, Protocol, Service, Snapshot, ZonePolicy};

/// As many pods without a listener are named.
const NAMED_PODS: usize = 5;

/// Where a connect ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Untouched,
    Kernel,
    Request,
}

/// Explains a connect to `address`: TCP, or UDP where only that is balanced.
pub(super) fn explain(facts: &dyn Facts, address: SocketAddr) -> api::Explanation {
    let snapshot = facts.snapshot();
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let Some((service, port, cluster)) = lookup(&snapshot, address) else {
        return untouched(&snapshot, address);
    };
    let mut steps = vec![opening(address, service, port)];
    let kernel = facts.kernel();
    let stance = kernel.stance();
    steps.push(heartbeat(&kernel, stance));
    steps.push(plan(facts, service, cluster));
    let verdict = match stance {
        Stance::Aside => Verdict::Untouched,
        _ if cluster.plan.active.is_empty() => Verdict::Untouched,
        Stance::Kernel => Verdict::Kernel,
        Stance::Serve if service.per_request(port) => Verdict::Request,
        Stance::Serve => Verdict::Kernel,
    };
    let listening = path(&mut steps, facts, service, port, stance, address.is_ipv4());
    // Where no pod has a listener, nothing can be handed over.
    let verdict = if verdict == Verdict::Request && !listening { Verdict::Kernel } else { verdict };
    steps.push(conclusion(verdict, service, cluster));
    steps.extend(service.faults.iter().map(|fault| format!("Mind: {fault}.")));
    api::Explanation {
        address: address.to_string(),
        verdict: word(verdict).to_owned(),
        service: service.spec.name.to_string(),
        steps,
        candidates: port_endpoints(facts, &facts.open_sockets(), port, cluster),
    }
}

fn lookup(snapshot: &Snapshot, address: SocketAddr) -> Option<(&Service, &Port, &Cluster)> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find_map(|protocol| {
        let frontend = Frontend { address: address.ip(), port: address.port(), protocol };
        let (service, port, cluster) = snapshot.frontend(&frontend)?;
        Some((&**service, port, &**cluster))
    })
}

fn untouched(snapshot: &Snapshot, address: SocketAddr) -> api::Explanation {
    let mut steps = vec![
        "Untouched: no Service that opted in has this address and port; connects cost one lookup.".to_owned(),
    ];
    let same_address = snapshot.services.values().find(|s| s.spec.addresses.contains(&address.ip()));
    if let Some(service) = same_address {
        let ports: Vec<String> = service.spec.ports.iter().map(|port| port.number.to_string()).collect();
        steps.push(format!(
            "The address belongs to {}, whose ports are {}; other ports are not balanced.",
            service.spec.name,
            ports.join(", ")
        ));
    } else if let Some(service) = snapshot.services.values().find(|s| lists(s, address)) {
        steps.push(format!(
            "It is an endpoint of {}: whoever dials an endpoint directly gets that endpoint.",
            service.spec.name
        ));
    }
    api::Explanation {
        address: address.to_string(),
        verdict: word(Verdict::Untouched).to_owned(),
        steps,
        ..api::Explanation::default()
    }
}

fn lists(service: &Service, address: SocketAddr) -> bool {
    service.clusters.iter().flat_map(|cluster| &cluster.endpoints).any(|e| e.spec.address == address)
}

fn opening(address: SocketAddr, service: &Service, port: &Port) -> String {
    let name = if port.name.is_empty() { String::new() } else { format!(" ({})", port.name) };
    format!(
        "{address}/{} is port {}{name} of Service {}, which opted in with evenkeel.io/balance={}.",
        protocol_word(port.protocol),
        port.number,
        service.spec.name,
        balance_word(service.spec.balance)
    )
}

fn heartbeat(kernel: &KernelFacts, stance: Stance) -> String {
    let Some(age) = kernel.heartbeat_age else {
        return "The agent's heart has not beaten yet: every connect is left alone.".to_owned();
    };
    let (age, stale, aside) =
        (age.as_millis(), kernel.stale_after.as_millis(), kernel.stand_aside_after.as_millis());
    match stance {
        Stance::Serve => format!("The agent's heartbeat is {age} ms old, fresh below {stale} ms."),
        Stance::Kernel => format!(
            "The agent's heartbeat is {age} ms old, stale from {stale} ms: the kernel balances everything itself."
        ),
        Stance::Aside => format!(
            "The agent's heartbeat is {age} ms old; from {aside} ms the endpoints are not trusted and every connect \
             is left alone."
        ),
    }
}

fn plan(facts: &dyn Facts, service: &Service, cluster: &Cluster) -> String {
    let Plan { active, priority, reason } = &cluster.plan;
    let count = format!("{} of {} endpoints take new traffic", active.len(), cluster.endpoints.len());
    let zone = facts.identity().zone;
    let policy = zone_word(service.spec.zone);
    let because = match (reason, service.spec.zone, zone.is_empty()) {
        (Reason::NoEndpoint, _, _) if cluster.endpoints.is_empty() => "discovery lists none".to_owned(),
        (Reason::NoEndpoint, _, _) => "none is healthy or draining".to_owned(),
        (Reason::OnlyDraining, _, _) => "nothing is healthy, and what is draining still serves".to_owned(),
        (Reason::FailedOver, _, _) => {
            format!("nothing nearer is healthy, so priority {priority} serves (zone policy {policy})")
        }
        (Reason::Preferred, ZonePolicy::Ignore, _) => "zone policy ignore: all zones are alike".to_owned(),
        (Reason::Preferred, _, true) => "this node's zone is unknown, so all zones are alike".to_owned(),
        (Reason::Preferred, _, false) if active_are_local(cluster, &zone) => {
            format!("those of this node's zone {zone} (zone policy {policy})")
        }
        (Reason::Preferred, _, false) => {
            format!("none is listed in this node's zone {zone}, so the others serve (zone policy {policy})")
        }
    };
    format!("{count}: {because} [{}].", reason.code())
}

fn active_are_local(cluster: &Cluster, zone: &str) -> bool {
    cluster.active().all(|endpoint| *endpoint.spec.zone == *zone)
}

/// Tells by which path the port is balanced. False when it is per request and no pod has a listener.
fn path(
    steps: &mut Vec<String>,
    facts: &dyn Facts,
    service: &Service,
    port: &Port,
    stance: Stance,
    v4: bool,
) -> bool {
    if service.spec.balance == Balance::Connection {
        steps.push("It is balanced per connection: the kernel chooses at connect().".to_owned());
        return true;
    }
    if !service.per_request(port) {
        let why =
            if port.protocol == Protocol::Udp { "is UDP" } else { "speaks something that is never opened" };
        steps.push(format!(
            "The port {why}, so it is balanced per connection: the kernel chooses at connect()."
        ));
        return true;
    }
    steps.push(
        match port.application {
            Application::Http2 => "The port speaks HTTP/2, so it is balanced per request.",
            _ => {
                "The port does not say what it speaks: the request path looks at the first bytes, balances HTTP/2 per \
                 request and everything else per connection."
            }
        }
        .to_owned(),
    );
    if stance != Stance::Serve {
        return true;
    }
    let pods = facts.pods();
    let deaf: Vec<&PodFacts> =
        pods.iter().filter(|pod| !if v4 { pod.listens_v4 } else { pod.listens_v6 }).collect();
    steps.push(listeners(&pods, &deaf, v4));
    deaf.len() < pods.len()
}

fn listeners(pods: &[PodFacts], deaf: &[&PodFacts], v4: bool) -> String {
    let family = if v4 { "IPv4" } else { "IPv6" };
    if pods.is_empty() {
        return "No pod's namespace has been found on this node: whatever connects is balanced in the kernel."
            .to_owned();
    }
    let all = pods.len();
    let listening = all - deaf.len();
    let there = format!("The request path listens on {family} in {listening} of {all} pods on this node");
    if deaf.is_empty() {
        return format!("{there}.");
    }
    let named: Vec<&str> = deaf.iter().take(NAMED_PODS).map(|pod| pod.name.as_str()).collect();
    let more = if deaf.len() > NAMED_PODS { ", …" } else { "" };
    format!("{there}; the others are balanced in the kernel: {}{more}.", named.join(", "))
}

fn conclusion(verdict: Verdict, service: &Service, cluster: &Cluster) -> String {
    match verdict {
        Verdict::Untouched => {
            "So a connect is left untouched: the node's own rules for the Service apply.".to_owned()
        }
        Verdict::Kernel if cluster.plan.active.len() == 1 => "So the kernel sends it to that one.".to_owned(),
        Verdict::Kernel => {
            "So the kernel draws two of them by weight and takes the one with fewer open sockets per \
                            weight."
                .to_owned()
        }
        Verdict::Request => {
            let rule = match service.strategy {
                Strategy::LeastRequest => {
                    "two are drawn by weight, and the one with fewer requests in flight per weight takes it"
                }
                Strategy::PeakEwma => {
                    "two are drawn by weight, and the one with less expected latency times requests in flight per \
                     weight takes it"
                }
                Strategy::WeightedRoundRobin => "they take turns by the weights that their load reports give",
                Strategy::RoundRobin => "they take turns by weight",
                Strategy::Random => "one is drawn by weight",
                Strategy::RingHash => {
                    "its hash has a place on a ring, and the next endpoint on it that is not overloaded takes it"
                }
                Strategy::Maglev => "its hash has an entry in a table filled by weight",
                Strategy::Prequal => {
                    "a few are drawn by weight, and the fastest of those that are not overloaded takes it, by their \
                     answers to probes"
                }
            };
            let of = cluster.plan.active.len();
            format!(
                "So the kernel hands the connection to the request path, and each request goes to one of {of} by {}: \
                 {rule}.",
                service.strategy.name()
            )
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Untouched => "untouched",
        Verdict::Kernel => "kernel",
        Verdict::Request => "request",
    }
}
