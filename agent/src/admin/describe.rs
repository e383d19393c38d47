// SPDX-License-Identifier: Apache-2.0
//! Snapshot and facts into the messages of the admin API. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use evenkeel_balance::priority::Health;
use evenkeel_proto::admin as api;

use super::facts::{Facts, KernelFacts, stance_word};
use crate::store::{Application, Balance, Cluster, Endpoint, Port, Protocol, Service, Snapshot, ZonePolicy};

/// The agent as a whole.
pub(super) fn status(facts: &dyn Facts) -> api::Status {
    let snapshot = facts.snapshot();
    let identity = facts.identity();
    let missing = facts.readiness().missing();
    // Asked after the snapshot, so that the maps' revision is behind only when the maps are.
    let kernel = facts.kernel();
    api::Status {
        version: identity.version.to_owned(),
        node: identity.node,
        zone: identity.zone,
        generation: identity.generation,
        uptime_seconds: identity.uptime.as_secs(),
        ready: missing.is_empty(),
        not_ready: missing.into_iter().map(str::to_owned).collect(),
        revision: snapshot.revision,
        map_revision: kernel.publications.revision,
        discovery: Some(discovery(facts)),
        kernel: Some(self::kernel(&kernel)),
        request_path: Some(request_path(facts)),
        services: snapshot.services.len() as u64,
        endpoints: snapshot.endpoint_count() as u64,
        faults: faults(facts, &snapshot),
    }
}

fn discovery(facts: &dyn Facts) -> api::Discovery {
    let discovery = facts.discovery();
    api::Discovery {
        address: discovery.address,
        connected: discovery.connected,
        last_message_seconds: discovery.last_message.as_secs(),
        streams_opened: discovery.streams_opened,
        resources_rejected: discovery.resources_rejected,
        source: discovery.source.to_owned(),
        last_error: discovery.last_error,
    }
}

fn kernel(kernel: &KernelFacts) -> api::Kernel {
    let counter = |(name, value): &(&str, u64)| api::Counter { name: (*name).to_owned(), value: *value };
    api::Kernel {
        stance: stance_word(kernel.stance()).to_owned(),
        pins: kernel.pins.display().to_string(),
        cgroup: kernel.cgroup.display().to_string(),
        abi_version: evenkeel_abi::ABI_VERSION,
        heartbeat_age_ms: kernel.heartbeat_age.map_or(u64::MAX, millis),
        counters: kernel.counters.iter().map(counter).collect(),
        maps: kernel
            .maps
            .iter()
            .map(|map| api::Pressure { map: map.map.to_owned(), used: map.used, capacity: map.capacity })
            .collect(),
    }
}

fn request_path(facts: &dyn Facts) -> api::RequestPath {
    let path = facts.request_path();
    api::RequestPath {
        pods: facts.pods().len() as u64,
        client_connections: path.client_connections,
        upstream_connections: path.upstream_connections,
        requests_in_flight: path.in_flight,
        requests: path.requests,
        failures: path.failures,
        draining: facts.readiness().draining,
    }
}

/// Everything that a person should look at.
fn faults(facts: &dyn Facts, snapshot: &Snapshot) -> Vec<String> {
    let pods = facts.pods();
    let deaf = pods.iter().filter_map(|pod| Some(format!("pod {}: {}", pod.name, pod.fault.as_ref()?)));
    snapshot.faults().chain(facts.faults()).chain(deaf).collect()
}

/// All Services.
pub(super) fn services(snapshot: &Snapshot) -> Vec<api::Service> {
    snapshot.services.values().map(|service| self::service(service)).collect()
}

fn service(service: &Service) -> api::Service {
    api::Service {
        name: service.spec.name.to_string(),
        balance: balance_word(service.spec.balance).to_owned(),
        strategy: service.strategy.name().to_owned(),
        zone_policy: zone_word(service.spec.zone).to_owned(),
        addresses: service.spec.addresses.iter().map(ToString::to_string).collect(),
        ports: service.ports().map(|(port, cluster)| self::port(service, port, cluster)).collect(),
        faults: service.faults.clone(),
    }
}

fn port(service: &Service, port: &Port, cluster: &Cluster) -> api::Port {
    api::Port {
        name: port.name.to_string(),
        port: port.number.into(),
        protocol: protocol_word(port.protocol).to_owned(),
        application: application_word(port.application).to_owned(),
        path: if service.per_request(port) { "request" } else { "kernel" }.to_owned(),
        endpoints: cluster.endpoints.len() as u32,
        active: cluster.plan.active.len() as u32,
        plan: cluster.plan.reason.code().to_owned(),
    }
}

/// The endpoints of all ports of a Service, in the order of its ports.
pub(super) fn endpoints(facts: &dyn Facts, service: &Service) -> Vec<api::Endpoint> {
    let sockets = facts.open_sockets();
    service.ports().flat_map(|(port, cluster)| port_endpoints(facts, &sockets, port, cluster)).collect()
}

/// The endpoints of one port.
pub(super) fn port_endpoints(
    facts: &dyn Facts,
    sockets: &HashMap<(SocketAddr, u8), u64>,
    port: &Port,
    cluster: &Cluster,
) -> Vec<api::Endpoint> {
    let describe = |(i, endpoint): (usize, &Endpoint)| {
        let Endpoint { spec, load } = endpoint;
        let open = sockets.get(&(spec.address, port.protocol.number()));
        api::Endpoint {
            port: port.number.into(),
            address: spec.address.to_string(),
            zone: spec.zone.to_string(),
            node: spec.node.to_string(),
            pod: spec.pod.to_string(),
            priority: spec.priority,
            weight: spec.weight.get(),
            health: health_word(spec.health, facts.backing_off(load)).to_owned(),
            active: cluster.plan.active.binary_search(&i).is_ok(),
            open_sockets: open.copied().unwrap_or_default(),
            requests_in_flight: load.in_flight(),
            requests: load.requests(),
            failures: load.failures(),
        }
    };
    cluster.endpoints.iter().enumerate().map(describe).collect()
}

/// Connections: a row per endpoint that the kernel placed sockets on, and a row per client connection of the request path.
pub(super) fn connections(facts: &dyn Facts) -> Vec<api::Connection> {
    let snapshot = facts.snapshot();
    let names = names_by_endpoint(&snapshot);
    let mut placed: Vec<_> = facts.open_sockets().into_iter().filter(|(_, count)| *count > 0).collect();
    placed.sort_unstable();
    let in_kernel = placed.into_iter().map(|((address, protocol), count)| api::Connection {
        path: "kernel".to_owned(),
        service: names.get(&(address, protocol)).map(|names| names.join(" ")).unwrap_or_default(),
        endpoint: address.to_string(),
        count,
        ..api::Connection::default()
    });
    let mut per_request = facts.connections();
    per_request.sort_by(|a, b| (&a.service, &a.pod, &a.client).cmp(&(&b.service, &b.pod, &b.client)));
    let per_request = per_request.into_iter().map(|connection| api::Connection {
        path: "request".to_owned(),
        pod: connection.pod,
        service: connection.service,
        client: connection.client,
        endpoint: connection.endpoint,
        application: connection.application.to_owned(),
        count: 1,
        requests: connection.requests,
        requests_in_flight: connection.in_flight,
        age_seconds: connection.age.as_secs(),
    });
    in_kernel.chain(per_request).collect()
}

/// The Services that list an endpoint; an endpoint may serve several.
fn names_by_endpoint(snapshot: &Snapshot) -> BTreeMap<(SocketAddr, u8), Vec<String>> {
    let mut names: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for service in snapshot.services.values() {
        for (port, cluster) in service.ports() {
            for endpoint in &cluster.endpoints {
                let of = names.entry((endpoint.spec.address, port.protocol.number())).or_default();
                let name = service.spec.name.to_string();
                if !of.contains(&name) {
                    of.push(name);
                }
            }
        }
    }
    names
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn balance_word(balance: Balance) -> &'static str {
    match balance {
        Balance::Connection => "connection",
        Balance::Request => "request",
    }
}

pub(super) fn zone_word(zone: ZonePolicy) -> &'static str {
    match zone {
        ZonePolicy::Prefer => "prefer",
        ZonePolicy::Strict => "strict",
        ZonePolicy::Ignore => "ignore",
    }
}

pub(super) fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

fn application_word(application: Application) -> &'static str {
    match application {
        Application::Unknown => "sniffed",
        Application::Http2 => "http2",
        Application::Opaque => "opaque",
    }
}

fn health_word(health: Health, backing_off: bool) -> &'static str {
    match health {
        Health::Unhealthy => "unhealthy",
        _ if backing_off => "backoff",
        Health::Healthy => "healthy",
        Health::Draining => "draining",
    }
}
