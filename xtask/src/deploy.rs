// SPDX-License-Identifier: Apache-2.0
//! What `deploy/` promises: least rights, probes, one version everywhere, and a chart that renders the same objects as
//! kustomize does. Rendered by the real tools.

mod flags;
mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::cache::Cache;
use crate::{child, go};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const NAMESPACE: &str = "evenkeel-system";

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace").join("deploy")
}

fn objects(yaml: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("YAML");
    let mut objects = Objects::new();
    for object in documents.into_iter().filter(|object| !object.is_null()) {
        let word = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let name = format!("{} {}/{}", word("/kind"), word("/metadata/namespace"), word("/metadata/name"));
        assert!(objects.insert(name.clone(), object).is_none(), "{name} is there twice");
    }
    objects
}

fn kustomize(path: &Path) -> Objects {
    let mut command = go::kustomize(&Cache::open().unwrap()).unwrap();
    objects(&child::output(command.arg(path)).unwrap())
}

fn helm(arguments: &[&str]) -> anyhow::Result<Objects> {
    let mut command = Command::new(go::HELM.ensure(&Cache::open()?)?);
    command.args(["template", "evenkeel", "--namespace", NAMESPACE]).args(arguments);
    Ok(objects(&child::output(command.arg(folder().join("helm/evenkeel")))?))
}

/// Helm makes the namespace itself, before it knows of the chart's objects.
fn without_namespace(mut objects: Objects) -> Objects {
    objects.remove(&format!("Namespace /{NAMESPACE}")).expect("kustomize makes the namespace");
    objects
}

fn assert_same(chart: &Objects, manifests: &Objects) {
    assert_eq!(chart.keys().collect::<Vec<_>>(), manifests.keys().collect::<Vec<_>>());
    for (name, object) in chart {
        if let Some(difference) = difference(object, &manifests[name]) {
            panic!("{name}{difference}");
        }
    }
}

/// The first place where two objects differ.
fn difference(chart: &Value, manifest: &Value) -> Option<String> {
    match (chart, manifest) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            a.iter().find_map(|(key, value)| Some(format!(".{key}{}", difference(value, &b[key])?)))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| Some(format!("[{i}]{}", difference(a, b)?)))
        }
        _ => (chart != manifest).then(|| format!(": {chart} in the chart, {manifest} from kustomize")),
    }
}

#[test]
fn the_chart_renders_the_objects_of_kustomize() {
    assert_same(&helm(&[]).unwrap(), &without_namespace(kustomize(&folder())));
}

#[test]
fn certificates_of_ones_own_are_the_same_choice_in_both() {
    let overlay = tempfile::tempdir().unwrap();
    // Kustomize wants relative paths: the overlay sees `deploy` through a link beside it.
    std::os::unix::fs::symlink(folder(), overlay.path().join("deploy")).unwrap();
    let here = overlay.path().join("overlay");
    fs::create_dir(&here).unwrap();
    let text = format!(
        "resources: [{0}]\ncomponents: [{0}/components/own-certificates]\n",
        relative(&here, &folder()).display()
    );
    fs::write(here.join("kustomization.yaml"), text).unwrap();
    let chart = helm(&["--set", "certificates.create=false"]).unwrap();
    assert!(!chart.keys().any(|name| name.contains("evenkeel-certificates")), "{:?}", chart.keys());
    assert_same(&chart, &without_namespace(kustomize(&here)));
}

/// The way from one absolute folder to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let from = from.canonicalize().unwrap();
    let up: PathBuf = from.components().skip(1).map(|_| "..").collect();
    up.join(to.canonicalize().unwrap().strip_prefix("/").unwrap())
}

#[test]
fn a_difference_is_told_with_its_place() {
    let (a, b) = (serde_json::json!({"x": [1, {"y": 2}]}), serde_json::json!({"x": [1, {"y": 3}]}));
    assert_eq!(difference(&a, &b).as_deref(), Some(".x[1].y: 2 in the chart, 3 from kustomize"));
    assert_eq!(difference(&a, &a), None);
}

#[test]
fn another_namespace_is_followed_in_every_place() {
    let chart = helm(&["--namespace", "elsewhere"]).unwrap();
    for (name, object) in &chart {
        assert!(!object.to_string().contains(NAMESPACE), "{name}: {object}");
    }
}

#[test]
fn each_value_of_the_chart_has_its_effect() {
    for (value, effect) in [
        ("image.registry=registry.example/team", "registry.example/team/evenkeel:"),
        ("image.tag=v9", "localhost/evenkeel-discovery:v9"),
        ("image.pullPolicy=Always", r#""imagePullPolicy":"Always""#),
        ("imagePullSecrets={pull}", r#""imagePullSecrets":[{"name":"pull"}]"#),
        ("listenAddress=[::]", "--listen=[::]:18000"),
        ("certificates.schedule=@daily", r#""schedule":"@daily""#),
        ("certificates.extraNames={discovery.example}", "--dns-name=discovery.example"),
        ("discovery.replicas=5", r#""replicas":5"#),
        ("discovery.drainSeconds=60", r#""terminationGracePeriodSeconds":80"#),
        ("discovery.extraArgs={--fallback=west=manifests:/x}", "--fallback=west=manifests:/x"),
        ("agent.discovery=https://d.example:443", r#""value":"https://d.example:443""#),
        ("agent.drainSeconds=60", r#""terminationGracePeriodSeconds":75"#),
        ("agent.nodeSelector.pool=a", r#""pool":"a""#),
    ] {
        let rendered = helm(&["--set", value]).unwrap();
        let text: String = rendered.values().map(Value::to_string).collect();
        assert!(text.contains(effect), "{value} does not lead to {effect}");
    }
    let without = helm(&["--set", "tokens.enabled=false"]).unwrap();
    assert!(!without.values().any(|object| object.to_string().contains("token-audience")));
    assert!(!without.values().any(|object| object.to_string().contains("serviceAccountToken\"")));
}

#[test]
fn a_value_that_cannot_be_is_refused_by_name() {
    for (value, named) in [
        ("discovery.replicas=0", "replicas"),
        ("discovery.replicas=two", "replicas"),
        ("discovery.replica=3", "replica"),
        ("listenAddress=localhost", "listenAddress"),
        ("agent.discovery=http://d:18000", "discovery"),
        ("agent.extraArgs={verbose}", "extraArgs"),
        ("image.registry=", "registry"),
        ("certificates.schedule=weekly", "schedule"),
        ("agent.resources.requests.memory=lots", "memory"),
    ] {
        let error = helm(&["--set", value]).expect_err(value).to_string();
        assert!(error.contains(named), "{value}: {error}");
    }
}

#[test]
fn the_chart_has_the_version_of_the_workspace() {
    let chart = fs::read_to_string(folder().join("helm/evenkeel/Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&VERSION.into(), &VERSION.into()));
}
