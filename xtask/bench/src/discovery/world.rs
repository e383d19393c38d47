// SPDX-License-Identifier: Apache-2.0
//! A cluster of any size as an API server tells it, and single changes to it.
//!
//! Objects look like those of a real cluster: node names, zones, pod references, conditions, owners and `managedFields`
//! are all there, since the server has to step over them. Only the first [`CHANGING`] Services ever change, and the large
//! one that rolling updates replace; of all others nothing is kept here but their text. Pure.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    apiserver::{Kind, Lists, event},
    plan::{CHANGING, Run},
};

/// Zones that endpoints and clients are in, in turn.
pub(super) const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
/// Endpoints in a slice: what the Kubernetes controller fills one up to.
const PER_SLICE: usize = 100;
const NODES: usize = 300;
const FIRST_ADDRESS: u32 = u32::from_be_bytes([10, 128, 0, 0]);
/// Endpoints that replace others count up from here.
const FIRST_NEW_ADDRESS: u32 = u32::from_be_bytes([10, 200, 0, 0]);

/// What of the cluster can change.
pub(super) struct World {
    /// The Services that change, by their number, with the addresses of each slice.
    changing: Vec<(usize, Vec<Vec<Ipv4Addr>>)>,
    replaced: u32,
    version: u64,
}

/// A change that is ready to be told.
pub(super) struct Draft {
    /// The Service's number.
    pub(super) service: usize,
    /// The address that appears.
    pub(super) address: Ipv4Addr,
    /// The slice's new version.
    pub(super) version: u64,
    /// The watch event, as the API server sends it.
    pub(super) event: Vec<u8>,
}

impl World {
    /// All objects of a run; `large` adds one more Service of so many endpoints.
    pub(super) fn new(run: &Run, large: Option<usize>) -> (Self, Lists) {
        let mut world = Self { changing: Vec::new(), replaced: 0, version: 1 };
        let mut lists = Lists::default();
        for node in 0..NODES {
            let version = world.next_version();
            lists.add(Kind::Nodes, &node_object(node, version));
        }
        let mut next = FIRST_ADDRESS;
        let sizes = (0..run.services).map(|_| run.per_service).chain(large);
        for (service, size) in sizes.enumerate() {
            let addresses: Vec<_> = (next..next + size as u32).map(Ipv4Addr::from).collect();
            next += size as u32;
            let slices: Vec<_> = addresses.chunks(PER_SLICE).map(<[_]>::to_vec).collect();
            let version = world.next_version();
            lists.add(Kind::Services, &service_object(service, version));
            for (part, addresses) in slices.iter().enumerate() {
                let version = world.next_version();
                lists.add(Kind::Slices, &slice_object(service, part, addresses, version));
            }
            if service < CHANGING || service >= run.services {
                world.changing.push((service, slices));
            }
        }
        lists.end(world.version);
        (world, lists)
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// How many Services can change.
    pub(super) fn changing(&self) -> usize {
        self.changing.len()
    }

    /// Prepares a change: in the `which`th Service that can change, endpoint `number` is replaced by one that was never
    /// there before.
    pub(super) fn draft(&mut self, which: usize, number: usize) -> Result<Draft> {
        let address = Ipv4Addr::from(FIRST_NEW_ADDRESS + self.replaced);
        self.replaced += 1;
        let version = self.next_version();
        let (service, slices) = self.changing.get_mut(which).context("there is no such Service")?;
        let (service, part) = (*service, number / PER_SLICE);
        let addresses = slices.get_mut(part).context("the Service has no such endpoint")?;
        *addresses.get_mut(number % PER_SLICE).context("the slice has no such endpoint")? = address;
        let event = event("MODIFIED", &slice_object(service, part, addresses, version));
        Ok(Draft { service, address, version, event })
    }
}

/// Namespace and name of a Service.
pub(super) fn names(service: usize) -> (String, String) {
    (format!("ns-{}", service / 100), format!("svc-{service}"))
}

/// Name of its `Service` resource.
pub(super) fn resource_name(service: usize) -> String {
    let (namespace, name) = names(service);
    format!("{namespace}/{name}")
}

/// Name of its only cluster.
pub(super) fn cluster_name(service: usize) -> String {
    let (namespace, name) = names(service);
    format!("{name}.{namespace}.svc.cluster.local:80")
}

/// The number of the Service that a resource of either name belongs to.
pub(super) fn number(name: &[u8]) -> Option<usize> {
    let at = name.windows(4).position(|part| part == b"svc-")? + 4;
    let digits = name[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let mut number = None;
    for digit in digits {
        number = Some(number.unwrap_or(0) * 10 + usize::from(digit - b'0'));
    }
    number
}

fn node_object(node: usize, version: u64) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {
            "name": format!("node-{node}"),
            "uid": uid(3, node),
            "resourceVersion": version.to_string(),
            "labels": {
                "kubernetes.io/hostname": format!("node-{node}"),
                "topology.kubernetes.io/zone": ZONES[node % ZONES.len()],
            },
        },
    })
}

fn service_object(service: usize, version: u64) -> Value {
    let (namespace, name) = names(service);
    let address = Ipv4Addr::from(u32::from_be_bytes([10, 96, 0, 0]) + 1 + service as u32);
    json!({
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid(1, service),
            "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app": name, "evenkeel.io/balance": "request"},
            "managedFields": managed("kubectl-client-side-apply", &["f:internalTrafficPolicy", "f:ports", "f:selector"]),
        },
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "selector": {"app": name},
            "sessionAffinity": "None",
            "type": "ClusterIP",
            "ports": [{"name": "grpc", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {}},
    })
}

fn slice_object(service: usize, part: usize, addresses: &[Ipv4Addr], version: u64) -> Value {
    let (namespace, name) = names(service);
    let endpoints: Vec<Value> = addresses
        .iter()
        .enumerate()
        .map(|(at, address)| {
            let node = (service + at) % NODES;
            json!({
                "addresses": [address],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{node}"),
                "targetRef": {
                    "kind": "Pod",
                    "name": format!("{name}-{:08x}", u32::from(*address)),
                    "namespace": namespace,
                    "uid": uid(4, u32::from(*address) as usize),
                },
                "zone": ZONES[node % ZONES.len()],
            })
        })
        .collect();
    json!({
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": format!("{name}-{part}"),
            "generateName": format!("{name}-"),
            "namespace": namespace,
            "uid": uid(2, service * 1_000 + part),
            "resourceVersion": version.to_string(),
            "generation": version,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": name,
            },
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name, "uid": uid(1, service),
                "controller": true, "blockOwnerDeletion": true,
            }],
            "managedFields": managed("kube-controller-manager", &["f:addressType", "f:endpoints", "f:ports"]),
        },
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

/// As long as a real one.
fn uid(kind: u32, number: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}

fn managed(manager: &str, fields: &[&str]) -> Value {
    let set: Value = fields.iter().map(|field| ((*field).to_owned(), json!({".": {}}))).collect();
    json!([{
        "manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-02T03:04:05Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}, "f:spec": set},
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::plan::{Interest, Mode, Purpose};

    fn run(services: usize, per_service: usize) -> Run {
        let (purpose, mode, interest) = (Purpose::Curve, Mode::Delta, Interest::Everything);
        Run { purpose, services, per_service, clients: 1, mode, interest, changes: 1 }
    }

    #[test]
    fn a_resources_name_leads_back_to_its_number() {
        for service in [0, 7, 1_234, 9_999] {
            assert_eq!(number(resource_name(service).as_bytes()), Some(service));
            assert_eq!(number(cluster_name(service).as_bytes()), Some(service));
        }
        assert_eq!(number(b"web.demo.svc.cluster.local:80"), None);
    }

    #[test]
    fn a_change_replaces_one_address_and_has_a_newer_version() {
        let (mut world, _) = World::new(&run(150, 3), None);
        assert_eq!(world.changing(), CHANGING);
        let first = world.draft(2, 1).unwrap();
        let draft = world.draft(2, 0).unwrap();
        assert!(draft.version > first.version);
        let event: Value = serde_json::from_slice(&draft.event).unwrap();
        let addresses: Vec<_> =
            (0..3).map(|at| event["object"]["endpoints"][at]["addresses"][0].clone()).collect();
        assert_eq!(addresses, ["10.200.0.1", "10.200.0.0", "10.128.0.8"]);
        assert_eq!(event["object"]["metadata"]["resourceVersion"], draft.version.to_string());
    }

    #[test]
    fn a_large_service_has_slices_of_a_hundred() {
        let (mut world, _) = World::new(&run(2, 1), Some(250));
        let event: Value = serde_json::from_slice(&world.draft(2, 249).unwrap().event).unwrap();
        assert_eq!(event["object"]["metadata"]["name"], "svc-2-2");
        assert_eq!(event["object"]["endpoints"].as_array().unwrap().len(), 50);
        assert!(world.draft(2, 250).is_err());
    }
}
