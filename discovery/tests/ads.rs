// SPDX-License-Identifier: Apache-2.0
//! The whole service over gRPC: files in, what clients hold out. Tier 2: in-process, real sockets and inotify.
//!
//! That nothing is sent is shown by a later change: whatever had been sent would have come before it.

mod harness;

use std::time::Instant;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use evenkeel_discovery::app::{App, StartError};
use evenkeel_discovery::config::{self, AdminPlace, Config, Listen, Security};
use evenkeel_xds::type_url::{CLUSTER_LOAD_ASSIGNMENT, SERVICE};
use prost::Message;
use tonic::Code;

use harness::{Client, Server, cluster, names, service, slice};

fn web(endpoints: &[(&str, &str)]) -> String {
    format!("{}---\n{}", service("web"), slice("web", endpoints))
}

const TWO_ZONES: [(&str, &str); 2] = [("10.0.0.1", "zone-a"), ("10.0.0.2", "zone-b")];

fn both(client: &Client) -> bool {
    client.services.contains_key("demo/web") && client.clusters.contains_key(&cluster("web"))
}

#[tokio::test]
async fn clients_in_two_zones_see_two_views_of_one_service() {
    let server = Server::start(&[("web.yaml", web(&TWO_ZONES))]).await;
    let (mut a, mut b) = (Client::connect(&server, "zone-a").await, Client::connect(&server, "zone-b").await);
    let mut nowhere = Client::connect(&server, "").await;
    for client in [&mut a, &mut b, &mut nowhere] {
        client.until(both).await;
    }
    let pair =
        |first: u32, second: u32| vec![(first, "10.0.0.1".to_owned()), (second, "10.0.0.2".to_owned())];
    let sorted = |mut list: Vec<(u32, String)>| {
        list.sort();
        list
    };
    assert_eq!(a.endpoints(&cluster("web")), sorted(pair(0, 1)));
    assert_eq!(b.endpoints(&cluster("web")), sorted(pair(1, 0)));
    assert_eq!(nowhere.endpoints(&cluster("web")), pair(0, 0));
    let service = &a.services["demo/web"];
    assert_eq!(
        (service.addresses[0].as_str(), service.ports[0].cluster.as_str()),
        ("10.96.0.10", &*cluster("web"))
    );
    assert_eq!(a.services, b.services);
}

#[tokio::test]
async fn an_endpoint_that_is_removed_is_one_message_with_one_cluster() {
    let files = [
        ("web.yaml", web(&TWO_ZONES)),
        ("api.yaml", format!("{}---\n{}", service("api"), slice("api", &[]))),
    ];
    let server = Server::start(&files).await;
    let mut client = Client::connect(&server, "zone-a").await;
    client.until(|client| client.clusters.len() == 2 && client.services.len() == 2).await;
    server.put("web.yaml", &web(&TWO_ZONES[..1]));
    let response = client.next().await;
    assert_eq!(
        (names(std::slice::from_ref(&response)), response.type_url.as_str()),
        (vec![cluster("web")], CLUSTER_LOAD_ASSIGNMENT)
    );
    assert_eq!(client.endpoints(&cluster("web")), [(0, "10.0.0.1".to_owned())]);
    std::fs::remove_file(server.directory.path().join("api.yaml")).unwrap();
    let gone = client.until(|client| client.clusters.len() == 1 && client.services.len() == 1).await;
    assert_eq!(names(&gone), [format!("-{}", cluster("api")), "-demo/api".to_owned()]);
}

#[tokio::test]
async fn a_rejected_resource_is_not_sent_again_until_it_changes() {
    let server = Server::start(&[("web.yaml", web(&TWO_ZONES))]).await;
    let mut client = Client::connect(&server, "zone-a").await;
    loop {
        let response = client.receive().await.unwrap();
        let rejected = response.type_url == SERVICE;
        client.answer(&response, rejected.then_some("demo/web: I do not like it")).await;
        if response.type_url == CLUSTER_LOAD_ASSIGNMENT {
            break;
        }
    }
    server.until_metric("evenkeel_discovery_rejections_total{resource=\"service\"} 1").await;
    server.put("api.yaml", &service("api"));
    let responses = client.until(|client| client.services.len() == 1 && client.clusters.len() == 1).await;
    assert_eq!(names(&responses), [cluster("api"), "demo/api".to_owned()], "not demo/web");
    server.put("web.yaml", &web(&TWO_ZONES).replace("10.96.0.10", "10.96.0.11"));
    let responses = client.until(|client| client.services.contains_key("demo/web")).await;
    assert_eq!(names(&responses), ["demo/web"]);
}

#[tokio::test]
async fn after_a_restart_a_client_that_resumes_is_sent_only_what_differs() {
    let server = Server::start(&[("web.yaml", web(&TWO_ZONES))]).await;
    let mut client = Client::connect(&server, "zone-a").await;
    client.until(both).await;
    let held = client.versions.clone();
    let directory = server.stop().await;
    let ended = loop {
        match client.receive().await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "discovery is shutting down"));

    let server = Server::over(directory).await;
    let mut client = Client::resume(&server, "zone-a", &held).await;
    server.until_metric("evenkeel_discovery_requests_total{resource=\"endpoints\"} 1").await;
    server.put("api.yaml", &service("api"));
    let responses = client.until(|client| client.services.len() == 1 && client.clusters.len() == 1).await;
    assert_eq!(names(&responses), [cluster("api"), "demo/api".to_owned()], "demo/web is held already");
    // The same versions from another zone are another zone's view: that client is sent its own.
    let mut other = Client::resume(&server, "zone-b", &held).await;
    let responses = other.until(|client| client.clusters.len() == 2).await;
    assert!(names(&responses).contains(&cluster("web")));
    assert!(!names(&responses).contains(&"demo/web".to_owned()));
}

#[tokio::test]
async fn bad_input_keeps_what_was_good_and_is_told_to_everybody() {
    let server = Server::start(&[("web.yaml", web(&TWO_ZONES))]).await;
    let mut client = Client::connect(&server, "zone-a").await;
    client.until(both).await;
    let before = client.clone_endpoints();

    server.put("web.yaml", "kind: [Service\n");
    server.until_metric("evenkeel_discovery_faults{kind=\"syntax\"} 1").await;
    let unknown = web(&TWO_ZONES).replace("balance: request", "balance: always");
    server.put("web.yaml", &unknown);
    let responses = client.until(|client| !client.services["demo/web"].faults.is_empty()).await;
    assert_eq!(names(&responses), ["demo/web"], "the endpoints are not touched");
    assert_eq!(
        client.services["demo/web"].faults,
        ["Service demo/web: label evenkeel.io/balance is \"always\"; allowed: connection, request"]
    );
    assert_eq!(client.services["demo/web"].balance, i32::from(evenkeel_proto::discovery::Balance::Request));
    assert_eq!(client.clone_endpoints(), before);
    server.until_metric("evenkeel_discovery_faults{kind=\"option\"} 1").await;
    server.until_metric("evenkeel_discovery_faults{kind=\"syntax\"} 0").await;
    server.put("web.yaml", &web(&TWO_ZONES));
    client.until(|client| client.services["demo/web"].faults.is_empty()).await;
    server.until_metric("evenkeel_discovery_faults{kind=\"option\"} 0").await;
}

impl Client {
    fn clone_endpoints(&self) -> Vec<(u32, String)> {
        self.endpoints(&cluster("web"))
    }
}

#[tokio::test]
async fn ten_thousand_endpoints_in_one_slice_are_served() {
    let addresses: Vec<String> = (0..10_000).map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let endpoints: Vec<(&str, &str)> = addresses.iter().map(|address| (address.as_str(), "zone-a")).collect();
    let server = Server::start(&[("web.yaml", web(&TWO_ZONES))]).await;
    let mut client = Client::connect(&server, "zone-a").await;
    client.until(both).await;
    let began = Instant::now();
    server.put("web.yaml", &web(&endpoints));
    client.until(|client| client.endpoints(&cluster("web")).len() == 10_000).await;
    let took = began.elapsed();
    println!("10 000 endpoints: {} ms from the file to the client", took.as_millis());
    // Generous, for a busy machine and unoptimised code; it is to catch what is not linear.
    assert!(took.as_secs() < 10, "{took:?}");
    let began = Instant::now();
    server.put("web.yaml", &web(&endpoints[1..]));
    client.until(|client| client.endpoints(&cluster("web")).len() == 9_999).await;
    println!("one of them removed: {} ms", began.elapsed().as_millis());
}

#[tokio::test]
async fn readiness_metrics_and_unknown_paths_are_answered() {
    let server = Server::start(&[("web.yaml", web(&TWO_ZONES))]).await;
    let mut client = Client::connect(&server, "zone-a").await;
    client.until(both).await;
    assert_eq!(server.http("/ready").await, (200, "ready\n".into()));
    assert_eq!(server.http("/healthz").await, (200, "ok\n".into()));
    assert_eq!(server.http("/").await.0, 404);
    let (status, metrics) = server.http("/metrics").await;
    assert_eq!(status, 200);
    for line in
        ["evenkeel_discovery_streams 1", "evenkeel_discovery_objects{kind=\"services_opted_in\"} 1", "# EOF"]
    {
        assert!(metrics.lines().any(|found| found == line), "{line:?} is not in\n{metrics}");
    }
    drop(client);
    server.until_metric("evenkeel_discovery_streams 0").await;
}

#[tokio::test]
async fn a_state_of_the_world_client_is_served_the_same_and_follows_changes() {
    use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
    use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
    let server = Server::start(&[("web.yaml", web(&TWO_ZONES))]).await;
    let mut delta = Client::connect(&server, "").await;
    delta.until(both).await;
    let address = format!("http://{}", server.app.ads_address());
    let mut client = AggregatedDiscoveryServiceClient::connect(address).await.unwrap();
    let (requests, receiver) = tokio::sync::mpsc::channel(16);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut request = DiscoveryRequest {
        type_url: CLUSTER_LOAD_ASSIGNMENT.into(),
        resource_names: vec![cluster("web"), cluster("nothing")],
        ..Default::default()
    };
    requests.send(request.clone()).await.unwrap();
    let mut responses = client.stream_aggregated_resources(stream).await.unwrap().into_inner();
    let first = responses.message().await.unwrap().unwrap();
    let assignment = ClusterLoadAssignment::decode(&first.resources[0].value[..]).unwrap();
    assert_eq!((first.resources.len(), &assignment), (1, &delta.clusters[&cluster("web")]));

    request.response_nonce = first.nonce;
    request.version_info = first.version_info.clone();
    requests.send(request).await.unwrap();
    server.put("web.yaml", &web(&TWO_ZONES[..1]));
    let second = responses.message().await.unwrap().unwrap();
    let assignment = ClusterLoadAssignment::decode(&second.resources[0].value[..]).unwrap();
    assert_eq!(assignment.endpoints.len(), 1);
    assert_ne!(second.version_info, first.version_info);
}

#[tokio::test]
async fn a_client_that_asks_for_too_much_is_told_so_and_others_are_unharmed() {
    let server = Server::start(&[("web.yaml", web(&TWO_ZONES))]).await;
    let mut other = Client::connect(&server, "zone-a").await;
    other.until(both).await;
    let names = (0..250_000).map(|n| format!("n{n}")).collect();
    let mut greedy = Client::subscribe(&server, CLUSTER_LOAD_ASSIGNMENT, names).await;
    let status = greedy.receive().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("250000 names; at most 200000"), "{status:?}");
    server.put("web.yaml", &web(&TWO_ZONES[..1]));
    other.until(|client| client.endpoints(&cluster("web")).len() == 1).await;
}

#[tokio::test]
async fn a_unix_socket_is_for_its_owner_and_is_removed_at_the_end() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("discovery.sock");
    // What a killed process leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let config = Config {
        source: config::Source::Manifests(directory.path().to_owned()),
        fallbacks: vec![],
        listen: Listen::Unix(path.clone()),
        http: "127.0.0.1:0".parse().unwrap(),
        security: Security::plaintext(),
        admin_socket: AdminPlace::None,
    };
    let app = App::start(&config).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let second = App::start(&config).await.unwrap_err();
    assert!(matches!(second, StartError::Bind { .. }));
    assert!(second.to_string().contains("another process answers there"), "{second}");
    app.shutdown().await;
    assert!(!path.exists());
}
