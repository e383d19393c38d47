// SPDX-License-Identifier: Apache-2.0
//! What the in-process tests share: a directory of manifests, a running service, a delta client of raw messages.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc::Status;
use evenkeel_discovery::app::App;
use evenkeel_discovery::config::{Config, Listen};
use evenkeel_proto::discovery::Service;
use evenkeel_xds::type_url::{CLUSTER_LOAD_ASSIGNMENT, SERVICE};
use prost::Message;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Writes a file as one should: under another name, then renamed.
pub(crate) fn put(directory: &Path, name: &str, text: &str) {
    let draft = directory.join(format!(".{name}.draft"));
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, directory.join(name)).unwrap();
}

/// An opted-in Service `demo/NAME` with one port 80 named `grpc`.
pub(crate) fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: demo\n  labels: {{evenkeel.io/balance: \
         request}}\nspec:\n  clusterIP: 10.96.0.10\n  ports:\n  - {{name: grpc, port: 80}}\n"
    )
}

/// Its slice, with (address, zone) endpoints.
pub(crate) fn slice(name: &str, endpoints: &[(&str, &str)]) -> String {
    let endpoints: String = endpoints
        .iter()
        .map(|(address, zone)| format!("- addresses: [{address}]\n  zone: {zone}\n"))
        .collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  namespace: demo\n  \
         labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\nports:\n- {{name: grpc, port: 8080}}\n\
         endpoints:\n{endpoints}"
    )
}

/// The name of that Service's only cluster.
pub(crate) fn cluster(name: &str) -> String {
    format!("{name}.demo.svc.cluster.local:80")
}

/// A service over a directory of its own.
pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) directory: TempDir,
}

impl Server {
    /// Starts over these files.
    pub(crate) async fn start(files: &[(&str, String)]) -> Self {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            put(directory.path(), name, text);
        }
        Self::over(directory).await
    }

    /// Starts over an existing directory.
    pub(crate) async fn over(directory: TempDir) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let manifests = directory.path().to_owned();
        let app = App::start(&Config { manifests, listen: Listen::Tcp(any), http: any }).await.unwrap();
        Self { app, directory }
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        put(self.directory.path(), name, text);
    }

    /// Stops the service and gives the directory back.
    pub(crate) async fn stop(self) -> TempDir {
        self.app.shutdown().await;
        self.directory
    }

    /// Status code and body of a path of the HTTP server.
    pub(crate) async fn http(&self, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(self.app.http_address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Polls the metrics until they hold this line.
    pub(crate) async fn until_metric(&self, line: &str) {
        let found = async {
            while !self.app.metrics().render().lines().any(|found| found == line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let late = tokio::time::timeout(DEADLINE, found).await.is_err();
        assert!(!late, "no metric {line:?} in\n{}", self.app.metrics().render());
    }
}

/// A client in a zone, with wildcard subscriptions to both types.
pub(crate) struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    /// Version by type and name.
    pub(crate) versions: BTreeMap<(String, String), String>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) clusters: BTreeMap<String, ClusterLoadAssignment>,
}

impl Client {
    /// Connects without holding anything.
    pub(crate) async fn connect(server: &Server, zone: &str) -> Self {
        Self::resume(server, zone, &BTreeMap::new()).await
    }

    /// Connects with versions from an earlier stream.
    pub(crate) async fn resume(
        server: &Server,
        zone: &str,
        held: &BTreeMap<(String, String), String>,
    ) -> Self {
        let Listen::Tcp(address) = server.app.ads_address() else { panic!("not TCP") };
        let mut client = AggregatedDiscoveryServiceClient::connect(format!("http://{address}"))
            .await
            .unwrap()
            .max_decoding_message_size(64 << 20);
        let (requests, receiver) = mpsc::channel(16);
        for url in [SERVICE, CLUSTER_LOAD_ASSIGNMENT] {
            let versions: HashMap<String, String> = held
                .iter()
                .filter(|((kind, _), _)| kind == url)
                .map(|((_, name), version)| (name.clone(), version.clone()))
                .collect();
            let node = Node {
                id: format!("test-{zone}"),
                locality: Some(Locality { zone: zone.into(), ..Default::default() }),
                ..Default::default()
            };
            let request = DeltaDiscoveryRequest {
                node: Some(node),
                type_url: url.into(),
                resource_names_subscribe: vec!["*".into()],
                initial_resource_versions: versions,
                ..Default::default()
            };
            requests.send(request).await.unwrap();
        }
        let responses =
            client.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self {
            requests,
            responses,
            versions: held.clone(),
            services: BTreeMap::new(),
            clusters: BTreeMap::new(),
        }
    }

    /// The next response, not answered.
    pub(crate) async fn receive(&mut self) -> Result<DeltaDiscoveryResponse, tonic::Status> {
        let message = tokio::time::timeout(DEADLINE, self.responses.message());
        message.await.expect("no response in time").map(|response| response.expect("the stream has ended"))
    }

    /// Answers a response; a reason rejects it.
    pub(crate) async fn answer(&mut self, response: &DeltaDiscoveryResponse, reason: Option<&str>) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: reason.map(|reason| Status {
                code: 3,
                message: reason.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// The next response, applied and acknowledged.
    pub(crate) async fn next(&mut self) -> DeltaDiscoveryResponse {
        let response = self.receive().await.unwrap();
        for resource in &response.resources {
            let body = &resource.resource.as_ref().unwrap().value[..];
            self.versions
                .insert((response.type_url.clone(), resource.name.clone()), resource.version.clone());
            match response.type_url.as_str() {
                SERVICE => drop(self.services.insert(resource.name.clone(), Service::decode(body).unwrap())),
                _ => drop(
                    self.clusters.insert(resource.name.clone(), ClusterLoadAssignment::decode(body).unwrap()),
                ),
            }
        }
        for name in &response.removed_resources {
            self.versions.remove(&(response.type_url.clone(), name.clone()));
            self.services.remove(name);
            self.clusters.remove(name);
        }
        self.answer(&response, None).await;
        response
    }

    /// Applies responses until the condition holds; returns them.
    pub(crate) async fn until(&mut self, condition: impl Fn(&Self) -> bool) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        while !condition(self) {
            responses.push(self.next().await);
        }
        responses
    }

    /// (priority, address) of a cluster's endpoints, sorted.
    pub(crate) fn endpoints(&self, cluster: &str) -> Vec<(u32, String)> {
        use envoy_types::pb::envoy::config::core::v3::address::Address;
        use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
        let Some(assignment) = self.clusters.get(cluster) else { return Vec::new() };
        let localities = assignment.endpoints.iter();
        let mut endpoints: Vec<(u32, String)> = localities
            .flat_map(|locality| locality.lb_endpoints.iter().map(|endpoint| (locality.priority, endpoint)))
            .map(|(priority, endpoint)| match &endpoint.host_identifier {
                Some(HostIdentifier::Endpoint(endpoint)) => match endpoint.address.clone().unwrap().address {
                    Some(Address::SocketAddress(socket)) => (priority, socket.address),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            })
            .collect();
        endpoints.sort();
        endpoints
    }
}

/// Names of everything in these responses.
pub(crate) fn names(responses: &[DeltaDiscoveryResponse]) -> Vec<String> {
    let mut names: Vec<String> = responses
        .iter()
        .flat_map(|response| {
            let sent = response.resources.iter().map(|resource| resource.name.clone());
            sent.chain(response.removed_resources.iter().map(|name| format!("-{name}")))
        })
        .collect();
    names.sort();
    names
}
