// SPDX-License-Identifier: Apache-2.0
//! Tier 2: the client of discovery against an in-process ADS server on a unix socket, with the real protocol on both ends.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                Address, Locality, Metadata, Node, SocketAddress, address, socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
        },
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_server::{
                AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
            },
        },
    },
    google::protobuf::{Struct, UInt32Value, Value, value::Kind},
};
use evenkeel_agent::{
    config::{Credentials, DiscoveryAddress},
    store::{Snapshot, Store, persist},
    xds::{self, Source, Status, XdsConfig},
};
use evenkeel_proto::discovery as pb;
use evenkeel_xds::{
    DeltaSession, EncodedResource, Limits, ResourceSource,
    type_url::{CLUSTER_LOAD_ASSIGNMENT, SERVICE},
};
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Streaming};

#[path = "xds/tls.rs"]
mod tls;

/// A test that waits longer than this for an event has failed.
const DEADLINE: Duration = Duration::from_secs(20);

// === content ===

#[derive(Clone, Default)]
struct Content(BTreeMap<(&'static str, String), EncodedResource>);

impl ResourceSource for Content {
    fn get(&self, type_url: &str, name: &str) -> Option<EncodedResource> {
        self.0.iter().find(|((t, n), _)| *t == type_url && n == name).map(|(_, r)| r.clone())
    }

    fn for_each(&self, type_url: &str, visit: &mut dyn FnMut(&EncodedResource)) {
        self.0.values().filter(|r| r.type_url() == type_url).for_each(visit);
    }
}

impl Content {
    fn put(&mut self, resource: EncodedResource) {
        self.0.insert((resource.type_url(), resource.name().to_string()), resource);
    }
}

fn cluster(name: &str) -> String {
    format!("{name}.demo.svc.cluster.local:80")
}

fn service(name: &str) -> EncodedResource {
    let message = pb::Service {
        namespace: "demo".into(),
        name: name.into(),
        balance: pb::Balance::Connection.into(),
        addresses: vec![format!("10.96.0.{}", name.len())],
        ports: vec![pb::Port {
            name: "http".into(),
            port: 80,
            protocol: pb::Protocol::Tcp.into(),
            application: pb::Application::Opaque.into(),
            cluster: cluster(name),
        }],
        ..pb::Service::default()
    };
    EncodedResource::encode(SERVICE, format!("demo/{name}"), &message)
}

fn endpoints(name: &str, addresses: &[&str], weight: u32) -> EncodedResource {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    let fields = HashMap::from([("node".to_owned(), text("n9")), ("pod".to_owned(), text("demo/pod"))]);
    let endpoint = |ip: &&str| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(Address {
                address: Some(address::Address::SocketAddress(SocketAddress {
                    address: (*ip).into(),
                    port_specifier: Some(PortSpecifier::PortValue(8080)),
                    ..SocketAddress::default()
                })),
            }),
            ..Endpoint::default()
        })),
        metadata: Some(Metadata {
            filter_metadata: HashMap::from([("evenkeel.io".to_owned(), Struct { fields: fields.clone() })]),
            ..Metadata::default()
        }),
        load_balancing_weight: Some(UInt32Value { value: weight }),
        ..LbEndpoint::default()
    };
    EncodedResource::assignment(&ClusterLoadAssignment {
        cluster_name: cluster(name),
        endpoints: vec![LocalityLbEndpoints {
            locality: Some(Locality { zone: "a".into(), ..Locality::default() }),
            lb_endpoints: addresses.iter().map(endpoint).collect(),
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    })
}

fn world(names: &[&str]) -> Content {
    let mut content = Content::default();
    for name in names {
        content.put(service(name));
        content.put(endpoints(name, &["10.0.0.1", "10.0.0.2"], 1));
    }
    content
}

// === server ===

/// What the fake server has seen.
#[derive(Default)]
struct Seen {
    nodes: Mutex<Vec<Node>>,
    first_requests: Mutex<Vec<DeltaDiscoveryRequest>>,
    rejections: Mutex<Vec<String>>,
    /// The header `authorization` of each stream.
    tokens: Mutex<Vec<String>>,
    /// Refuse streams, for this reason.
    refusal: Mutex<Option<String>>,
    resources_sent: AtomicUsize,
}

#[derive(Clone)]
struct Ads {
    content: watch::Receiver<Content>,
    /// Cancelling it ends the streams that are open.
    streams: CancellationToken,
    seen: Arc<Seen>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("state of the world"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, tonic::Status> {
        let token = request.metadata().get("authorization");
        self.seen.tokens.lock().extend(token.map(|token| token.to_str().unwrap().to_owned()));
        if let Some(reason) = &*self.seen.refusal.lock() {
            return Err(tonic::Status::unauthenticated(reason.clone()));
        }
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(self.clone().serve(request.into_inner(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Ads {
    async fn serve(
        mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        responses: mpsc::Sender<Result<DeltaDiscoveryResponse, tonic::Status>>,
    ) {
        let mut session = DeltaSession::new(Limits::default(), self.content.borrow_and_update().clone());
        let mut types = Vec::new();
        loop {
            let answers = tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    if !types.contains(&request.type_url) {
                        types.push(request.type_url.clone());
                        self.seen.nodes.lock().extend(request.node.clone());
                        self.seen.first_requests.lock().push(request.clone());
                    }
                    self.seen.rejections.lock().extend(request.error_detail.clone().map(|e| e.message));
                    session.on_request(request).unwrap()
                }
                _ = self.content.changed() => session.on_update(&*self.content.borrow_and_update()),
                () = self.streams.cancelled() => {
                    let _ = responses.send(Err(tonic::Status::unavailable("test ends the stream"))).await;
                    return;
                }
            };
            for answer in answers {
                self.seen.resources_sent.fetch_add(answer.resources.len(), SeqCst);
                if responses.send(Ok(answer.to_delta())).await.is_err() {
                    return;
                }
            }
        }
    }
}

struct Server {
    content: watch::Sender<Content>,
    seen: Arc<Seen>,
    streams: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    fn start(socket: &Path, content: Content) -> Self {
        // A server that was stopped leaves its socket file.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (content, receiver) = watch::channel(content);
        let (seen, streams) = (Arc::<Seen>::default(), CancellationToken::new());
        let ads = Ads { content: receiver, streams: streams.clone(), seen: seen.clone() };
        let serving = tonic::transport::Server::builder()
            .add_service(AggregatedDiscoveryServiceServer::new(ads))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { content, seen, streams, task }
    }

    /// Ends everything: listener, connections, streams.
    async fn stop(self) {
        self.streams.cancel();
        self.task.abort();
        let _ = self.task.await;
    }
}

// === agent ===

struct Agent {
    store: Store,
    status: watch::Receiver<Status>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        Self::start_at(folder, DiscoveryAddress::Unix(folder.join("ads.sock")), Credentials::default())
    }

    fn start_at(folder: &Path, discovery: DiscoveryAddress, credentials: Credentials) -> Self {
        let config = XdsConfig {
            discovery,
            credentials,
            node: "n1".into(),
            zone: "a".into(),
            last_good: last_good(folder),
        };
        let (store, writer) = Store::new(1);
        let (sender, status) = xds::status();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(xds::run(config, writer, sender, cancel.clone()));
        Self { store, status, cancel, task }
    }

    /// Waits for a snapshot.
    async fn snapshot(&self, what: &str, matches: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut changes = self.store.changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                let snapshot = self.store.current();
                if matches(&snapshot) {
                    return snapshot;
                }
                changes.changed().await.unwrap();
            }
        };
        let found = tokio::time::timeout(DEADLINE, wait).await;
        found.unwrap_or_else(|_| {
            panic!("no snapshot with {what}: {:?}, {:?}", self.store.current(), self.status())
        })
    }

    /// Waits for a status.
    async fn until(&self, what: &str, matches: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.status.clone();
        let found = tokio::time::timeout(DEADLINE, status.wait_for(|s| matches(s))).await;
        found.unwrap_or_else(|_| panic!("never {what}: {:?}", self.status())).unwrap().clone()
    }

    fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("the task ends when told to").unwrap();
    }
}

fn last_good(folder: &Path) -> PathBuf {
    folder.join("state").join(persist::FILE_NAME)
}

/// Addresses of the endpoints of a Service's only port.
fn addresses(snapshot: &Snapshot, name: &str) -> Vec<String> {
    let service = snapshot.services.values().find(|s| &*s.spec.name.name == name);
    let endpoints = service.into_iter().flat_map(|s| &s.clusters).flat_map(|c| &c.endpoints);
    endpoints.map(|e| e.spec.address.ip().to_string()).collect()
}

fn complete(names: &[&str]) -> impl Fn(&Snapshot) -> bool {
    move |snapshot| {
        snapshot.services.len() == names.len()
            && names.iter().all(|name| !addresses(snapshot, name).is_empty())
    }
}

// === tests ===

#[tokio::test]
async fn services_and_their_endpoints_come_into_force_and_follow_changes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("ads.sock"), world(&["a", "bb"]));
    let agent = Agent::start(folder.path());
    let snapshot = agent.snapshot("both", complete(&["a", "bb"])).await;
    assert_eq!(addresses(&snapshot, "a"), ["10.0.0.1", "10.0.0.2"]);
    let endpoint = &snapshot.services.values().next().unwrap().clusters[0].endpoints[0].spec;
    assert_eq!((&*endpoint.zone, &*endpoint.node, &*endpoint.pod), ("a", "n9", "demo/pod"));
    let status = agent.until("in sync", |s| s.source == Source::Discovery && s.messages >= 2).await;
    assert!(status.connected && status.rejected.is_empty() && status.last_message.is_some());

    server.content.send_modify(|content| content.put(endpoints("a", &["10.0.0.3"], 1)));
    agent.snapshot("the new endpoint", |s| addresses(s, "a") == ["10.0.0.3"]).await;

    server.content.send_modify(|content| {
        content.0.remove(&(SERVICE, "demo/bb".to_owned()));
        content.0.remove(&(CLUSTER_LOAD_ASSIGNMENT, cluster("bb")));
    });
    agent.snapshot("one Service", complete(&["a"])).await;

    let node = server.seen.nodes.lock()[0].clone();
    assert_eq!((node.id.as_str(), node.locality.unwrap().zone.as_str()), ("n1", "a"));
    assert_eq!(server.seen.nodes.lock().len(), 1, "the node is told once per stream");
    agent.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_broken_resource_among_good_ones_is_rejected_alone_and_what_was_in_force_stays() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("ads.sock"), world(&["a", "bb"]));
    let agent = Agent::start(folder.path());
    agent.snapshot("both", complete(&["a", "bb"])).await;

    server.content.send_modify(|content| {
        content.put(endpoints("a", &["10.0.0.7"], 0));
        content.put(endpoints("bb", &["10.0.0.8"], 1));
    });
    let snapshot = agent.snapshot("the good change", |s| addresses(s, "bb") == ["10.0.0.8"]).await;
    assert_eq!(addresses(&snapshot, "a"), ["10.0.0.1", "10.0.0.2"], "the last good endpoints stay");
    let status = agent.until("rejecting", |s| !s.rejected.is_empty()).await;
    let expected = format!(
        "ClusterLoadAssignment {}: endpoints[0].lb_endpoints[0].load_balancing_weight: 0; must be at least 1",
        cluster("a")
    );
    assert_eq!((status.rejected.len(), &status.rejected[0].reason), (1, &expected));
    assert_eq!((status.rejected[0].kind.as_str(), status.rejections), ("ClusterLoadAssignment", 1));

    // The next good version ends it; the server has heard the reason by then.
    server.content.send_modify(|content| content.put(endpoints("a", &["10.0.0.9"], 1)));
    agent.snapshot("the mended resource", |s| addresses(s, "a") == ["10.0.0.9"]).await;
    agent.until("accepting again", |s| s.rejected.is_empty()).await;
    assert_eq!(*server.seen.rejections.lock(), [format!("{}: {expected}", cluster("a"))]);
    agent.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_dropped_stream_is_resumed_with_the_versions_held() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ads.sock");
    let server = Server::start(&socket, world(&["a", "bb"]));
    let agent = Agent::start(folder.path());
    agent.snapshot("both", complete(&["a", "bb"])).await;
    let before = agent.store.current().revision;
    let content = server.content.borrow().clone();
    server.stop().await;
    let status = agent.until("disconnected", |s| !s.connected && s.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("ads.sock"));
    assert_eq!(agent.store.current().revision, before, "losing discovery changes nothing");

    let server = Server::start(&socket, content);
    agent.until("back", |s| s.connected && s.streams_opened == 2).await;
    // A change afterwards proves that both types are subscribed again.
    server.content.send_modify(|content| content.put(endpoints("a", &["10.0.0.4"], 1)));
    agent.snapshot("the change", |s| addresses(s, "a") == ["10.0.0.4"]).await;
    assert_eq!(server.seen.resources_sent.load(SeqCst), 1, "only what changed was sent");
    let held: Vec<_> =
        server.seen.first_requests.lock().iter().map(|r| r.initial_resource_versions.len()).collect();
    assert_eq!(held, [2, 2]);
    agent.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn the_agent_starts_from_the_last_good_file_without_discovery_and_resumes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ads.sock");
    let server = Server::start(&socket, world(&["a", "bb"]));
    let agent = Agent::start(folder.path());
    agent.snapshot("both", complete(&["a", "bb"])).await;
    let mut content = server.content.borrow().clone();
    agent.stop().await;
    server.stop().await;

    let agent = Agent::start(folder.path());
    let snapshot = agent.snapshot("both from the file", complete(&["a", "bb"])).await;
    assert_eq!((snapshot.revision, agent.status().source), (1, Source::LastGood));
    agent.until("refused", |s| s.last_error.is_some()).await;
    assert_eq!(agent.status().last_message, None);

    // While discovery was away, one Service went and the other's endpoints changed.
    content.0.remove(&(SERVICE, "demo/bb".to_owned()));
    content.0.remove(&(CLUSTER_LOAD_ASSIGNMENT, cluster("bb")));
    content.put(endpoints("a", &["10.0.0.5"], 1));
    let server = Server::start(&socket, content);
    agent.snapshot("the truth", |s| s.services.len() == 1 && addresses(s, "a") == ["10.0.0.5"]).await;
    assert_eq!(agent.status().source, Source::Discovery);
    assert_eq!(server.seen.resources_sent.load(SeqCst), 1);
    agent.stop().await;
    server.stop().await;
    let held = persist::load(&last_good(folder.path())).unwrap();
    assert_eq!(held.len(), 2, "the file followed: {held:?}");
}

#[tokio::test]
async fn a_corrupt_last_good_file_is_named_set_aside_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = last_good(folder.path());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "evenkeel-last-good 1 0000 5\nhello").unwrap();
    let agent = Agent::start(folder.path());
    let status = agent.until("told", |s| s.load_error.is_some()).await;
    let error = status.load_error.unwrap();
    assert!(
        error.contains(path.to_str().unwrap()) && error.contains("does not match its checksum"),
        "{error}"
    );
    assert!(error.contains("last-good.corrupt") && error.contains("starting empty"), "{error}");
    assert_eq!(status.source, Source::Nothing);

    let server = Server::start(&folder.path().join("ads.sock"), world(&["a"]));
    agent.snapshot("discovery's truth", complete(&["a"])).await;
    agent.stop().await;
    server.stop().await;
    assert_eq!(persist::load(&path).unwrap().len(), 2);
    assert!(path.with_file_name("last-good.corrupt").exists());
}

#[tokio::test]
async fn discovery_without_services_is_an_answer_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("ads.sock"), Content::default());
    let agent = Agent::start(folder.path());
    let snapshot = agent.snapshot("a first publication", |s| s.revision > 0).await;
    assert!(snapshot.services.is_empty());
    agent.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn it_works_over_tcp_and_an_unreachable_address_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (_store, writer) = Store::new(1);
    let (sender, mut status) = xds::status();
    let config = XdsConfig {
        discovery: DiscoveryAddress::Tcp(format!("http://{address}")),
        credentials: Credentials::default(),
        node: "n1".into(),
        zone: String::new(),
        last_good: last_good(folder.path()),
    };
    let cancel = CancellationToken::new();
    let task = tokio::spawn(xds::run(config, writer, sender, cancel.clone()));
    let error = status.wait_for(|s| s.last_error.is_some()).await.unwrap().last_error.clone().unwrap();
    assert!(error.contains(&format!("discovery http://{address}: cannot connect: ")), "{error}");
    assert!(error.to_lowercase().contains("refused"), "the cause is told: {error}");

    let (_content, receiver) = watch::channel(Content::default());
    let ads = Ads { content: receiver, streams: CancellationToken::new(), seen: Arc::default() };
    let server = tonic::transport::Server::builder().add_service(AggregatedDiscoveryServiceServer::new(ads));
    let serving = tokio::spawn(server.serve(address));
    tokio::time::timeout(DEADLINE, status.wait_for(|s| s.messages > 0)).await.unwrap().unwrap();
    cancel.cancel();
    task.await.unwrap();
    serving.abort();
}
