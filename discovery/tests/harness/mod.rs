// SPDX-License-Identifier: Apache-2.0
//! What the in-process tests share: a directory of manifests, a running service, a delta client of raw messages.
#![allow(dead_code, reason = "each test that shares this module uses its part of it")]

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
use evenkeel_discovery::config::{self, AdminPlace, Config, Fallback, Listen, Security};
use evenkeel_proto::discovery::Service;
use evenkeel_xds::type_url::{CLUSTER_LOAD_ASSIGNMENT, SERVICE};
use prost::Message;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The admin socket's name in the manifests directory; the source reads manifests only.
const ADMIN_SOCKET: &str = "admin.sock";

/// Writes a file as one should: under another name, then renamed.
pub(crate) fn put(directory: &Path, name: &str, text: &str) {
    let draft = directory.join(format!(".{name}.draft"));
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, directory.join(name)).unwrap();
}

/// The address of the Service `demo/NAME`: each has its own, because two with one address contradict each other.
fn cluster_ip(name: &str) -> String {
    let sum: u32 = name.bytes().map(u32::from).sum();
    if name == "web" { "10.96.0.10".to_owned() } else { format!("10.96.{}.{}", 1 + sum / 250, 1 + sum % 250) }
}

/// An opted-in Service `demo/NAME` with one port 80 named `grpc`.
pub(crate) fn service(name: &str) -> String {
    let address = cluster_ip(name);
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: demo\n  labels: {{evenkeel.io/balance: \
         request}}\nspec:\n  clusterIP: {address}\n  ports:\n  - {{name: grpc, port: 80}}\n"
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
        Self::with_fallbacks(files, Vec::new()).await
    }

    /// Starts over these files, with clusters to fall back to.
    pub(crate) async fn with_fallbacks(files: &[(&str, String)], fallbacks: Vec<Fallback>) -> Self {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            put(directory.path(), name, text);
        }
        Self::of(directory, fallbacks, Self::plaintext()).await
    }

    /// Starts over an existing directory, in plaintext, and at the end sends its clients away at once.
    pub(crate) async fn over(directory: TempDir) -> Self {
        Self::of(directory, Vec::new(), Self::plaintext()).await
    }

    /// Starts over an existing directory.
    pub(crate) async fn secured(directory: TempDir, security: Security) -> Self {
        Self::of(directory, Vec::new(), security).await
    }

    fn plaintext() -> Security {
        Security { drain_time: Duration::ZERO, ..Security::plaintext() }
    }

    async fn of(directory: TempDir, fallbacks: Vec<Fallback>, security: Security) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let source = config::Source::Manifests(directory.path().to_owned());
        let admin_socket = AdminPlace::At(directory.path().join(ADMIN_SOCKET));
        let listen = Listen::Tcp(any);
        let config = Config { source, fallbacks, listen, http: any, security, admin_socket };
        let app = App::start(&config).await.unwrap();
        Self { app, directory }
    }

    /// Where ADS is served.
    pub(crate) fn address(&self) -> SocketAddr {
        match self.app.ads_address() {
            Listen::Tcp(address) => *address,
            Listen::Unix(_) => panic!("not TCP"),
        }
    }

    /// Where its admin socket is.
    pub(crate) fn admin_socket(&self) -> std::path::PathBuf {
        self.directory.path().join(ADMIN_SOCKET)
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
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
        Self::open(endpoint.connect().await.unwrap(), zone, held, None).await.unwrap()
    }

    /// Connects and subscribes to these names of one type.
    pub(crate) async fn subscribe(server: &Server, url: &str, names: Vec<String>) -> Self {
        let request = DeltaDiscoveryRequest {
            type_url: url.into(),
            resource_names_subscribe: names,
            ..Default::default()
        };
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
        Self::begin(endpoint.connect().await.unwrap(), vec![request], None).await.unwrap()
    }

    /// Opens a stream on a channel and subscribes as an agent does.
    pub(crate) async fn open(
        channel: Channel,
        zone: &str,
        held: &BTreeMap<(String, String), String>,
        token: Option<&str>,
    ) -> Result<Self, tonic::Status> {
        let first = [SERVICE, CLUSTER_LOAD_ASSIGNMENT].map(|url| {
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
            DeltaDiscoveryRequest {
                node: Some(node),
                type_url: url.into(),
                resource_names_subscribe: vec!["*".into()],
                initial_resource_versions: versions,
                ..Default::default()
            }
        });
        Ok(Self { versions: held.clone(), ..Self::begin(channel, first.into(), token).await? })
    }

    async fn begin(
        channel: Channel,
        first: Vec<DeltaDiscoveryRequest>,
        token: Option<&str>,
    ) -> Result<Self, tonic::Status> {
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let (requests, receiver) = mpsc::channel(16);
        for request in first {
            requests.send(request).await.unwrap();
        }
        let mut request = tonic::Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let responses = client.delta_aggregated_resources(request).await?.into_inner();
        Ok(Self {
            requests,
            responses,
            versions: BTreeMap::new(),
            services: BTreeMap::new(),
            clusters: BTreeMap::new(),
        })
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
