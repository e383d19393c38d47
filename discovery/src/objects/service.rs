// SPDX-License-Identifier: Apache-2.0
//! A Service, reduced to its options, addresses and ports.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_proto::discovery::Application;
use evenkeel_xds::{ClusterName, Protocol};
use k8s_openapi::api::core::v1 as core;

use super::{Notes, Read, key_of, read_protocol};
use crate::fault::{Fault, FaultKind};
use crate::options::{self, Options};
use crate::source::ObjectKey;

/// A Service, whether opted in or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `None`: not opted in, or nothing to balance.
    pub options: Option<Options>,
    /// Cluster IPs in the order given.
    pub addresses: Vec<IpAddr>,
    /// TCP and UDP ports.
    pub ports: Vec<ServicePort>,
    /// When it was created, in seconds since 1970; what does not say so counts as younger than what does.
    pub created: Option<i64>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// May be empty if it is the only one.
    pub name: String,
    /// The port that clients dial.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What it speaks, if that is said.
    pub application: Application,
    /// Name of its xDS resources.
    pub cluster: Arc<str>,
}

// === impl Service ===

impl Service {
    /// Reads a Service; `last` are the options in force until now.
    pub fn read(object: &core::Service, last: Option<&Options>) -> Read<Self> {
        let key = key_of(&object.metadata);
        let mut notes = Notes::new(format!("Service {key}"));
        let none = options::Pairs::new();
        let labels = object.metadata.labels.as_ref().unwrap_or(&none);
        let annotations = object.metadata.annotations.as_ref().unwrap_or(&none);
        let (mut options, faults) = options::parse(&notes.object, labels, annotations, last);
        notes.faults.extend(faults);

        let mut addresses = Vec::new();
        let mut ports = Vec::new();
        if options.is_some() {
            let spec = object.spec.clone().unwrap_or_default();
            if let Some(reason) = nothing_to_balance(&spec) {
                notes.faults.push(Fault::new(
                    FaultKind::NothingToBalance,
                    format!("{}: there is nothing to balance: {reason}; it is left untouched", notes.object),
                ));
                options = None;
            } else {
                addresses = read_addresses(&spec, &mut notes);
                ports = read_ports(&key, &spec, &mut notes);
            }
        }
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
        notes.done(Self { key, options, addresses, ports, created })
    }
}

fn nothing_to_balance(spec: &core::ServiceSpec) -> Option<&'static str> {
    let listed = || spec.cluster_ips.as_ref().and_then(|listed| listed.first()).map(String::as_str);
    let first = spec.cluster_ip.as_deref().or_else(listed);
    if spec.type_.as_deref() == Some("ExternalName") {
        Some("spec.type is ExternalName")
    } else if first == Some("None") {
        Some("spec.clusterIP is None (headless)")
    } else {
        None
    }
}

fn read_addresses(spec: &core::ServiceSpec, notes: &mut Notes) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.clone().unwrap_or_default();
    let texts = if listed.is_empty() { spec.cluster_ip.clone().into_iter().collect() } else { listed };
    let mut addresses = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        match text.parse::<IpAddr>() {
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
            Err(_) => notes.broken("spec.clusterIPs", &format!("{text:?} is not an IP address")),
        }
    }
    if addresses.is_empty() {
        notes.broken(
            "spec.clusterIP",
            "is missing, so there is no address whose connections could be balanced",
        );
    }
    addresses
}

fn read_ports(key: &ObjectKey, spec: &core::ServiceSpec, notes: &mut Notes) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let field = format!("spec.ports[{index}]");
        let Some(protocol) = read_protocol(port.protocol.as_deref()) else {
            let protocol = port.protocol.as_deref().unwrap_or_default();
            notes.fault(
                FaultKind::Field,
                &format!("{field}.protocol"),
                &format!("{protocol:?} is not balanced; TCP and UDP are"),
            );
            continue;
        };
        let cluster = u16::try_from(port.port)
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| format!("{} is not a port number (1 to 65535)", port.port))
            .and_then(|number| {
                ClusterName::new(&key.name, &key.namespace, number, protocol)
                    .map(|cluster| (number, Arc::from(cluster.to_string())))
                    .map_err(|error| error.to_string())
            });
        match cluster {
            Err(reason) => notes.broken(&format!("{field}.port"), &reason),
            Ok((number, _)) if !seen.insert((number, protocol)) => {
                notes.fault(
                    FaultKind::Duplicate,
                    &format!("{field}.port"),
                    &format!("{number} is there twice; the first stays"),
                );
            }
            Ok((number, cluster)) => ports.push(ServicePort {
                name: port.name.clone().unwrap_or_default(),
                port: number,
                protocol,
                application: application(port.app_protocol.as_deref(), port.name.as_deref(), protocol),
                cluster,
            }),
        }
    }
    ports
}

/// What a port speaks: `appProtocol` decides, else its name, else nobody has said.
fn application(app_protocol: Option<&str>, name: Option<&str>, protocol: Protocol) -> Application {
    if protocol != Protocol::Tcp {
        return Application::Opaque;
    }
    match app_protocol.map(str::to_ascii_lowercase).as_deref() {
        Some("kubernetes.io/h2c" | "grpc") => Application::Http2,
        Some(_) => Application::Opaque,
        None => match name {
            Some(name) if name.starts_with("grpc") || name.starts_with("http2") => Application::Http2,
            _ => Application::Unspecified,
        },
    }
}
