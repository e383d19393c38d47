// SPDX-License-Identifier: Apache-2.0
//! What every object of `deploy/` must be like. Each rule is one test over all of them.

use serde_json::{Value, json};

use super::{Objects, VERSION, folder, kustomize};

/// Everything that we deploy.
fn all() -> Objects {
    [folder(), folder().join("uninstall")].iter().flat_map(|path| kustomize(path)).collect()
}

/// The pod template of each object that has one.
fn pods_of(objects: &Objects) -> Vec<(String, Value)> {
    let template = |object: &Value| match object["kind"].as_str()? {
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template").cloned(),
        _ => object.pointer("/spec/template").cloned(),
    };
    objects.iter().filter_map(|(name, object)| Some((name.clone(), template(object)?))).collect()
}

fn pods() -> Vec<(String, Value)> {
    let pods = pods_of(&all());
    assert_eq!(pods.len(), 5, "agent, detach, discovery, and certificates twice");
    pods
}

/// Each container with the name of its object.
pub(super) fn containers_of(objects: &Objects) -> Vec<(String, Value)> {
    let list = |pod: &Value, key: &str| pod["spec"][key].as_array().cloned().unwrap_or_default();
    pods_of(objects)
        .into_iter()
        .flat_map(|(name, pod)| {
            let all = [list(&pod, "initContainers"), list(&pod, "containers")].concat();
            all.into_iter().map(move |container| (name.clone(), container))
        })
        .collect()
}

fn containers() -> Vec<(String, Value)> {
    containers_of(&all())
}

fn pod(part: &str) -> Value {
    let mut found = pods().into_iter().filter(|(name, _)| name.ends_with(part));
    found.next().unwrap_or_else(|| panic!("no {part}")).1
}

#[test]
fn no_container_is_privileged_and_only_those_at_the_kernel_have_a_capability() {
    for (name, container) in containers() {
        let context = &container["securityContext"];
        assert_ne!(context["privileged"], true, "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
        let at_the_kernel = name.ends_with("/evenkeel-agent") || name.ends_with("/evenkeel-detach");
        let added = if at_the_kernel { json!(["SYS_ADMIN"]) } else { Value::Null };
        assert_eq!(context["capabilities"]["add"], added, "{name}");
    }
}

#[test]
fn no_pod_shares_the_nodes_namespaces_and_all_have_a_seccomp_profile() {
    for (name, pod) in pods() {
        let spec = &pod["spec"];
        for namespace in ["hostPID", "hostNetwork", "hostIPC"] {
            assert_ne!(spec[namespace], true, "{name}: {namespace}");
        }
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        let uses_node = spec["volumes"].to_string().contains("hostPath");
        assert_eq!(spec["securityContext"]["runAsNonRoot"] == true, !uses_node, "{name}");
    }
}

#[test]
fn the_agent_is_not_the_first_process_of_its_pid_namespace() {
    assert_eq!(pod("/evenkeel-agent")["spec"]["shareProcessNamespace"], true, "its holder would die with it");
}

#[test]
fn only_what_talks_to_the_api_server_gets_its_token() {
    for (name, pod) in pods() {
        let asks = name.contains("discovery") || name.contains("certificates");
        assert_eq!(pod["spec"]["automountServiceAccountToken"], asks, "{name}");
    }
    for (name, account) in all().into_iter().filter(|(name, _)| name.starts_with("ServiceAccount")) {
        assert_eq!(account["automountServiceAccountToken"], false, "{name}");
    }
}

#[test]
fn rights_are_the_least_and_named_one_by_one() {
    let mut rules = 0;
    for (name, role) in all() {
        for rule in role["rules"].as_array().unwrap_or(&Vec::new()) {
            let text = rule.to_string();
            assert!(!text.contains('*') && !text.contains("delete"), "{name}: {text}");
            let writes = ["create", "update", "patch"].iter().any(|verb| text.contains(verb));
            let may_be_written = ["events", "tokenreviews"].iter().any(|kind| text.contains(kind));
            assert!(name.starts_with("Role ") || !writes || may_be_written, "{name}: {text}");
            assert!(!name.starts_with("ClusterRole ") || !text.contains("secrets"), "{name}: {text}");
            rules += 1;
        }
    }
    assert!(rules >= 5, "{rules} rules");
    for (name, binding) in all().into_iter().filter(|(name, _)| name.contains("RoleBinding ")) {
        assert!(
            !binding["subjects"].to_string().contains("evenkeel-agent"),
            "{name}: the agent has no rights"
        );
    }
}

#[test]
fn what_serves_is_probed_and_what_runs_asks_for_resources() {
    for (name, container) in containers() {
        assert!(container["resources"]["requests"]["memory"].is_string(), "{name}");
        assert_eq!(container["imagePullPolicy"], "IfNotPresent", "{name}");
        if container["ports"].is_array() {
            assert_eq!(
                container["readinessProbe"]["httpGet"],
                json!({"path": "/ready", "port": "http"}),
                "{name}"
            );
            assert_eq!(
                container["livenessProbe"]["httpGet"],
                json!({"path": "/healthz", "port": "http"}),
                "{name}"
            );
        }
    }
    for part in ["/evenkeel-agent", "/evenkeel-discovery"] {
        assert!(pod(part)["spec"]["containers"][0]["ports"].is_array(), "{part} serves");
    }
}

#[test]
fn images_have_the_version_of_the_workspace() {
    for (name, container) in containers() {
        let image = container["image"].as_str().unwrap();
        let (image, tag) = image.rsplit_once(':').unwrap();
        assert!(["localhost/evenkeel", "localhost/evenkeel-discovery"].contains(&image), "{name}: {image}");
        assert_eq!(tag, VERSION, "{name}");
    }
}

#[test]
fn a_pod_has_more_time_to_end_than_its_drain_takes() {
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    let agent = pod("/evenkeel-agent");
    let env = agent["spec"]["containers"][0]["env"].as_array().unwrap();
    let drain = env.iter().find(|env| env["name"] == "EVENKEEL_DRAIN_TIMEOUT").unwrap();
    let grace = |pod: &Value| pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace(&agent) >= seconds(drain["value"].as_str().unwrap()) + 10);

    let discovery = pod("/evenkeel-discovery");
    let container = &discovery["spec"]["containers"][0];
    let args = container["args"].as_array().unwrap().iter().filter_map(Value::as_str);
    let drain = args.filter_map(|arg| arg.strip_prefix("--drain-time=")).next().unwrap();
    let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap();
    assert!(grace(&discovery) >= before + seconds(drain) + 10);
}

#[test]
fn an_upgrade_never_takes_an_agent_or_a_replica_away_before_its_successor_is_ready() {
    let objects = all();
    for (part, strategy) in [("/evenkeel-agent", "updateStrategy"), ("/evenkeel-discovery", "strategy")] {
        let (_, object) = objects
            .iter()
            .find(|(name, object)| name.ends_with(part) && object["spec"]["template"].is_object())
            .unwrap();
        let expected =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
        assert_eq!(object["spec"][strategy], expected, "{part}");
    }
    // What makes the surge of an agent work: see `agent/src/app/stay.rs`.
    let agent = pod("/evenkeel-agent");
    assert!(agent["spec"]["containers"][0]["args"].to_string().contains("--stay-when-superseded"));
}

#[test]
fn selectors_select_the_pods_that_they_are_for() {
    let objects = all();
    let pods = pods();
    let mut checked = 0;
    for (name, object) in &objects {
        let selector = match object["kind"].as_str() {
            Some("Service") => &object["spec"]["selector"],
            Some("Deployment" | "DaemonSet" | "PodDisruptionBudget") => {
                &object["spec"]["selector"]["matchLabels"]
            }
            _ => continue,
        };
        let wanted = selector.as_object().unwrap();
        let selected: Vec<_> = pods
            .iter()
            .filter(|(_, pod)| wanted.iter().all(|(key, value)| &pod["metadata"]["labels"][key] == value))
            .map(|(owner, _)| owner.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(selected, [name.rsplit('/').next().unwrap()], "{name}");
        checked += 1;
    }
    assert_eq!(checked, 5);
}

#[test]
fn what_a_container_mounts_is_a_volume_of_its_pod() {
    for (name, pod) in pods() {
        let volumes: Vec<&Value> = pod["spec"]["volumes"]
            .as_array()
            .map(|v| v.iter().map(|v| &v["name"]).collect())
            .unwrap_or_default();
        for (_, container) in containers().iter().filter(|(owner, _)| *owner == name) {
            for mount in container["volumeMounts"].as_array().unwrap_or(&Vec::new()) {
                assert!(volumes.contains(&&mount["name"]), "{name}: {mount}");
            }
        }
    }
}
