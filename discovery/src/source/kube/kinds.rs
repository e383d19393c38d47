// SPDX-License-Identifier: Apache-2.0
//! The kinds that are watched, reduced while they are parsed to what balancing needs.
//!
//! `managedFields`, status and annotations of others are skipped by the parser, never held. Nodes and Pods are asked for
//! as `PartialObjectMetadata`, so that their spec and status do not even cross the network. Deliberately not here: what a
//! label means ([`crate::options`]).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::objects::SERVICE_LABEL;
use crate::options;
use crate::source::{Change, Event, ObjectKey, PodLabels};

/// Labels of Nodes that are kept: zone and region.
const TOPOLOGY: &str = "topology.kubernetes.io/";

/// A kind of object and how it is asked for.
pub(super) trait Kind: Send + 'static {
    /// The object, as far as it is parsed.
    type Wire: DeserializeOwned + Send;
    /// As in `kind`.
    const NAME: &'static str;
    /// As in a path and in a ClusterRole.
    const RESOURCE: &'static str;
    /// API group and version, as in a path.
    const API: &'static str;
    /// Ask for `PartialObjectMetadata`.
    const METADATA_ONLY: bool;
    /// Label selector, or empty.
    const SELECTOR: &'static str;

    /// Its metadata.
    fn meta(wire: &Self::Wire) -> &Meta;
    /// It exists.
    fn applied(wire: Self::Wire) -> Change;
    /// It is gone.
    fn deleted(key: ObjectKey) -> Change;
}

/// What is read of `metadata`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
    creation_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Meta {
    /// Namespace and name.
    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace.clone(), self.name.clone())
    }

    /// Only the labels and annotations for which `keep` holds.
    fn reduce(self, keep: impl Fn(&str) -> bool) -> ObjectMeta {
        let reduced = |pairs: Option<BTreeMap<String, String>>| {
            let mut pairs = pairs?;
            pairs.retain(|key, _| keep(key));
            (!pairs.is_empty()).then_some(pairs)
        };
        ObjectMeta {
            name: Some(self.name),
            namespace: Some(self.namespace).filter(|namespace| !namespace.is_empty()),
            uid: Some(self.uid),
            resource_version: Some(self.resource_version),
            creation_timestamp: self.creation_timestamp,
            labels: reduced(self.labels),
            annotations: reduced(self.annotations),
            ..ObjectMeta::default()
        }
    }
}

fn is_ours(key: &str) -> bool {
    key.starts_with(options::PREFIX)
}

/// All Services: those that have not opted in are needed to tell their slices from those of no Service.
pub(super) struct Services;

#[derive(Deserialize)]
pub(super) struct WireService {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: WireServiceSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireServiceSpec {
    #[serde(rename = "type")]
    type_: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    ports: Option<Vec<ServicePort>>,
}

impl Kind for Services {
    type Wire = WireService;
    const NAME: &'static str = "Service";
    const RESOURCE: &'static str = "services";
    const API: &'static str = "/api/v1";
    const METADATA_ONLY: bool = false;
    const SELECTOR: &'static str = "";

    fn meta(wire: &WireService) -> &Meta {
        &wire.metadata
    }

    fn applied(wire: WireService) -> Change {
        let WireServiceSpec { type_, cluster_ip, cluster_ips, ports } = wire.spec;
        Change::Service(Event::Applied(Box::new(Service {
            metadata: wire.metadata.reduce(is_ours),
            spec: Some(ServiceSpec { type_, cluster_ip, cluster_ips, ports, ..ServiceSpec::default() }),
            status: None,
        })))
    }

    fn deleted(key: ObjectKey) -> Change {
        Change::Service(Event::Deleted(key))
    }
}

/// EndpointSlices of Services that have a virtual address. Those of headless Services are never balanced; kube-proxy
/// leaves them out by the same label.
pub(super) struct Slices;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireSlice {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    address_type: String,
    endpoints: Option<Vec<WireEndpoint>>,
    ports: Option<Vec<EndpointPort>>,
}

/// Hints are somebody else's plan; our own decides.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireEndpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<EndpointConditions>,
    node_name: Option<String>,
    target_ref: Option<WireTarget>,
    zone: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireTarget {
    kind: Option<String>,
    name: Option<String>,
}

impl Kind for Slices {
    type Wire = WireSlice;
    const NAME: &'static str = "EndpointSlice";
    const RESOURCE: &'static str = "endpointslices";
    const API: &'static str = "/apis/discovery.k8s.io/v1";
    const METADATA_ONLY: bool = false;
    const SELECTOR: &'static str = "kubernetes.io/service-name,!service.kubernetes.io/headless";

    fn meta(wire: &WireSlice) -> &Meta {
        &wire.metadata
    }

    fn applied(wire: WireSlice) -> Change {
        let WireSlice { metadata, address_type, endpoints, ports } = wire;
        let endpoints = endpoints.map(|endpoints| endpoints.into_iter().map(Endpoint::from).collect());
        Change::Slice(Event::Applied(Box::new(EndpointSlice {
            metadata: metadata.reduce(|key| key == SERVICE_LABEL || is_ours(key)),
            address_type,
            endpoints,
            ports,
        })))
    }

    fn deleted(key: ObjectKey) -> Change {
        Change::Slice(Event::Deleted(key))
    }
}

impl From<WireEndpoint> for Endpoint {
    fn from(wire: WireEndpoint) -> Self {
        let target = |WireTarget { kind, name }| ObjectReference { kind, name, ..ObjectReference::default() };
        Self {
            addresses: wire.addresses.unwrap_or_default(),
            conditions: wire.conditions,
            node_name: wire.node_name,
            target_ref: wire.target_ref.map(target),
            zone: wire.zone,
            ..Self::default()
        }
    }
}

/// Nodes' labels, for zones.
pub(super) struct Nodes;

/// An object of which only the metadata was asked for.
#[derive(Deserialize)]
pub(super) struct MetadataOnly {
    #[serde(default)]
    metadata: Meta,
}

impl Kind for Nodes {
    type Wire = MetadataOnly;
    const NAME: &'static str = "Node";
    const RESOURCE: &'static str = "nodes";
    const API: &'static str = "/api/v1";
    const METADATA_ONLY: bool = true;
    const SELECTOR: &'static str = "";

    fn meta(wire: &MetadataOnly) -> &Meta {
        &wire.metadata
    }

    fn applied(wire: MetadataOnly) -> Change {
        let metadata = wire.metadata.reduce(|key| key.starts_with(TOPOLOGY));
        Change::Node(Event::Applied(Box::new(Node { metadata, ..Node::default() })))
    }

    fn deleted(key: ObjectKey) -> Change {
        Change::Node(Event::Deleted(key))
    }
}

/// Pods' labels, for subsets.
pub(super) struct Pods;

impl Kind for Pods {
    type Wire = MetadataOnly;
    const NAME: &'static str = "Pod";
    const RESOURCE: &'static str = "pods";
    const API: &'static str = "/api/v1";
    const METADATA_ONLY: bool = true;
    const SELECTOR: &'static str = "";

    fn meta(wire: &MetadataOnly) -> &Meta {
        &wire.metadata
    }

    fn applied(wire: MetadataOnly) -> Change {
        let labels = PodLabels { key: wire.metadata.key(), labels: wire.metadata.labels.unwrap_or_default() };
        Change::Pod(Event::Applied(Box::new(labels)))
    }

    fn deleted(key: ObjectKey) -> Change {
        Change::Pod(Event::Deleted(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_keeps_our_keys_and_its_ports_and_drops_the_rest() {
        let text = r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"demo","uid":"u","resourceVersion":"7",
            "creationTimestamp":"2026-01-02T03:04:05Z","managedFields":[{"manager":"kubectl","fieldsV1":{"f:x":{}}}],
            "labels":{"app":"web","evenkeel.io/balance":"request"},
            "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}","evenkeel.io/zone":"strict"}},
            "spec":{"clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00::1"],"ipFamilies":["IPv4","IPv6"],"selector":{"app":"web"},
            "ports":[{"name":"grpc","port":80,"targetPort":"grpc","protocol":"TCP"}]},"status":{"loadBalancer":{}}}"#;
        let Change::Service(Event::Applied(service)) = Services::applied(serde_json::from_str(text).unwrap())
        else {
            panic!()
        };
        let keys = |pairs: &Option<BTreeMap<String, String>>| {
            pairs.iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&service.metadata.labels), ["evenkeel.io/balance"]);
        assert_eq!(keys(&service.metadata.annotations), ["evenkeel.io/zone"]);
        assert!(service.metadata.creation_timestamp.is_some() && service.metadata.managed_fields.is_none());
        let spec = service.spec.unwrap();
        assert_eq!(spec.cluster_ips.unwrap().len(), 2);
        assert_eq!(spec.ports.unwrap()[0].name.as_deref(), Some("grpc"));
        assert_eq!(spec.selector, None);
    }

    #[test]
    fn a_placeholder_slice_without_endpoints_can_be_read() {
        let text = r#"{"metadata":{"name":"web-1","namespace":"demo","labels":{"kubernetes.io/service-name":"web","x":"y"}},
            "addressType":"IPv4","endpoints":null,"ports":null}"#;
        let Change::Slice(Event::Applied(slice)) = Slices::applied(serde_json::from_str(text).unwrap())
        else {
            panic!()
        };
        assert_eq!(slice.metadata.labels.unwrap().len(), 1);
        assert_eq!((slice.endpoints, slice.ports), (None, None));
    }

    #[test]
    fn a_node_keeps_its_topology_only() {
        let text = r#"{"kind":"PartialObjectMetadata","metadata":{"name":"a","labels":{"topology.kubernetes.io/zone":"z","os":"linux"}}}"#;
        let Change::Node(Event::Applied(node)) = Nodes::applied(serde_json::from_str(text).unwrap()) else {
            panic!()
        };
        assert_eq!(crate::objects::zone_of(&node), Some("z"));
        assert_eq!(node.metadata.labels.unwrap().len(), 1);
    }
}
