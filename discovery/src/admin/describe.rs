// SPDX-License-Identifier: Apache-2.0
//! Services and clients into messages. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints};
use envoy_types::pb::google::protobuf::value::Kind;
use evenkeel_proto::discovery as resource;
use evenkeel_proto::discovery_admin as api;
use evenkeel_xds::server::TypeReport;
use evenkeel_xds::{EncodedResource, Protocol, Version};
use prost::Message as _;
use tokio::time::Instant;

use crate::registry::{Client, Progress};
use crate::translate::METADATA;
use crate::view::PortView;

/// A Service with counts of its endpoints.
pub(super) fn service<'v>(
    resource: &EncodedResource,
    ports: impl Iterator<Item = &'v PortView>,
) -> api::ServiceSummary {
    // Encoded by ourselves: it decodes. If it ever did not, the name is still right.
    let message = resource::Service::decode(resource.body()).unwrap_or_default();
    api::ServiceSummary {
        name: resource.name().to_string(),
        balance: word(message.balance().as_str_name(), "BALANCE_"),
        strategy: word(message.strategy().as_str_name(), "STRATEGY_"),
        zone_policy: word(message.zone().as_str_name(), "ZONE_POLICY_"),
        addresses: message.addresses,
        ports: ports.map(port).collect(),
        faults: message.faults,
    }
}

fn port(view: &PortView) -> api::PortSummary {
    let ready = || view.endpoints.iter().filter(|endpoint| !endpoint.draining);
    let zones: BTreeSet<&str> = ready().map(|endpoint| &*endpoint.zone).collect();
    api::PortSummary {
        name: view.port.name.to_string(),
        port: view.port.port.into(),
        protocol: protocol_word(view.port.protocol).to_owned(),
        cluster: view.port.cluster.to_string(),
        ready: ready().count() as u32,
        draining: (view.endpoints.len() - ready().count()) as u32,
        zones: zones.into_iter().filter(|zone| !zone.is_empty()).map(str::to_owned).collect(),
    }
}

/// The endpoints of a port as they are served.
pub(super) fn endpoints(port: &api::PortSummary, served: &EncodedResource) -> Vec<api::Endpoint> {
    let assignment = ClusterLoadAssignment::decode(served.body()).unwrap_or_default();
    let of = |locality: &LocalityLbEndpoints| -> Vec<api::Endpoint> {
        locality.lb_endpoints.iter().map(|endpoint| self::endpoint(port, locality, endpoint)).collect()
    };
    assignment.endpoints.iter().flat_map(of).collect()
}

fn endpoint(port: &api::PortSummary, locality: &LocalityLbEndpoints, endpoint: &LbEndpoint) -> api::Endpoint {
    let place = locality.locality.clone().unwrap_or_default();
    let text = |key| metadata_text(endpoint.metadata.as_ref(), key);
    api::Endpoint {
        port: port.port,
        protocol: port.protocol.clone(),
        address: address(endpoint),
        zone: if place.region.is_empty() { place.zone } else { format!("{}/{}", place.region, place.zone) },
        node: text("node"),
        pod: text("pod"),
        priority: locality.priority,
        weight: endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value),
        health: match endpoint.health_status() {
            HealthStatus::Healthy | HealthStatus::Unknown => "healthy",
            HealthStatus::Draining => "draining",
            _ => "unhealthy",
        }
        .to_owned(),
    }
}

fn address(endpoint: &LbEndpoint) -> String {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { return String::new() };
    match endpoint.address.as_ref().and_then(|address| address.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => {
            let port = match socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => port,
                _ => 0,
            };
            match socket.address.contains(':') {
                true => format!("[{}]:{port}", socket.address),
                false => format!("{}:{port}", socket.address),
            }
        }
        _ => String::new(),
    }
}

fn metadata_text(metadata: Option<&Metadata>, key: &str) -> String {
    let fields = metadata.and_then(|metadata| metadata.filter_metadata.get(METADATA));
    match fields.and_then(|fields| fields.fields.get(key)).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

/// A client as it is now.
pub(super) fn client(client: &Client, now: Instant) -> api::Client {
    let since = |then: Instant| now.saturating_duration_since(then);
    // What has just begun is not nothing.
    let pending = |then: Option<Instant>| then.map_or(0, |then| millis(since(then)).max(1));
    let Progress { behind_since, blocked_since, rejected, last_rejection, requests, responses, heard } =
        &client.progress;
    api::Client {
        stream: client.stream,
        id: client.id.to_string(),
        kind: client.kind.as_str().to_owned(),
        user_agent: client.user_agent.to_string(),
        zone: client.zone.to_string(),
        peer: client.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        variant: client.variant.to_owned(),
        age_seconds: since(client.since).as_secs(),
        in_sync: behind_since.is_none(),
        behind_ms: pending(*behind_since),
        not_reading_ms: pending(*blocked_since),
        rejected: *rejected as u64,
        last_rejection: last_rejection.as_deref().unwrap_or_default().to_owned(),
        requests: *requests,
        responses: *responses,
        last_heard_ms: millis(since(*heard)),
    }
}

/// Those that need a look first: rejecting, then out of sync, the longest first; then by name.
pub(super) fn sort(clients: &mut [api::Client]) {
    use std::cmp::Reverse;
    clients.sort_by(|a, b| {
        let rank = |c: &api::Client| (Reverse(c.rejected > 0), c.in_sync, Reverse(c.behind_ms));
        rank(a).cmp(&rank(b)).then_with(|| (&a.id, a.stream).cmp(&(&b.id, b.stream)))
    });
}

/// What a client wants, holds and rejects of one type.
pub(super) fn subscription(report: &TypeReport) -> api::Subscription {
    api::Subscription {
        type_url: report.type_url.to_string(),
        wildcard: report.wildcard,
        names: report.names.len() as u64,
        in_sync: report.in_sync,
        resources: held(report),
    }
}

fn held(report: &TypeReport) -> Vec<api::Held> {
    /// Later steps say more than earlier ones.
    type Names<'r> = BTreeMap<&'r Arc<str>, (Option<Version>, &'static str, &'r str)>;
    let mut all: Names<'_> = report.names.iter().map(|name| (name, (None, "absent", ""))).collect();
    all.extend(report.told.iter().map(|(name, version)| (name, (Some(*version), "acknowledged", ""))));
    all.extend(report.unacknowledged.iter().map(|(name, version)| (name, (Some(*version), "sent", ""))));
    for name in &report.pending {
        all.entry(name).or_insert((None, "", "")).1 = "pending";
    }
    all.extend(
        report.rejected.iter().map(|(name, version, why)| (name, (Some(*version), "rejected", &**why))),
    );
    let message = |(name, (version, state, reason)): (&Arc<str>, (Option<Version>, &str, &str))| api::Held {
        name: name.to_string(),
        version: version.map(|version| version.to_string()).unwrap_or_default(),
        state: state.to_owned(),
        reason: reason.to_owned(),
    };
    all.into_iter().map(message).collect()
}

pub(super) fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

/// `ZONE_POLICY_PREFER` → `prefer`, as labels and annotations say it.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', "-")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::of(text.as_bytes())
    }

    #[test]
    fn words_are_those_of_labels_and_annotations() {
        use evenkeel_proto::discovery::{Strategy, ZonePolicy};
        assert_eq!(word(Strategy::LeastRequest.as_str_name(), "STRATEGY_"), "least-request");
        assert_eq!(word(ZonePolicy::Ignore.as_str_name(), "ZONE_POLICY_"), "ignore");
    }

    #[test]
    fn each_name_of_a_subscription_is_in_one_state() {
        let report = TypeReport {
            names: ["gone", "held"].map(Arc::from).to_vec(),
            told: ["held", "bad", "sent", "changed"].map(|name| (name.into(), version(name))).to_vec(),
            unacknowledged: vec![("sent".into(), version("new"))],
            pending: ["changed", "new"].map(Arc::from).to_vec(),
            rejected: vec![("bad".into(), version("bad"), "no ports".into())],
            ..TypeReport::default()
        };
        let held = held(&report);
        let states: Vec<_> = held.iter().map(|held| (&*held.name, &*held.state)).collect();
        let expected = [
            ("bad", "rejected"),
            ("changed", "pending"),
            ("gone", "absent"),
            ("held", "acknowledged"),
            ("new", "pending"),
            ("sent", "sent"),
        ];
        assert_eq!(states, expected);
        assert_eq!((&*held[0].reason, &*held[5].version), ("no ports", &*version("new").to_string()));
        assert_eq!((held[1].version.is_empty(), held[4].version.is_empty()), (false, true));
    }

    #[test]
    fn clients_that_need_a_look_come_first() {
        let client = |id: &str, rejected, behind_ms| api::Client {
            id: id.into(),
            rejected,
            behind_ms,
            in_sync: behind_ms == 0,
            ..api::Client::default()
        };
        let mut clients = [
            client("b", 0, 0),
            client("late", 0, 5),
            client("later", 0, 9),
            client("a", 0, 0),
            client("rejects", 1, 0),
        ];
        sort(&mut clients);
        assert_eq!(clients.map(|client| client.id), ["rejects", "later", "late", "a", "b"]);
    }
}
