// SPDX-License-Identifier: Apache-2.0
//! `evenkeel.discovery.v1.Service` into [`ServiceSpec`].

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use evenkeel_proto::discovery as pb;
use evenkeel_xds::ClusterName;

use super::{DecodeError, Subject};
use crate::store::{Application, Balance, Port, Protocol, ServiceName, ServiceSpec, ZonePolicy};

/// Checks one Service. `name` is the name under which the resource came.
///
/// # Errors
/// The first field that breaks a rule.
pub fn service(name: &str, body: &[u8]) -> Result<ServiceSpec, DecodeError> {
    let subject = Subject { kind: "Service", name };
    let message: pb::Service = subject.decode(body)?;
    let own = format!("{}/{}", message.namespace, message.name);
    evenkeel_xds::ServiceName::new(&message.namespace, &message.name)
        .map_err(|error| subject.error("name", format!("{own:?}"), error.to_string()))?;
    if own != name {
        return Err(subject.error("name", format!("{own:?}"), "must be the resource's name"));
    }
    Ok(ServiceSpec {
        name: ServiceName {
            namespace: message.namespace.as_str().into(),
            name: message.name.as_str().into(),
        },
        balance: balance(&subject, message.balance)?,
        strategy: strategy(&subject, message.strategy)?,
        zone: zone(&subject, message.zone)?,
        addresses: addresses(&subject, &message.addresses)?,
        ports: ports(&subject, &message.ports)?,
        faults: message.faults,
    })
}

fn balance(subject: &Subject<'_>, value: i32) -> Result<Balance, DecodeError> {
    match pb::Balance::try_from(value) {
        Ok(pb::Balance::Connection) => Ok(Balance::Connection),
        Ok(pb::Balance::Request) => Ok(Balance::Request),
        Ok(pb::Balance::Unspecified) | Err(_) => {
            Err(subject.error("balance", value, "must be 1 (connection) or 2 (request)"))
        }
    }
}

/// The name of the strategy as users write it. One that this agent cannot build is the store's business, a number that has
/// no name is an error.
fn strategy(subject: &Subject<'_>, value: i32) -> Result<Arc<str>, DecodeError> {
    let name = match pb::Strategy::try_from(value) {
        Ok(pb::Strategy::LeastRequest | pb::Strategy::Unspecified) => "least-request",
        Ok(pb::Strategy::PeakEwma) => "peak-ewma",
        Ok(pb::Strategy::WeightedRoundRobin) => "weighted-round-robin",
        Ok(pb::Strategy::RoundRobin) => "round-robin",
        Ok(pb::Strategy::Random) => "random",
        Ok(pb::Strategy::RingHash) => "ring-hash",
        Ok(pb::Strategy::Maglev) => "maglev",
        Err(_) => return Err(subject.error("strategy", value, "is no strategy that this agent knows")),
    };
    Ok(name.into())
}

fn zone(subject: &Subject<'_>, value: i32) -> Result<ZonePolicy, DecodeError> {
    match pb::ZonePolicy::try_from(value) {
        Ok(pb::ZonePolicy::Prefer | pb::ZonePolicy::Unspecified) => Ok(ZonePolicy::Prefer),
        Ok(pb::ZonePolicy::Strict) => Ok(ZonePolicy::Strict),
        Ok(pb::ZonePolicy::Ignore) => Ok(ZonePolicy::Ignore),
        Err(_) => Err(subject.error("zone", value, "must be 1 (prefer), 2 (strict) or 3 (ignore)")),
    }
}

fn addresses(subject: &Subject<'_>, texts: &[String]) -> Result<Vec<IpAddr>, DecodeError> {
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let path = || format!("addresses[{i}]");
        let address =
            text.parse().map_err(|_| subject.error(path(), format!("{text:?}"), "must be an IP address"))?;
        if addresses.contains(&address) {
            return Err(subject.error(path(), address, "is there twice"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn ports(subject: &Subject<'_>, messages: &[pb::Port]) -> Result<Vec<Port>, DecodeError> {
    let mut seen = HashSet::new();
    let mut ports = Vec::with_capacity(messages.len());
    for (i, message) in messages.iter().enumerate() {
        let path = |field: &str| format!("ports[{i}].{field}");
        let number = subject.port(&path("port"), message.port)?;
        let protocol = match pb::Protocol::try_from(message.protocol) {
            Ok(pb::Protocol::Tcp) => Protocol::Tcp,
            Ok(pb::Protocol::Udp) => Protocol::Udp,
            _ => return Err(subject.error(path("protocol"), message.protocol, "must be 1 (TCP) or 2 (UDP)")),
        };
        let application = match pb::Application::try_from(message.application) {
            Ok(pb::Application::Unspecified) => Application::Unknown,
            Ok(pb::Application::Http2) => Application::Http2,
            Ok(pb::Application::Opaque) => Application::Opaque,
            Err(_) => {
                let rule = "must be 0 (not said), 1 (HTTP/2) or 2 (opaque)";
                return Err(subject.error(path("application"), message.application, rule));
            }
        };
        if let Err(error) = message.cluster.parse::<ClusterName>() {
            return Err(subject.error(path("cluster"), format!("{:?}", message.cluster), error.to_string()));
        }
        if !seen.insert((number, protocol)) {
            return Err(subject.error(path("port"), number, "is there twice for this protocol"));
        }
        let (name, cluster) = (message.name.as_str().into(), message.cluster.as_str().into());
        ports.push(Port { name, number, protocol, application, cluster });
    }
    Ok(ports)
}
