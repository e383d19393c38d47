// SPDX-License-Identifier: Apache-2.0
//! What an operator sees of a running service: subcommands, CSDS, health, load. Tier 2: the real binary asks a service in
//! process, over its real socket.

mod harness;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterStats, UpstreamLocalityStats};
use envoy_types::pb::envoy::service::load_stats::v3::LoadStatsRequest;
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use envoy_types::pb::envoy::service::status::v3::{ClientStatusRequest, ConfigStatus};
use evenkeel_discovery::app::{App, StartError};
use evenkeel_discovery::config::{AdminPlace, Listen, Security};
use evenkeel_discovery::feed::Feeds;
use evenkeel_discovery::source::{Change, Source, SourceError};
use evenkeel_xds::type_url::SERVICE;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use harness::{Client, DEADLINE, Server, cluster, service, slice};

fn web() -> (&'static str, String) {
    let endpoints = [("10.0.0.1", "zone-a"), ("10.0.0.2", "zone-b")];
    ("web.yaml", format!("{}---\n{}", service("web"), slice("web", &endpoints)))
}

/// Runs the binary against a socket.
async fn run(socket: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel-discovery"));
    command.args(args).arg("--admin-socket").arg(socket).env("EVENKEEL_MANIFESTS", "/does/not/matter");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn text(server: &Server, args: &[&str]) -> String {
    let output = run(&server.admin_socket(), args).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn json(server: &Server, args: &[&str]) -> Value {
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&text(server, &args).await).unwrap()
}

/// Asks until the answer is as wanted.
async fn until(server: &Server, args: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = async {
        loop {
            last = json(server, args).await;
            if wanted(&last) {
                return;
            }
        }
    };
    let late = tokio::time::timeout(DEADLINE, found).await.is_err();
    assert!(!late, "{args:?}: {last:#}");
    last
}

fn address(server: &Server) -> String {
    let Listen::Tcp(address) = server.app.ads_address() else { panic!("not TCP") };
    format!("http://{address}")
}

/// A client that rejects its Service.
async fn rejecting(server: &Server, zone: &str) -> Client {
    let mut client = Client::connect(server, zone).await;
    loop {
        let response = client.receive().await.unwrap();
        let rejected = response.type_url == SERVICE;
        client.answer(&response, rejected.then_some("demo/web: no such strategy")).await;
        if rejected {
            return client;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_in_sync_comes_first_with_the_reason() {
    let server = Server::start(&[web()]).await;
    let mut good = Client::connect(&server, "zone-a").await;
    good.until(|client| client.services.len() + client.clusters.len() == 2).await;
    let mut silent = Client::connect(&server, "zone-b").await;
    silent.receive().await.unwrap();
    let _rejecting = rejecting(&server, "zone-c").await;

    let list = until(&server, &["clients"], |list| {
        let find = |id: &str| list["clients"].as_array().unwrap().iter().find(|c| c["id"] == id).cloned();
        let is = |id: &str, key: &str, value: Value| find(id).is_some_and(|client| client[key] == value);
        is("test-zone-a", "in_sync", true.into())
            && is("test-zone-b", "in_sync", false.into())
            && is("test-zone-c", "rejected", 1.into())
    })
    .await;
    let ids: Vec<&str> =
        list["clients"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["test-zone-c", "test-zone-b", "test-zone-a"]);
    let first = &list["clients"][0];
    assert_eq!((&first["variant"], &first["zone"]), (&"delta".into(), &"zone-c".into()));
    assert!(first["peer"].as_str().unwrap().starts_with("127.0.0.1:"));

    let table = text(&server, &["clients"]).await;
    assert!(table.starts_with("3 clients (3 other): "), "{table}");
    assert!(table.contains("! test-zone-c rejects: demo/web: no such strategy\n"), "{table}");
    let detail = text(&server, &["client", "test-zone-c"]).await;
    assert!(detail.contains("REJECTS 1 resource"), "{detail}");
    assert!(detail.contains("! demo/web was rejected: demo/web: no such strategy\n"), "{detail}");
    let index = json(&server, &["index"]).await;
    assert_eq!((&index["clients"], &index["clients_with_rejections"]), (&3.into(), &1.into()));

    drop(good);
    until(&server, &["clients"], |list| list["clients"].as_array().unwrap().len() == 2).await;
    server.until_metric("evenkeel_discovery_clients{kind=\"other\",variant=\"delta\"} 2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_and_a_service_show_what_is_served() {
    let odd = service("odd").replace("request}", "requst}");
    let server = Server::start(&[web(), ("odd.yaml", odd)]).await;
    let index = until(&server, &["index"], |index| index["ready"] == true).await;
    assert_eq!((&index["endpoints"], &index["services"][0]["name"]), (&2.into(), &"demo/web".into()));
    assert!(index["faults"][0].as_str().unwrap().contains("demo/odd"), "{index:#}");

    let table = text(&server, &["service", "web", "--zone", "zone-b"]).await;
    let row = |address: &str| {
        let line = table.lines().find(|line| line.contains(address)).unwrap_or_else(|| panic!("{table}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("10.0.0.2")[..6], ["80", "10.0.0.2:8080", "0", "1", "healthy", "zone-b"]);
    assert_eq!(row("10.0.0.1")[2], "1", "{table}");

    let refused = run(&server.admin_socket(), &["service", "demo/wbe"]).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(error.contains("did you mean demo/web?"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn csds_tells_what_each_client_made_of_each_resource() {
    let server = Server::start(&[web()]).await;
    let _rejecting = rejecting(&server, "zone-c").await;
    until(&server, &["clients"], |list| list["clients"][0]["rejected"] == 1).await;
    let socket = server.admin_socket();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel: Channel =
        Endpoint::from_static("http://admin").connect_with_connector(connector).await.unwrap();
    let mut csds = ClientStatusDiscoveryServiceClient::new(channel);
    let answer = csds.fetch_client_status(ClientStatusRequest::default()).await.unwrap().into_inner();
    let [client] = &answer.config[..] else { panic!("{answer:#?}") };
    assert_eq!(client.node.as_ref().unwrap().id, "test-zone-c");
    let rejected = client.generic_xds_configs.iter().find(|config| config.type_url == SERVICE).unwrap();
    assert_eq!((&*rejected.name, rejected.config_status()), ("demo/web", ConfigStatus::Error));
    assert_eq!(rejected.error_state.as_ref().unwrap().details, "demo/web: no such strategy");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_that_a_client_reports_is_shown_by_zones_and_a_flood_of_reports_is_refused() {
    let server = Server::start(&[web()]).await;
    until(&server, &["index"], |index| index["ready"] == true).await;
    let mut lrs = LoadReportingServiceClient::connect(address(&server)).await.unwrap();
    let (requests, receiver) = mpsc::channel(1);
    let node = Node {
        id: "reporter".into(),
        locality: Some(Locality { zone: "zone-a".into(), ..Default::default() }),
        ..Default::default()
    };
    requests.send(LoadStatsRequest { node: Some(node), ..Default::default() }).await.unwrap();
    let mut answers = lrs.stream_load_stats(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(answer.send_all_clusters);
    assert_eq!(answer.load_reporting_interval.unwrap().seconds, 10);

    let locality = UpstreamLocalityStats {
        locality: Some(Locality { zone: "zone-b".into(), ..Default::default() }),
        total_issued_requests: 30,
        total_error_requests: 2,
        ..Default::default()
    };
    let of = |name: String| ClusterStats {
        cluster_name: name,
        upstream_locality_stats: vec![locality.clone()],
        ..Default::default()
    };
    let report =
        LoadStatsRequest { node: None, cluster_stats: vec![of(cluster("web")), of("xds_cluster".into())] };
    requests.send(report.clone()).await.unwrap();
    let labels = r#"service="demo/web",from="zone-a",to="zone-b""#;
    let metric = |outcome: &str, n: u64| {
        format!("evenkeel_discovery_load_requests_total{{{labels},outcome=\"{outcome}\"}} {n}")
    };
    server.until_metric(&metric("issued", 30)).await;
    server.until_metric(&metric("failed", 2)).await;
    server.until_metric("evenkeel_discovery_load_ignored_total{reason=\"unknown_cluster\"} 1").await;
    let load = json(&server, &["load", "web"]).await;
    let flow = &load["flows"][0];
    assert_eq!(
        (&load["reporters"], &flow["requests"], &flow["to"]),
        (&1.into(), &30.into(), &"zone-b".into())
    );

    let refused = async {
        loop {
            // The receiver goes with the stream.
            requests.send(report.clone()).await.ok();
            if let Ok(ended) = tokio::time::timeout(Duration::from_millis(1), answers.message()).await {
                return ended.unwrap_err();
            }
        }
    };
    let refused = tokio::time::timeout(DEADLINE, refused).await.unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
}

/// A source that is never done.
struct Silent;

impl Source for Silent {
    async fn next(&mut self) -> Result<Vec<Change>, SourceError> {
        std::future::pending().await
    }
}

/// A service that never completes its first sync.
async fn silent(admin: &AdminPlace) -> Result<App, StartError> {
    let any = "127.0.0.1:0".parse().unwrap();
    let security = Security { drain_time: Duration::ZERO, ..Security::plaintext() };
    App::start_with(Feeds::new(Silent), &Listen::Tcp(any), any, &security, admin).await
}

async fn health_client(url: String) -> HealthClient<Channel> {
    HealthClient::new(Endpoint::from_shared(url).unwrap().connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_not_serving_before_the_first_sync_and_from_shutdown_on() {
    let silent = silent(&AdminPlace::None).await.unwrap();
    let Listen::Tcp(at) = silent.ads_address().clone() else { panic!("not TCP") };
    let mut client = health_client(format!("http://{at}")).await;
    let answer = client.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::NotServing);
    silent.shutdown().await;

    let server = Server::start(&[web()]).await;
    let ads = "envoy.service.discovery.v3.AggregatedDiscoveryService";
    let mut client = health_client(address(&server)).await;
    let mut watch = client.watch(HealthCheckRequest { service: ads.into() }).await.unwrap().into_inner();
    let mut seen = watch.message().await.unwrap().unwrap().status();
    while seen != ServingStatus::Serving {
        seen = watch.message().await.unwrap().unwrap().status();
    }
    let stopped = tokio::spawn(server.stop());
    let last = watch.message().await.unwrap().unwrap().status();
    assert_eq!(last, ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none(), "a watcher does not keep the server from ending");
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_admin_socket_that_cannot_be_had_does_not_stop_the_service_and_one_asked_for_does() {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let place = folder.path().join("file/discovery.sock");
    silent(&AdminPlace::IfPossible(place.clone())).await.unwrap().shutdown().await;
    let app = silent(&AdminPlace::At(place)).await;
    assert!(matches!(app, Err(StartError::Admin(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_answers_says_what_to_do() {
    let folder = tempfile::TempDir::new().unwrap();
    let socket = folder.path().join("none.sock");
    for args in [&["index"][..], &["service", "x"], &["clients"], &["client", "x"], &["load"]] {
        let output = run(&socket, args).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("none.sock: No such file") && error.contains("--admin-socket"), "{error}");
    }
    let wrong = run(&socket, &["clients", "--output", "yaml"]).await;
    assert_eq!(wrong.status.code(), Some(2));
}
