// SPDX-License-Identifier: Apache-2.0
//! Kubernetes manifests in a folder, as discovery reads them: one object per file, each written aside and renamed
//! into place, so that a reader sees the old object or the new one.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::pod::Pod;

/// A Service.
#[derive(Debug, Clone, Default)]
pub struct ServiceSpec {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its addresses, one per family.
    pub cluster_ips: Vec<String>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Its annotations.
    pub annotations: Vec<(String, String)>,
    /// Its ports.
    pub ports: Vec<PortSpec>,
}

impl ServiceSpec {
    /// A Service of namespace `demo` with label `evenkeel.io/balance: BALANCE`, or without it if that is empty.
    pub fn balanced(name: &str, balance: &str, cluster_ip: &str, ports: Vec<PortSpec>) -> Self {
        let label = ("evenkeel.io/balance".to_owned(), balance.to_owned());
        Self {
            namespace: "demo".into(),
            name: name.into(),
            cluster_ips: vec![cluster_ip.into()],
            labels: if balance.is_empty() { Vec::new() } else { vec![label] },
            annotations: Vec::new(),
            ports,
        }
    }
}

/// A port of a Service and of its slices.
#[derive(Debug, Clone)]
pub struct PortSpec {
    /// Its name.
    pub name: String,
    /// The Service's port.
    pub port: u16,
    /// The endpoints' port.
    pub target_port: u16,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// `appProtocol`, e.g. `grpc`.
    pub app_protocol: Option<String>,
}

impl PortSpec {
    /// A TCP port.
    pub fn tcp(name: &str, port: u16, target_port: u16) -> Self {
        Self { name: name.into(), port, target_port, protocol: "TCP".into(), app_protocol: None }
    }
}

/// An endpoint of a slice.
#[derive(Debug, Clone)]
pub struct EndpointSpec {
    /// Its address.
    pub address: IpAddr,
    /// The node it runs on.
    pub node: String,
    /// Its zone.
    pub zone: String,
    /// Its pod's name.
    pub pod: String,
    /// Condition `ready`.
    pub ready: bool,
    /// Condition `serving`.
    pub serving: bool,
    /// Condition `terminating`.
    pub terminating: bool,
}

impl EndpointSpec {
    /// A ready endpoint at the pod's IPv4 address.
    pub fn of(pod: &Pod) -> Self {
        Self {
            address: pod.address().into(),
            node: pod.node().name().into(),
            zone: pod.node().zone().into(),
            pod: pod.name().into(),
            ready: true,
            serving: true,
            terminating: false,
        }
    }
}

/// A folder of manifests.
#[derive(Debug, Clone)]
pub struct Manifests {
    folder: PathBuf,
}

impl Manifests {
    /// In `folder`, made if need be.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a Node with its zone.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn node(&self, name: &str, zone: &str) -> Result<()> {
        let labels = json!({ "topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name });
        let node =
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels } });
        self.object(&format!("node-{name}"), &node)
    }

    /// Writes a Service.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn service(&self, service: &ServiceSpec) -> Result<()> {
        let ports: Vec<Value> = service.ports.iter().map(service_port).collect();
        let object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "namespace": service.namespace,
                "name": service.name,
                "labels": map(&service.labels),
                "annotations": map(&service.annotations),
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": service.cluster_ips.first(),
                "clusterIPs": service.cluster_ips,
                "ports": ports,
            },
        });
        self.object(&format!("service-{}-{}", service.namespace, service.name), &object)
    }

    /// Writes the slices of a Service, one per address family that its endpoints have; a family without endpoints
    /// has no slice, and without any there is an empty IPv4 slice.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn endpoints(
        &self,
        namespace: &str,
        service: &str,
        endpoints: &[EndpointSpec],
        ports: &[PortSpec],
    ) -> Result<()> {
        let (v4, v6): (Vec<_>, Vec<_>) = endpoints.iter().cloned().partition(|e| e.address.is_ipv4());
        for (kind, suffix, part) in [("IPv4", "v4", &v4), ("IPv6", "v6", &v6)] {
            let name = format!("{service}-{suffix}");
            if part.is_empty() && !(kind == "IPv4" && v6.is_empty()) {
                self.remove(&slice_file(namespace, &name))?;
            } else {
                let slice = slice(namespace, service, &name, kind, part, ports);
                self.write(&slice_file(namespace, &name), &slice.to_string())?;
            }
        }
        Ok(())
    }

    /// Writes a further IPv4 slice of a Service, whose endpoints weigh this much.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn weighted_slice(
        &self,
        (namespace, service): (&str, &str),
        name: &str,
        weight: u32,
        endpoints: &[EndpointSpec],
        ports: &[PortSpec],
    ) -> Result<()> {
        let mut slice = slice(namespace, service, name, "IPv4", endpoints, ports);
        slice["metadata"]["annotations"] = json!({ "evenkeel.io/weight": weight.to_string() });
        self.write(&slice_file(namespace, name), &slice.to_string())
    }

    /// Removes a Service and its slices.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove_service(&self, namespace: &str, service: &str) -> Result<()> {
        self.remove(&format!("service-{namespace}-{service}.yaml"))?;
        self.remove(&slice_file(namespace, &format!("{service}-v4")))?;
        self.remove(&slice_file(namespace, &format!("{service}-v6")))
    }

    fn object(&self, stem: &str, object: &Value) -> Result<()> {
        self.write(&format!("{stem}.yaml"), &format!("{object:#}\n"))
    }

    /// Writes any text as a file of the folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let (aside, path) = (self.folder.join(format!(".{file}")), self.folder.join(file));
        fs::write(&aside, text).with_context(|| format!("write {}", aside.display()))?;
        fs::rename(&aside, &path).with_context(|| format!("rename {} into place", aside.display()))
    }

    /// Removes a file of the folder, if it is there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, file: &str) -> Result<()> {
        match fs::remove_file(self.folder.join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {file} from {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }
}

fn slice_file(namespace: &str, name: &str) -> String {
    format!("slice-{namespace}-{name}.yaml")
}

fn map(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()
}

fn service_port(port: &PortSpec) -> Value {
    let mut value = json!({
        "name": port.name, "port": port.port, "targetPort": port.target_port, "protocol": port.protocol,
    });
    if let Some(app) = &port.app_protocol {
        value["appProtocol"] = app.clone().into();
    }
    value
}

fn slice(
    namespace: &str,
    service: &str,
    name: &str,
    kind: &str,
    endpoints: &[EndpointSpec],
    ports: &[PortSpec],
) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| {
            let mut value = json!({ "name": port.name, "port": port.target_port, "protocol": port.protocol });
            if let Some(app) = &port.app_protocol {
                value["appProtocol"] = app.clone().into();
            }
            value
        })
        .collect();
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "addresses": [endpoint.address],
                "conditions": {
                    "ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating,
                },
                "nodeName": endpoint.node,
                "zone": endpoint.zone,
                "targetRef": { "kind": "Pod", "namespace": namespace, "name": endpoint.pod },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace, "name": name, "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": kind,
        "ports": ports,
        "endpoints": endpoints,
    })
}
