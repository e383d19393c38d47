// SPDX-License-Identifier: Apache-2.0
//! A proxy over loopback, without kernel programs and namespaces: the record of original destinations is a fake that says
//! one Service address for every connection, and upstream sockets are ordinary ones.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    future::poll_fn,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use evenkeel_abi::{Origin, OriginKey};
use evenkeel_agent::{
    proxy::{Config, Origins, Pod, Proxy, Sockets, StatsSnapshot},
    store::{
        Application, Balance, Batch, ClusterSpec, Endpoint, EndpointSpec, Port, Protocol, ServiceName,
        ServiceSpec, Store, StoreWriter, ZonePolicy,
    },
};
use evenkeel_balance::priority::Health;
use h2::{Reason, RecvStream, client::SendRequest, server::SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Longest that any awaited event may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits with a deadline.
pub(crate) async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Awaits a condition that has no event of its own.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

struct OneService {
    origin: Origin,
    known: AtomicBool,
}

impl Origins for OneService {
    fn origin(&self, _: &OriginKey) -> Option<Origin> {
        self.known.load(SeqCst).then_some(self.origin)
    }
}

struct PlainSockets;

impl Sockets for PlainSockets {
    fn stream(&self, domain: socket2::Domain) -> std::io::Result<socket2::Socket> {
        let kind = socket2::Type::STREAM.nonblocking().cloexec();
        socket2::Socket::new(domain, kind, Some(socket2::Protocol::TCP))
    }
}

/// The proxy under test and a listener in front of it.
pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) pod: Arc<Pod>,
    pub(crate) store: Store,
    pub(crate) drain: CancellationToken,
    pub(crate) pod_gone: CancellationToken,
    pub(crate) address: SocketAddr,
    writer: StoreWriter,
    service: ServiceSpec,
    origins: Arc<OneService>,
    accepting: JoinHandle<()>,
}

/// The Service address: nothing listens there.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(127, 96, 0, 1);
const VIP_PORT: u16 = 7;

impl Rig {
    pub(crate) async fn new(application: Application, endpoints: &[SocketAddr]) -> Self {
        Self::at(SocketAddr::from((VIP, VIP_PORT)), application, endpoints).await
    }

    /// With a Service address of the test's choice.
    pub(crate) async fn at(vip: SocketAddr, application: Application, endpoints: &[SocketAddr]) -> Self {
        let (store, writer) = Store::new(1);
        let origin = Origin {
            address: vip.ip().into(),
            port_be: vip.port().to_be(),
            protocol: evenkeel_abi::PROTOCOL_TCP,
            ..Origin::default()
        };
        let origins = Arc::new(OneService { origin, known: AtomicBool::new(true) });
        let drain = CancellationToken::new();
        let config =
            Config { store: store.clone(), origins: origins.clone(), drain: drain.clone(), seed: 42 };
        let proxy = Proxy::new(config);
        let pod_gone = CancellationToken::new();
        let pod = proxy.pod("client", 1, Box::new(PlainSockets), pod_gone.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(accept(proxy.clone(), pod.clone(), listener));
        let service = service(vip, application);
        let mut rig =
            Self { proxy, pod, store, drain, pod_gone, address, writer, service, origins, accepting };
        rig.set_endpoints(endpoints);
        rig
    }

    /// Publishes a new list of endpoints.
    pub(crate) fn set_endpoints(&mut self, endpoints: &[SocketAddr]) {
        let endpoints = endpoints.iter().map(|address| endpoint(*address)).collect();
        let clusters = vec![("c".into(), ClusterSpec { endpoints })];
        self.writer.apply(Batch { services: vec![self.service.clone()], clusters, ..Batch::default() });
    }

    /// The label is taken from the Service.
    pub(crate) fn remove_service(&mut self) {
        self.writer.apply(Batch { services_removed: vec![self.service.name.clone()], ..Batch::default() });
    }

    /// Forgets the record of original destinations.
    pub(crate) fn forget_origins(&self) {
        self.origins.known.store(false, SeqCst);
    }

    pub(crate) fn endpoint(&self, address: SocketAddr) -> Endpoint {
        let snapshot = self.store.current();
        let all = snapshot.services.values().flat_map(|s| &s.clusters).flat_map(|c| &c.endpoints);
        all.into_iter().find(|e| e.spec.address == address).expect("a listed endpoint").clone()
    }

    pub(crate) fn stats(&self) -> StatsSnapshot {
        self.proxy.stats().snapshot()
    }

    /// A TCP connection to the proxy.
    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What a client sees first that is never answered: the reset may be there before its `connect()` has returned.
    pub(crate) async fn refusal(&self) -> ErrorKind {
        let refused = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.read_u8().await
        };
        soon("a refusal", refused).await.unwrap_err().kind()
    }

    /// An HTTP/2 connection to the proxy.
    pub(crate) async fn client(&self) -> Client {
        Client::over(self.tcp().await, &mut h2::client::Builder::new()).await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(proxy: Proxy, pod: Arc<Pod>, listener: TcpListener) {
    while let Ok((stream, peer)) = listener.accept().await {
        proxy.accept(&pod, stream, peer);
    }
}

fn service(vip: SocketAddr, application: Application) -> ServiceSpec {
    ServiceSpec {
        name: ServiceName { namespace: "shop".into(), name: "cart".into() },
        balance: Balance::Request,
        strategy: "least-request".into(),
        zone: ZonePolicy::Prefer,
        addresses: vec![vip.ip()],
        ports: vec![Port {
            name: "grpc".into(),
            number: vip.port(),
            protocol: Protocol::Tcp,
            application,
            cluster: "c".into(),
        }],
        faults: Vec::new(),
    }
}

fn endpoint(address: SocketAddr) -> EndpointSpec {
    EndpointSpec {
        address,
        zone: "a".into(),
        node: "".into(),
        pod: "".into(),
        priority: 0,
        weight: NonZeroU32::MIN,
        health: Health::Healthy,
    }
}

/// An address that refuses connections.
pub(crate) async fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// An HTTP/2 client.
pub(crate) struct Client {
    pub(crate) send: SendRequest<Bytes>,
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub(crate) async fn over(stream: TcpStream, builder: &mut h2::client::Builder) -> Self {
        stream.set_nodelay(true).unwrap();
        let (send, connection) = builder.handshake(stream).await.unwrap();
        Self { send, connection: tokio::spawn(connection) }
    }

    /// A gRPC-like call with one message; the body and the trailers of its answer.
    pub(crate) async fn call(&mut self, message: &'static [u8]) -> Result<Answer, h2::Error> {
        let ready = self.send.clone().ready().await?;
        let (response, mut body) = { ready }.send_request(grpc("/shop.Cart/Get"), false)?;
        body.send_data(Bytes::from_static(message), true)?;
        read(response.await?).await
    }
}

pub(crate) fn grpc(path: &str) -> Request<()> {
    Request::post(format!("http://cart.shop{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// A response read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn grpc_status(&self) -> Option<&str> {
        let headers = self.trailers.as_ref().unwrap_or(self.head.headers());
        headers.get("grpc-status").map(|v| v.to_str().unwrap())
    }
}

pub(crate) async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Answer { head: Response::from_parts(parts, ()), body, trailers })
}

/// An HTTP/2 server: each request runs `handler` in a task.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) requests: Arc<AtomicUsize>,
    /// Cancel: GOAWAY on every connection, and no new ones.
    pub(crate) leave: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::with(h2::server::Builder::new(), handler).await
    }

    pub(crate) async fn with<F, R>(builder: h2::server::Builder, handler: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let leave = CancellationToken::new();
        let context = (connections.clone(), requests.clone(), leave.clone());
        let task = tokio::spawn(async move {
            let (connections, requests, leave) = context;
            let handler = Arc::new(handler);
            loop {
                let stream = tokio::select! {
                    () = leave.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                connections.fetch_add(1, SeqCst);
                let (builder, handler) = (builder.clone(), handler.clone());
                tokio::spawn(serve(builder, stream, handler, requests.clone(), leave.clone()));
            }
        });
        Self { address, connections, requests, leave, task }
    }

    /// Answers every call with its own message and `grpc-status: 0`.
    pub(crate) async fn echo() -> Self {
        Self::start(echo).await
    }

    /// As [`Server::echo`], each call once it is told to go on.
    pub(crate) async fn echo_when(go_on: &Arc<Notify>) -> Self {
        let go_on = go_on.clone();
        Self::start(move |request, respond| {
            let go_on = go_on.clone();
            async move {
                go_on.notified().await;
                echo(request, respond).await;
            }
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<F, R>(
    builder: h2::server::Builder,
    stream: TcpStream,
    handler: Arc<F>,
    requests: Arc<AtomicUsize>,
    leave: CancellationToken,
) where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut leaving = false;
    loop {
        tokio::select! {
            () = leave.cancelled(), if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
            next = connection.accept() => match next {
                Some(Ok((request, respond))) => {
                    requests.fetch_add(1, SeqCst);
                    tokio::spawn(handler(request, respond));
                }
                _ => return,
            }
        }
    }
}

pub(crate) async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let Ok(request) = read(Response::new(request.into_body())).await else { return };
    let response = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let Ok(mut stream) = respond.send_response(response, false) else { return };
    _ = stream.send_data(request.body.into(), false);
    _ = stream.send_trailers(ok());
}

pub(crate) fn ok() -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())])
}

/// The reason with which the peer reset the stream.
pub(crate) async fn reset_reason(respond: &mut SendResponse<Bytes>) -> Reason {
    poll_fn(|cx| respond.poll_reset(cx)).await.unwrap()
}
