// SPDX-License-Identifier: Apache-2.0
//! The demo's pods as Kubernetes objects, under the names that they have without Kubernetes. Pure.
//!
//! Bare pods that are never restarted, not a Deployment: a zone that goes must stay away until its phase is over, and
//! the bars on the screen need names that stay.

use serde_json::{Value, json};

use super::super::parameters::SERVICE;
use super::super::peers;
use crate::cluster::images::TESTBED;

/// Zones in the order of the cluster's nodes, with the letter that pods are named by.
pub(super) const ZONES: [(&str, char); 3] = [("zone-a", 'a'), ("zone-b", 'b'), ("zone-c", 'c')];
/// As many in a zone as without Kubernetes, where a zone has two nodes.
const SERVERS_PER_ZONE: usize = 4;
const CLIENTS_PER_ZONE: usize = 2;
/// What tells a zone's server pods from the others.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Where pods see the folder of the hub's socket.
const HUB: &str = "/hub";

/// Zone and name of the server pods.
pub(super) fn servers() -> Vec<(String, String)> {
    named("echo", SERVERS_PER_ZONE)
}

/// Zone and name of the client pods.
pub(super) fn clients() -> Vec<(String, String)> {
    named("load", CLIENTS_PER_ZONE)
}

/// Names of the client pods of a zone.
pub(super) fn clients_in(zone: &str) -> Vec<String> {
    clients().into_iter().filter(|(its, _)| its == zone).map(|(_, name)| name).collect()
}

fn named(what: &str, per_zone: usize) -> Vec<(String, String)> {
    let zone = |(zone, letter): (&str, char)| {
        let names = (1..=per_zone).map(move |i| format!("{what}-{letter}{i}"));
        names.map(|name| (zone.to_owned(), name)).collect::<Vec<_>>()
    };
    ZONES.into_iter().flat_map(zone).collect()
}

/// The selector of a zone's server pods.
pub(super) fn selector(zone: &str) -> String {
    format!("app={},{ZONE}={zone}", SERVICE.1)
}

/// The demo's namespace.
pub(super) fn namespace() -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SERVICE.0 } })
}

/// A server pod; `folder` is that of the hub's socket.
pub(super) fn server(zone: &str, name: &str, folder: &str) -> Value {
    pod((zone, name, SERVICE.1), &peers::server(name, zone, &socket()), folder)
}

/// A client pod.
pub(super) fn client(zone: &str, name: &str, folder: &str) -> Value {
    pod((zone, name, "load"), &peers::client(name, zone, "$(IP)", &socket()), folder)
}

/// The objects as one manifest.
pub(super) fn list(items: Vec<Value>) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// Name of the hub's socket in its folder.
pub(super) const SOCKET: &str = "hub.sock";

fn socket() -> String {
    format!("{HUB}/{SOCKET}")
}

fn pod((zone, name, app): (&str, &str, &str), args: &[String], folder: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": SERVICE.0, "name": name, "labels": { "app": app, ZONE: zone } },
        "spec": {
            "nodeSelector": { ZONE: zone },
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "containers": [{
                "name": "peer",
                "image": TESTBED,
                "imagePullPolicy": "Never",
                "args": args,
                // Without, a pod yields to whatever else the machine does, and that would be what is measured.
                "resources": { "requests": { "cpu": "100m" } },
                "env": [{ "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }],
                "volumeMounts": [{ "name": "hub", "mountPath": HUB }],
            }],
            // A socket of the machine, on which no packet flows: what is measured stays on the pod's network.
            "volumes": [{ "name": "hub", "hostPath": { "path": folder, "type": "Directory" } }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::parameters::{OUTAGE_ZONE, SERVICE_YAML, SLOW_POD};

    #[test]
    fn pods_have_the_names_that_phases_and_figures_know() {
        let servers = servers();
        assert_eq!(servers.len(), 12);
        assert!(servers.contains(&("zone-a".into(), SLOW_POD.into())));
        assert_eq!(servers.iter().filter(|(zone, _)| zone == OUTAGE_ZONE).count(), SERVERS_PER_ZONE);
        assert_eq!(clients_in("zone-c"), ["load-c1", "load-c2"]);
    }

    #[test]
    fn the_service_selects_servers_and_no_clients() {
        let label =
            |pod: Value| format!("app: {}\n", pod["metadata"]["labels"]["app"].as_str().unwrap_or(""));
        let selector = SERVICE_YAML.split_once("selector:").expect("a selector").1;
        assert!(selector.contains(&label(server("zone-a", "echo-a1", "/x"))));
        assert!(!selector.contains(&label(client("zone-a", "load-a1", "/x"))));
    }

    #[test]
    fn a_pod_stays_in_its_zone_and_stays_dead() {
        let pod = server("zone-b", "echo-b1", "/folder");
        assert_eq!(pod["spec"]["nodeSelector"][ZONE], "zone-b");
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert_eq!(pod["spec"]["volumes"][0]["hostPath"]["path"], "/folder");
        let labels = &pod["metadata"]["labels"];
        for part in selector("zone-b").split(',') {
            let (key, value) = part.split_once('=').expect("a pair");
            assert_eq!(labels[key], value);
        }
    }
}
