// SPDX-License-Identifier: Apache-2.0
//! Who gets in, who is told why not, and how clients are let go. Tier 2: in-process, real sockets, real certificates.

#[path = "harness/certs.rs"]
mod certs;
mod harness;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::{Ca, Pair, mount};
use evenkeel_discovery::auth::{TokenReviewer, Unreviewed, Verdict};
use evenkeel_discovery::config::{Listen, Security, TlsFiles, Transport};
use evenkeel_discovery::metrics::Metrics;
use evenkeel_discovery::registry::Registry;
use evenkeel_discovery::serve::{self, Access, Ads, Listener, Loads};
use evenkeel_discovery::snapshot::Snapshot;
use harness::{Client, DEADLINE, Server, cluster, put, service, slice};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

const NAME: &str = "evenkeel-discovery.evenkeel-system.svc";

fn web(addresses: &[&str]) -> String {
    let endpoints: Vec<_> = addresses.iter().map(|address| (*address, "zone-a")).collect();
    format!("{}---\n{}", service("web"), slice("web", &endpoints))
}

fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    put(directory.path(), "web.yaml", &web(&["10.0.0.1"]));
    directory
}

fn secured(files: TlsFiles) -> Security {
    Security { transport: Transport::Tls(files), drain_time: Duration::ZERO, ..Security::plaintext() }
}

/// A TLS client that trusts this CA, with its own certificate or without.
#[derive(Clone)]
struct Trust(Arc<ClientConfig>);

impl Trust {
    fn new(ca: &Ca, identity: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Pair { cert, key }) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(Arc::new(config))
    }

    async fn channel(
        &self,
        address: SocketAddr,
        name: &'static str,
    ) -> Result<Channel, tonic::transport::Error> {
        let config = self.0.clone();
        let connect = move |_| {
            let connector = TlsConnector::from(config.clone());
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from(name).unwrap();
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        };
        Endpoint::from_static("http://discovery").connect_with_connector(tower::service_fn(connect)).await
    }

    /// Whether this client is served; if not, why, in the words of the transport.
    async fn try_out(&self, address: SocketAddr, name: &'static str) -> Result<(), String> {
        let channel = self.channel(address, name).await.map_err(|error| format!("{error:?}"))?;
        let nothing = BTreeMap::new();
        let mut client =
            Client::open(channel, "zone-a", &nothing, None).await.map_err(|error| format!("{error:?}"))?;
        client.receive().await.map(drop).map_err(|error| format!("{error:?}"))
    }
}

#[tokio::test]
async fn a_client_that_trusts_the_server_is_served_and_others_know_why_not() {
    let (ca, other, folder) = (Ca::new("ours"), Ca::new("other"), TempDir::new().unwrap());
    let server = Server::secured(directory(), secured(ca.issue(NAME).mount(folder.path()))).await;
    let address = server.address();
    Trust::new(&ca, None).try_out(address, NAME).await.unwrap();
    let error = Trust::new(&other, None).try_out(address, NAME).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let error = Trust::new(&ca, None).try_out(address, "another.name").await.unwrap_err();
    assert!(error.contains("NotValidForName"), "{error}");
    // A client in plaintext: it is not served, and the server says what it may have been.
    let plaintext = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await;
    if let Ok(channel) = plaintext {
        assert!(Client::open(channel, "zone-a", &BTreeMap::new(), None).await.is_err());
    }
    for line in ["completed\"} 1", "alert\"} 2", "not_tls\"} 1"] {
        server.until_metric(&format!("evenkeel_discovery_tls_handshakes_total{{result=\"{line}")).await;
    }
    // Nobody else was harmed.
    Trust::new(&ca, None).try_out(address, NAME).await.unwrap();
}

#[tokio::test]
async fn with_a_client_ca_only_its_clients_are_served() {
    let (ca, clients, other, folder) =
        (Ca::new("servers"), Ca::new("clients"), Ca::new("other"), TempDir::new().unwrap());
    let mut files = ca.issue(NAME).mount(folder.path());
    let client_ca = folder.path().join("clients.pem");
    std::fs::write(&client_ca, &clients.pem).unwrap();
    files.client_ca = Some(client_ca);
    let server = Server::secured(directory(), secured(files)).await;
    let address = server.address();
    Trust::new(&ca, Some(&clients.issue("node-1"))).try_out(address, NAME).await.unwrap();
    for (identity, wanted) in [
        (None, "CertificateRequired"),
        (Some(other.issue("node-1")), "UnknownCA"),
        (Some(clients.issue_expired("node-1")), "CertificateExpired"),
    ] {
        let error = Trust::new(&ca, identity.as_ref()).try_out(address, NAME).await.unwrap_err();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    server.until_metric("evenkeel_discovery_tls_handshakes_total{result=\"certificate\"} 3").await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_clients_and_renewed_without_a_restart() {
    let (ca, next, folder) = (Ca::new("first"), Ca::new("next"), TempDir::new().unwrap());
    let server = Server::secured(directory(), secured(ca.issue_expired(NAME).mount(folder.path()))).await;
    let address = server.address();
    let error = Trust::new(&ca, None).try_out(address, NAME).await.unwrap_err();
    assert!(error.contains("Expired"), "{error}");
    ca.issue(NAME).mount(folder.path());
    server.until_metric("evenkeel_discovery_tls_reloads_total{result=\"taken\"} 1").await;
    let channel = Trust::new(&ca, None).channel(address, NAME).await.unwrap();
    let mut connected = Client::open(channel, "zone-a", &BTreeMap::new(), None).await.unwrap();
    connected.until(|client| client.clusters.len() == 1).await;
    // Half a rotation and garbage: what was good stays.
    mount(folder.path(), &[("tls.crt", "garbage"), ("tls.key", "garbage")]);
    server.until_metric("evenkeel_discovery_tls_reloads_total{result=\"refused\"} 1").await;
    Trust::new(&ca, None).try_out(address, NAME).await.unwrap();
    // Another CA altogether: new handshakes use it, and who is connected does not notice.
    next.issue(NAME).mount(folder.path());
    server.until_metric("evenkeel_discovery_tls_reloads_total{result=\"taken\"} 2").await;
    Trust::new(&next, None).try_out(address, NAME).await.unwrap();
    server.put("web.yaml", &web(&["10.0.0.2"]));
    connected.until(|client| client.endpoints(&cluster("web")) == [(0, "10.0.0.2".to_owned())]).await;
}

#[tokio::test]
async fn clients_that_say_nothing_delay_nobody() {
    let (ca, folder) = (Ca::new("ours"), TempDir::new().unwrap());
    let server = Server::secured(directory(), secured(ca.issue(NAME).mount(folder.path()))).await;
    let address = server.address();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    server.until_metric("evenkeel_discovery_connections 200").await;
    let began = Instant::now();
    Trust::new(&ca, None).try_out(address, NAME).await.unwrap();
    // A handshake may take 5 s: had anybody been waited for, it would have been that long.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    server.until_metric("evenkeel_discovery_tls_handshakes_total{result=\"timeout\"} 200").await;
}

#[tokio::test]
async fn an_address_with_all_its_connections_is_refused_more_and_gets_them_back() {
    let security = Security { connections_per_peer: 2, drain_time: Duration::ZERO, ..Security::plaintext() };
    let server = Server::secured(directory(), security).await;
    let first = Client::connect(&server, "zone-a").await;
    let _second = Client::connect(&server, "zone-a").await;
    let mut third = TcpStream::connect(server.address()).await.unwrap();
    let heard = tokio::time::timeout(DEADLINE, third.read(&mut [0; 8])).await.expect("closed at once");
    assert!(
        matches!(heard, Ok(0)) || heard.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    );
    server.until_metric("evenkeel_discovery_connections_closed_total{reason=\"peer_limit\"} 1").await;
    drop(first);
    server.until_metric("evenkeel_discovery_connections 1").await;
    Client::connect(&server, "zone-a").await.receive().await.unwrap();
}

/// Accepts `good`, knows nothing of `unknown`, refuses all else.
struct Table;

#[tonic::async_trait]
impl TokenReviewer for Table {
    async fn review(&self, token: &str) -> Result<Verdict, Unreviewed> {
        match token {
            "good" => Ok(Verdict::Accepted("agent".into())),
            "unknown" => Err(Unreviewed("API server: connection refused".into())),
            _ => Ok(Verdict::Refused("token has expired".into())),
        }
    }
}

#[tokio::test]
async fn a_stream_is_opened_by_a_good_token_only() {
    let (ca, folder) = (Ca::new("ours"), TempDir::new().unwrap());
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let Listen::Tcp(address) = *listener.address() else { panic!("not TCP") };
    let (metrics, end) = (Metrics::new(), CancellationToken::new());
    let security = secured(ca.issue(NAME).mount(folder.path()));
    let access =
        Access::without_tokens(&security, metrics.transport.clone(), &end).unwrap().checked_by(Table);
    let (_snapshots, receiver) = watch::channel(Some(Arc::new(Snapshot::default())));
    let ads = Ads::new(receiver, metrics.clone(), Registry::default(), Loads::default());
    let methods = ads.into_methods(&end).await;
    let serving = tokio::spawn(serve::serve(listener, methods, access, end.clone()));
    let channel = Trust::new(&ca, None).channel(address, NAME).await.unwrap();
    let nothing = BTreeMap::new();
    let open = |token| Client::open(channel.clone(), "zone-a", &nothing, token);
    for (token, code, words) in [
        (None, Code::Unauthenticated, "no token; send"),
        (Some("old"), Code::Unauthenticated, "the token is refused: token has expired"),
        (
            Some("unknown"),
            Code::Unavailable,
            "the token cannot be checked now: API server: connection refused",
        ),
    ] {
        let status = open(token).await.err().expect("refused");
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(words), "{status:?}");
    }
    open(Some("good")).await.unwrap().receive().await.unwrap();
    let text = metrics.render();
    for line in ["accepted\"} 1", "refused\"} 2", "unknown\"} 1"] {
        assert!(
            text.contains(&format!("evenkeel_discovery_tokens_total{{result=\"{line}")),
            "{line}: {text}"
        );
    }
    end.cancel();
    tokio::time::timeout(DEADLINE, serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_drain_moves_clients_one_by_one_and_none_misses_a_change() {
    const CLIENTS: usize = 24;
    const DRAIN: Duration = Duration::from_secs(3);
    let security = Security { drain_time: DRAIN, ..Security::plaintext() };
    let (one, other) = (Server::secured(directory(), security).await, Server::over(directory()).await);
    let elsewhere = other.address();
    let address = one.address();
    let began = Arc::new(std::sync::OnceLock::<Instant>::new());
    let mut tasks = tokio::task::JoinSet::new();
    let (synced, mut all_synced) = watch::channel(0);
    for _ in 0..CLIENTS {
        let (began, synced) = (began.clone(), synced.clone());
        let mut client = Client::connect(&one, "zone-a").await;
        tasks.spawn(async move {
            client.until(|client| client.clusters.len() == 1).await;
            synced.send_modify(|count| *count += 1);
            let mut changed = Vec::new();
            let status = loop {
                match client.receive().await {
                    Ok(response) => {
                        client.answer(&response, None).await;
                        changed.extend(response.resources.into_iter().map(|resource| resource.name));
                    }
                    Err(status) => break status,
                }
            };
            let left = began.get().unwrap().elapsed();
            // Resumes at the other replica, whose content changed meanwhile.
            let channel =
                Endpoint::from_shared(format!("http://{elsewhere}")).unwrap().connect().await.unwrap();
            let mut moved = Client::open(channel, "zone-a", &client.versions, None).await.unwrap();
            moved.until(|client| client.endpoints(&cluster("web")) == [(0, "10.0.0.9".to_owned())]).await;
            (status, left, changed)
        });
    }
    tokio::time::timeout(DEADLINE, all_synced.wait_for(|count| *count == CLIENTS)).await.unwrap().unwrap();
    began.set(Instant::now()).unwrap();
    // The source is followed to the end: who is still here is told.
    let manifests = one.directory.path().to_owned();
    let metrics = one.app.metrics().clone();
    let stopping = tokio::spawn(one.stop());
    put(&manifests, "web.yaml", &web(&["10.0.0.9"]));
    other.put("web.yaml", &web(&["10.0.0.9"]));
    // Who comes now is told at once to go elsewhere.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let mut left = Vec::new();
    let mut told = 0;
    while let Some(ended) = tasks.join_next().await {
        let (status, at, changed) = ended.unwrap();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        told += usize::from(changed.contains(&cluster("web")));
        left.push(at);
    }
    left.sort();
    println!("left after {left:?}, {told} had heard of the change before");
    let halves = left.iter().filter(|at| **at < DRAIN / 2).count();
    assert!((CLIENTS / 4..=CLIENTS * 3 / 4).contains(&halves), "spread over the drain time: {left:?}");
    assert!(left[CLIENTS - 1] > DRAIN * 3 / 4, "{left:?}");
    assert!(told >= CLIENTS / 4, "changes go on to arrive at those who are still there: {told}");
    tokio::time::timeout(DEADLINE, stopping).await.expect("it ends once all have left").unwrap();
    assert_eq!(metrics.transport.connections.get(), 0);
}
