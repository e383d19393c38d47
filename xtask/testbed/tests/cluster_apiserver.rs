// SPDX-License-Identifier: Apache-2.0
//! Tier 3 (real API server): the real binary with the ServiceAccount and the ClusterRole of `deploy/`.

mod xds;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use evenkeel_testbed::apiserver::{ApiServer, Daemon};
use evenkeel_testbed::{binaries, eventually};
use nix::sys::signal::Signal;
use xds::Client;

const SOON: Duration = Duration::from_secs(30);
/// How long a change may take from the API server's answer to what is served.
const AT_ONCE: Duration = Duration::from_secs(1);

const ACCOUNT: &str = "system:serviceaccount:evenkeel-system:evenkeel-discovery";

struct World {
    discovery: Daemon,
    client: Client,
    api: ApiServer,
    socket: PathBuf,
}

fn rbac() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/base/discovery-rbac.yaml");
    Ok(std::fs::read_to_string(path)?)
}

fn service(name: &str, label: &str, annotation: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: demo, labels: {{{label}}}, annotations: \
         {{{annotation}}}}}\nspec: {{ports: [{{name: grpc, port: 80}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: \
         EndpointSlice\nmetadata: {{name: {name}-1, namespace: demo, labels: {{kubernetes.io/service-name: \
         {name}}}}}\naddressType: IPv4\nports: [{{name: grpc, port: 8080}}]\nendpoints: [{{addresses: [10.244.0.7]}}]\n---\n"
    )
}

const OPTED_IN: &str = "evenkeel.io/balance: connection";

impl World {
    fn new() -> Result<Self> {
        let api = ApiServer::start()?;
        for namespace in ["evenkeel-system", "demo"] {
            api.kubectl(&["create", "namespace", namespace])?;
        }
        api.kubectl(&["-n", "evenkeel-system", "create", "serviceaccount", "evenkeel-discovery"])?;
        api.apply(&rbac()?)?;
        api.apply(&service("web", OPTED_IN, ""))?;
        let token = api.kubectl(&["-n", "evenkeel-system", "create", "token", "evenkeel-discovery"])?;
        let kubeconfig = api.kubeconfig("discovery", token.trim())?;
        let socket = api.folder().join("discovery.sock");
        let mut command = Command::new(binaries::find("evenkeel-discovery")?);
        command
            .arg("--kubernetes")
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg(format!("--listen=unix:{}", socket.display()))
            .args(["--http=127.0.0.1:0", "--log=info,evenkeel_discovery=debug"]);
        let discovery = Daemon::spawn(command, &api.folder().join("discovery.log"))?;
        let client = eventually("discovery listens", SOON, || Client::connect(&socket))?;
        let world = Self { discovery, client, api, socket };
        world.until("the first Service is served", SOON, |client| client.has("demo/web"))?;
        Ok(world)
    }

    fn until(&self, what: &str, deadline: Duration, condition: impl Fn(&Client) -> bool) -> Result<Duration> {
        let began = Instant::now();
        eventually(what, deadline, || {
            ensure!(condition(&self.client), "served: {:?}\n{}", self.client.names(), self.discovery.tail());
            Ok(began.elapsed())
        })
    }

    fn logged(&self, text: &str) -> Result<()> {
        eventually(text, SOON, || {
            ensure!(self.discovery.log().contains(text), "{}", self.discovery.tail());
            Ok(())
        })
    }
}

#[test]
fn a_label_takes_effect_within_a_second_and_so_does_its_removal() -> Result<()> {
    let world = World::new()?;
    world.api.apply(&service("late", "app: late", ""))?;
    for _ in 0..5 {
        world.api.kubectl(&["-n", "demo", "label", "service", "late", "evenkeel.io/balance=request"])?;
        let added = world.until("the label acts", AT_ONCE, |client| client.has("demo/late"))?;
        world.api.kubectl(&["-n", "demo", "label", "service", "late", "evenkeel.io/balance-"])?;
        let removed = world.until("its removal acts", AT_ONCE, |client| !client.has("demo/late"))?;
        println!("label {added:?}, removal {removed:?} after kubectl");
    }
    ensure!(world.client.has("demo/web"), "others stay");
    Ok(())
}

#[test]
fn what_is_known_is_served_while_the_api_server_is_away_and_changes_are_found_after_it() -> Result<()> {
    let mut world = World::new()?;
    world.api.apply(&service("other", OPTED_IN, ""))?;
    world.until("the second Service is served", SOON, |client| client.has("demo/other"))?;
    world.api.kill();
    world.logged("the source is out of reach")?;
    let newcomer = eventually("a new client", SOON, || Client::connect(&world.socket))?;
    eventually("a new client is served", SOON, || {
        ensure!(newcomer.has("demo/web") && newcomer.has("demo/other"), "{:?}", newcomer.names());
        Ok(())
    })?;
    // Away for long enough that things happen which the API server forgets before discovery is back.
    world.discovery.signal(Signal::SIGSTOP)?;
    world.api.start_server()?;
    world.api.kubectl(&["-n", "demo", "delete", "service/other", "endpointslice/other-1"])?;
    world.api.apply(&service("new", OPTED_IN, ""))?;
    world.api.compact()?;
    world.api.kill();
    world.api.start_server()?;
    world.discovery.signal(Signal::SIGCONT)?;
    world.until("what happened meanwhile is served", SOON, |client| {
        client.has("demo/new") && !client.has("demo/other") && client.has("demo/web")
    })?;
    world.logged("expired: reading everything anew")?;
    world.logged("the source is back")?;
    world.api.kubectl(&["-n", "demo", "delete", "service/new"])?;
    world.until("changes are heard of again", AT_ONCE, |client| !client.has("demo/new")).map(drop)
}

#[test]
fn an_invalid_annotation_is_an_event_on_the_service() -> Result<()> {
    let world = World::new()?;
    world.api.apply(&service("odd", OPTED_IN, "evenkeel.io/zone: nowhere"))?;
    world.until("a fault does not stop it from being served", SOON, |client| client.has("demo/odd"))?;
    eventually("the Event", SOON, || {
        let described = world.api.kubectl(&["-n", "demo", "describe", "service", "odd"])?;
        ensure!(described.contains("InvalidOption"), "{described}\n{}", world.discovery.tail());
        ensure!(
            described.contains("annotation evenkeel.io/zone is \"nowhere\"; allowed: prefer"),
            "{described}"
        );
        Ok(())
    })
}

#[test]
fn the_role_allows_what_is_needed_and_nothing_else() -> Result<()> {
    let world = World::new()?;
    let may = |verb: &str, resource: &str| {
        let answer = world.api.kubectl(&["auth", "can-i", verb, resource, "-A", "--as", ACCOUNT]);
        match answer {
            Ok(_) => Ok(true),
            Err(error) if format!("{error:#}").contains("\nno") => Ok(false),
            Err(error) => Err(error),
        }
    };
    for resource in ["services", "endpointslices.discovery.k8s.io", "nodes", "pods"] {
        for verb in ["list", "watch"] {
            ensure!(may(verb, resource)?, "{verb} {resource} is needed");
        }
        for verb in ["create", "update", "patch", "delete"] {
            ensure!(!may(verb, resource)?, "{verb} {resource} is not needed");
        }
    }
    ensure!(may("create", "tokenreviews.authentication.k8s.io")? && may("create", "events.events.k8s.io")?);
    for resource in ["secrets", "configmaps"] {
        ensure!(!may("get", resource)? && !may("list", resource)?, "{resource} are nobody's business");
    }
    // Not only by the authorizer's word.
    let token = world.api.kubectl(&["-n", "evenkeel-system", "create", "token", "evenkeel-discovery"])?;
    let config = world.api.kubeconfig("tried", token.trim())?;
    match world.api.kubectl_with(&config, &["-n", "demo", "delete", "service", "web"], "") {
        Ok(_) => bail!("it could delete a Service"),
        Err(error) => ensure!(format!("{error:#}").contains("forbidden"), "{error:#}"),
    }
    Ok(())
}
