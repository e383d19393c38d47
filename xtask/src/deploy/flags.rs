// SPDX-License-Identifier: Apache-2.0
//! Every container is started with flags and variables that its program has, by the programs' own parsers.
//!
//! A variable counts as the flag that it stands for, so that its value is checked as well; one that no flag of the
//! command reads would be a setting without effect.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};

use super::rules::containers_of;
use super::{NAMESPACE, folder, kustomize, relative};

/// What the programs' own variables begin with.
const PREFIX: &str = "EVENKEEL_";

/// The value that a variable has in a pod.
fn value(variable: &Value, so_far: &BTreeMap<String, String>) -> String {
    match variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str) {
        None => expanded(variable["value"].as_str().unwrap(), so_far),
        Some("metadata.namespace") => NAMESPACE.to_owned(),
        Some("spec.nodeName") => "node-1".to_owned(),
        Some("metadata.labels['topology.kubernetes.io/zone']") => "zone-a".to_owned(),
        Some(other) => panic!("{other}: say here what it is in a pod"),
    }
}

/// `$(NAME)` replaced by what is known; anything else stays, as the kubelet leaves it.
fn expanded(text: &str, known: &BTreeMap<String, String>) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

/// The command line that the kubelet makes, with variables as flags.
fn command_line(program: &clap::Command, container: &Value) -> Result<Vec<String>, String> {
    assert_eq!(container["command"], Value::Null, "the image's entry point is the program");
    // The kubelet's own, of the Service in the same namespace.
    let mut known = BTreeMap::from([("EVENKEEL_DISCOVERY_SERVICE_HOST".to_owned(), "10.96.0.7".to_owned())]);
    let mut own = Vec::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let (name, value) = (variable["name"].as_str().unwrap(), value(variable, &known));
        known.insert(name.to_owned(), value.clone());
        own.extend(name.starts_with(PREFIX).then(|| (name.to_owned(), value)));
    }
    let args = container["args"].as_array().into_iter().flatten();
    let mut line: Vec<String> = args.map(|arg| expanded(arg.as_str().unwrap(), &known)).collect();
    if let Some(left) = line.iter().find(|arg| arg.contains("$(")) {
        return Err(format!("{left}: no such variable"));
    }
    let command = line.first().and_then(|word| program.find_subcommand(word)).unwrap_or(program);
    for (name, value) in own {
        let reads = |flag: &&clap::Arg| flag.get_env().is_some_and(|variable| variable == name.as_str());
        let flag = command.get_arguments().find(reads).and_then(clap::Arg::get_long);
        let flag = flag.ok_or_else(|| format!("{name}: no flag of `{}` reads it", command.get_name()))?;
        line.push(format!("--{flag}={value}"));
    }
    line.insert(0, program.get_name().to_owned());
    Ok(line)
}

/// Parses and validates as the container's program does at its start.
fn start(container: &Value) -> Result<(), String> {
    let image = container["image"].as_str().unwrap();
    let name = image.rsplit('/').next().and_then(|name| name.split(':').next()).unwrap();
    match name {
        "evenkeel" => {
            use evenkeel_agent::cli::{Cli, Command};
            let line = command_line(&Cli::command(), container)?;
            match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
                Command::Run(mut args) => {
                    // Looked for on the machine, and only pods have it there.
                    args.cgroup = None;
                    args.validate("node-1").map(drop).map_err(|error| error.to_string())
                }
                _ => Ok(()),
            }
        }
        "evenkeel-discovery" => {
            use evenkeel_discovery::cli::Cli;
            let line = command_line(&Cli::command(), container)?;
            let cli = Cli::try_parse_from(line).map_err(|error| error.to_string())?;
            match cli.command {
                None => cli.serve.validate().map(drop).map_err(|error| error.to_string()),
                Some(_) => Ok(()),
            }
        }
        other => Err(format!("{other} is no program of ours")),
    }
}

#[test]
fn every_container_is_started_with_flags_and_variables_that_its_program_has() {
    let overlay = tempfile::tempdir().unwrap();
    let own = own_certificates(overlay.path());
    let mut seen = 0;
    for path in [folder(), folder().join("base"), folder().join("uninstall"), own] {
        for (name, container) in containers_of(&kustomize(&path)) {
            start(&container).unwrap_or_else(|error| panic!("{}: {name}: {error}", path.display()));
            seen += 1;
        }
    }
    assert_eq!(seen, 4 + 4 + 2 + 2, "agent, discovery, certificates twice; detach twice; agent, discovery");
}

/// An overlay in `here` that uses the component, as `deploy/README.md` says.
fn own_certificates(here: &Path) -> std::path::PathBuf {
    let deploy = relative(here, &folder());
    let text = format!("resources: [{0}]\ncomponents: [{0}/components/own-certificates]\n", deploy.display());
    fs::write(here.join("kustomization.yaml"), text).unwrap();
    here.to_owned()
}

#[test]
fn what_no_program_has_is_named() {
    let agent = |args: Value, env: Value| json!({"image": "x/evenkeel:1", "args": args, "env": env});
    let discovery =
        json!({"name": "EVENKEEL_DISCOVERY", "value": "http://$(EVENKEEL_DISCOVERY_SERVICE_HOST):1"});
    assert_eq!(start(&agent(json!(["run"]), json!([discovery]))), Ok(()));
    for (args, env, named) in [
        (json!(["run", "--discovery-tokens=/x"]), json!([discovery]), "--discovery-tokens"),
        (json!(["run"]), json!([discovery, {"name": "EVENKEEL_DRAIN", "value": "1s"}]), "EVENKEEL_DRAIN"),
        (json!(["run"]), json!([discovery, {"name": "EVENKEEL_LOG_FORMAT", "value": "xml"}]), "xml"),
        (json!(["run", "--node=$(NOBODY)"]), json!([discovery]), "$(NOBODY)"),
        (json!(["run"]), json!([]), "--discovery"),
        (json!(["detach", "--waits=2m"]), json!([]), "--waits"),
    ] {
        let error = start(&agent(args, env)).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
    let discovery = |args: Value| json!({"image": "x/evenkeel-discovery:1", "args": args});
    for (args, named) in [
        (json!(["--kubernetes", "--listens=[::]:1"]), "--listens"),
        (json!(["--kubernetes", "--listen=[::]:1", "--http=[::]:2"]), "plaintext"),
        (json!(["certificates", "--secrets=x"]), "--secrets"),
    ] {
        let error = start(&discovery(args)).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
}
