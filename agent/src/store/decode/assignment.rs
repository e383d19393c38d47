// SPDX-License-Identifier: Apache-2.0
//! `envoy.config.endpoint.v3.ClusterLoadAssignment` into [`ClusterSpec`].

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use envoy_types::pb::{
    envoy::config::{
        core::v3::{
            HealthStatus, Locality, Metadata, address::Address as Kind, socket_address::PortSpecifier,
        },
        endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, lb_endpoint::HostIdentifier},
    },
    google::protobuf::{UInt32Value, value},
};
use evenkeel_balance::priority::Health;

use super::{DecodeError, Subject};
use crate::store::{ClusterSpec, EndpointSpec};

/// Where an endpoint's node and pod stand in its metadata: string fields `node` and `pod`.
pub const METADATA_NAMESPACE: &str = "evenkeel.io";

/// Largest priority of the protocol (`LocalityLbEndpoints.priority`).
const PRIORITY_MAX: u32 = 128;

/// Checks one assignment. `name` is the name under which the resource came.
///
/// # Errors
/// The first field that breaks a rule.
pub fn assignment(name: &str, body: &[u8]) -> Result<ClusterSpec, DecodeError> {
    let subject = Subject { kind: "ClusterLoadAssignment", name };
    let message: ClusterLoadAssignment = subject.decode(body)?;
    if message.cluster_name != name {
        let value = format!("{:?}", message.cluster_name);
        return Err(subject.error("cluster_name", value, "must be the resource's name"));
    }
    let mut reader =
        Reader { subject, seen: HashSet::new(), weights: BTreeMap::new(), endpoints: Vec::new() };
    let mut localities = HashSet::new();
    let mut priorities = BTreeSet::new();
    for (i, locality) in message.endpoints.iter().enumerate() {
        let path = format!("endpoints[{i}]");
        if locality.priority > PRIORITY_MAX {
            let rule = format!("must be at most {PRIORITY_MAX}");
            return Err(subject.error(format!("{path}.priority"), locality.priority, rule));
        }
        if !localities.insert((locality.priority, place(locality.locality.as_ref()))) {
            let value = format!("zone {:?}", place(locality.locality.as_ref()).1);
            let rule = format!("is there twice in priority {}", locality.priority);
            return Err(subject.error(format!("{path}.locality"), value, rule));
        }
        weight(&subject, &path, locality.load_balancing_weight)?;
        priorities.insert(locality.priority);
        let zone: Arc<str> = place(locality.locality.as_ref()).1.into();
        for (j, endpoint) in locality.lb_endpoints.iter().enumerate() {
            reader.endpoint(&format!("{path}.lb_endpoints[{j}]"), endpoint, &zone, locality.priority)?;
        }
    }
    check_contiguous(&subject, &priorities)?;
    Ok(ClusterSpec { endpoints: reader.endpoints })
}

/// Region, zone and sub-zone; all empty when the locality is missing, which is allowed.
fn place(locality: Option<&Locality>) -> (&str, &str, &str) {
    locality.map_or(("", "", ""), |l| (l.region.as_str(), l.zone.as_str(), l.sub_zone.as_str()))
}

/// gRFC A27: a gap would make a client wait for a priority that never comes.
fn check_contiguous(subject: &Subject<'_>, priorities: &BTreeSet<u32>) -> Result<(), DecodeError> {
    match priorities.iter().zip(0u32..).find(|(found, expected)| **found != *expected) {
        None => Ok(()),
        Some((found, missing)) => {
            let rule = format!("priorities must be contiguous, and {missing} is missing");
            Err(subject.error("endpoints[].priority", found, rule))
        }
    }
}

/// A weight that is not there is 1.
fn weight(subject: &Subject<'_>, path: &str, value: Option<UInt32Value>) -> Result<NonZeroU32, DecodeError> {
    let value = value.map_or(1, |v| v.value);
    NonZeroU32::new(value)
        .ok_or_else(|| subject.error(format!("{path}.load_balancing_weight"), value, "must be at least 1"))
}

/// What is collected over all localities.
struct Reader<'a> {
    subject: Subject<'a>,
    seen: HashSet<SocketAddr>,
    /// Sum of endpoint weights per priority.
    weights: BTreeMap<u32, u32>,
    endpoints: Vec<EndpointSpec>,
}

impl Reader<'_> {
    fn endpoint(
        &mut self,
        path: &str,
        message: &LbEndpoint,
        zone: &Arc<str>,
        priority: u32,
    ) -> Result<(), DecodeError> {
        let subject = self.subject;
        let Some(HostIdentifier::Endpoint(endpoint)) = &message.host_identifier else {
            return Err(subject.error(format!("{path}.endpoint"), "nothing", "must be there"));
        };
        let address = self.address(&format!("{path}.endpoint.address"), endpoint)?;
        let weight = weight(&subject, path, message.load_balancing_weight)?;
        let sum = self.weights.entry(priority).or_default();
        *sum = sum.checked_add(weight.get()).ok_or_else(|| {
            let rule = format!("the weights of priority {priority} add up to more than {}", u32::MAX);
            subject.error(format!("{path}.load_balancing_weight"), weight, rule)
        })?;
        let (node, pod) = self.origin(path, message.metadata.as_ref())?;
        let health = self.health(path, message.health_status)?;
        self.endpoints.push(EndpointSpec {
            address,
            zone: zone.clone(),
            node,
            pod,
            priority,
            weight,
            health,
        });
        Ok(())
    }

    fn address(&mut self, path: &str, endpoint: &Endpoint) -> Result<SocketAddr, DecodeError> {
        let subject = self.subject;
        let Some(Kind::SocketAddress(socket)) = endpoint.address.as_ref().and_then(|a| a.address.as_ref())
        else {
            return Err(subject.error(format!("{path}.socket_address"), "nothing", "must be there"));
        };
        let path = format!("{path}.socket_address");
        let ip: IpAddr = socket.address.parse().map_err(|_| {
            subject.error(format!("{path}.address"), format!("{:?}", socket.address), "must be an IP address")
        })?;
        let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
            return Err(subject.error(format!("{path}.port_value"), "nothing", "must be there"));
        };
        // A v4-mapped address is the same endpoint.
        let address = SocketAddr::new(ip.to_canonical(), subject.port(&format!("{path}.port_value"), port)?);
        if !self.seen.insert(address) {
            return Err(subject.error(path, address, "is there twice"));
        }
        Ok(address)
    }

    fn health(&self, path: &str, value: i32) -> Result<Health, DecodeError> {
        match HealthStatus::try_from(value) {
            Ok(HealthStatus::Unknown | HealthStatus::Healthy) => Ok(Health::Healthy),
            // Both mean: serves, but only when nobody else can.
            Ok(HealthStatus::Draining | HealthStatus::Degraded) => Ok(Health::Draining),
            Ok(HealthStatus::Unhealthy | HealthStatus::Timeout) => Ok(Health::Unhealthy),
            Err(_) => Err(self.subject.error(format!("{path}.health_status"), value, "is no health status")),
        }
    }

    /// Node and pod; empty when not said.
    fn origin(&self, path: &str, metadata: Option<&Metadata>) -> Result<(Arc<str>, Arc<str>), DecodeError> {
        let ours = metadata.and_then(|m| m.filter_metadata.get(METADATA_NAMESPACE));
        let text = |field: &str| match ours.and_then(|o| o.fields.get(field)).and_then(|v| v.kind.as_ref()) {
            None => Ok(Arc::from("")),
            Some(value::Kind::StringValue(text)) => Ok(Arc::from(text.as_str())),
            Some(other) => {
                let path = format!("{path}.metadata.filter_metadata[{METADATA_NAMESPACE:?}].{field}");
                Err(self.subject.error(path, format!("{other:?}"), "must be a string"))
            }
        };
        Ok((text("node")?, text("pod")?))
    }
}
