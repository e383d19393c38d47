// SPDX-License-Identifier: Apache-2.0
//! The client of discovery over TLS: what it is told when certificates or tokens are wrong, and that it recovers by itself.
//!
//! In front of the fake server stands a relay that ends TLS with the same library as the real one.

use std::{net::SocketAddr, path::Path, sync::Arc};

use evenkeel_agent::config::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncWriteExt, copy, copy_bidirectional, sink},
    net::{TcpListener, UnixStream},
};
use tokio_rustls::TlsAcceptor;

use super::*;

const NAME: &str = "evenkeel-discovery.evenkeel-system.svc";

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Certificate and key, PEM.
type Pair = (String, String);

impl Ca {
    /// All have the same name, as a CA that is made anew: the harder case for whoever explains.
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    /// Ends on the first day of this year.
    fn issue(&self, name: &str, ends: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(ends, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// The server's side: its certificate, and the CA of its clients if it asks for certificates.
fn acceptor((cert, key): &Pair, clients: Option<&Ca>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Ends TLS in front of the fake server; each connection uses the acceptor of that moment.
async fn relay(socket: PathBuf, acceptor: watch::Receiver<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.borrow().clone(), socket.clone());
            tokio::spawn(async move {
                match acceptor.accept(stream).into_fallible().await {
                    Ok(mut tls) => {
                        let mut plain = UnixStream::connect(socket).await?;
                        copy_bidirectional(&mut tls, &mut plain).await.map(drop)
                    }
                    Err((_, mut stream)) => {
                        // As the real one: a reset would overtake the alert.
                        stream.shutdown().await?;
                        copy(&mut stream, &mut sink()).await.map(drop)
                    }
                }
            });
        }
    });
    address
}

struct World {
    folder: tempfile::TempDir,
    server: Server,
    acceptor: watch::Sender<TlsAcceptor>,
    address: SocketAddr,
}

impl World {
    async fn new(ca: &Ca, first: TlsAcceptor) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("ads.sock");
        let server = Server::start(&socket, world(&["a"]));
        let (acceptor, receiver) = watch::channel(first);
        let address = relay(socket, receiver).await;
        let world = Self { folder, server, acceptor, address };
        world.write("ca", &ca.pem);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("draft"), text).unwrap();
        std::fs::rename(self.path("draft"), self.path(name)).unwrap();
    }

    fn credentials(&self) -> Credentials {
        let tls = TlsFiles { ca: self.path("ca"), name: Some(NAME.into()), identity: None };
        Credentials { tls: Some(tls), token: None }
    }

    fn agent(&self, credentials: Credentials) -> Agent {
        let discovery = DiscoveryAddress::Tls(format!("https://{}", self.address));
        Agent::start_at(self.folder.path(), discovery, credentials)
    }

    /// Waits for this error, word for word in part.
    async fn told(&self, agent: &Agent, words: &str) -> Status {
        agent
            .until(words, |status| status.last_error.as_ref().is_some_and(|error| error.contains(words)))
            .await
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_named_with_the_reason_and_served_from_once_it_can() {
    let (ca, other) = (Ca::new(), Ca::new());
    let world = World::new(&ca, acceptor(&other.issue(NAME, 2090), None)).await;
    let agent = world.agent(world.credentials());
    let file = world.path("ca");
    let status = world
        .told(&agent, &format!("its certificate is not from a CA in --discovery-ca {}", file.display()))
        .await;
    assert!(status.last_error.unwrap().starts_with(&format!("discovery https://{}: ", world.address)));
    world.acceptor.send_replace(acceptor(&ca.issue(NAME, 2001), None));
    world.told(&agent, "days ago, by this node's clock").await;
    world.acceptor.send_replace(acceptor(&ca.issue("another.name", 2090), None));
    let status = world.told(&agent, &format!("its certificate is for another.name, not for {NAME}")).await;
    assert!(status.failures["tls"] >= 3 && !status.connected, "{status:?}");
    world.acceptor.send_replace(acceptor(&ca.issue(NAME, 2090), None));
    agent.snapshot("served", complete(&["a"])).await;
    agent.stop().await;
}

#[tokio::test]
async fn what_is_in_force_stays_when_certificates_go_bad_and_new_ones_are_read_without_a_restart() {
    let (ca, next) = (Ca::new(), Ca::new());
    let world = World::new(&ca, acceptor(&ca.issue(NAME, 2090), None)).await;
    let agent = world.agent(world.credentials());
    agent.snapshot("served", complete(&["a"])).await;
    let before = agent.store.current().revision;
    // The server has a certificate of a new CA, ours is garbage: the stream goes, what is in force does not.
    world.acceptor.send_replace(acceptor(&next.issue(NAME, 2090), None));
    world.write("ca", "garbage");
    world.server.streams.cancel();
    let status = world.told(&agent, "holds no certificate in PEM").await;
    assert!(status.failures["credentials"] >= 1, "{status:?}");
    assert_eq!(agent.store.current().revision, before);
    complete(&["a"])(&agent.store.current()).then_some(()).expect("still in force");
    world.write("ca", &next.pem);
    agent.until("back", |status| status.streams_opened == 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_client_certificate_that_is_missing_or_refused_is_asked_for_by_its_flag() {
    let (ca, clients, other) = (Ca::new(), Ca::new(), Ca::new());
    let world = World::new(&ca, acceptor(&ca.issue(NAME, 2090), Some(&clients))).await;
    let agent = world.agent(world.credentials());
    world.told(&agent, "which is missing; give --discovery-cert and --discovery-key").await;
    agent.stop().await;

    let put = |(cert, key): Pair| [("cert", cert), ("key", key)].map(|(name, text)| world.write(name, &text));
    put(other.issue("node-1", 2090));
    let mut credentials = world.credentials();
    let identity = Some((world.path("cert"), world.path("key")));
    credentials.tls = credentials.tls.map(|tls| TlsFiles { identity, ..tls });
    let agent = world.agent(credentials);
    let ours = format!("our certificate, --discovery-cert {}, ", world.path("cert").display());
    world.told(&agent, &format!("{ours}is not from a CA that it knows")).await;
    put(clients.issue("node-1", 2001));
    world.told(&agent, &format!("{ours}has expired or is not valid yet")).await;
    put(clients.issue("node-1", 2090));
    agent.snapshot("served", complete(&["a"])).await;
    agent.stop().await;
}

#[tokio::test]
async fn the_token_is_read_for_each_stream_and_a_refusal_is_told() {
    let ca = Ca::new();
    let world = World::new(&ca, acceptor(&ca.issue(NAME, 2090), None)).await;
    let agent = world.agent(Credentials { token: Some(world.path("token")), ..world.credentials() });
    world.told(&agent, &format!("--discovery-token {}: No such file", world.path("token").display())).await;
    *world.server.seen.refusal.lock() = Some("the token is refused: token has expired".into());
    world.write("token", "first\n");
    let status = world.told(&agent, "the token is refused: token has expired").await;
    assert!(status.failures["unauthenticated"] >= 1, "{status:?}");
    *world.server.seen.refusal.lock() = None;
    world.write("token", "second\n");
    agent.snapshot("served", complete(&["a"])).await;
    let tokens = world.server.seen.tokens.lock().clone();
    assert_eq!((&*tokens[0], tokens.last().map(String::as_str)), ("Bearer first", Some("Bearer second")));
    agent.stop().await;
}

#[tokio::test]
async fn a_plaintext_server_behind_https_is_named() {
    let ca = Ca::new();
    let world = World::new(&ca, acceptor(&ca.issue(NAME, 2090), None)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_content, content) = watch::channel(Content::default());
    let ads = Ads { content, streams: CancellationToken::new(), seen: Arc::default() };
    drop(listener);
    let server = tonic::transport::Server::builder().add_service(AggregatedDiscoveryServiceServer::new(ads));
    let serving = tokio::spawn(server.serve(address));
    let discovery = DiscoveryAddress::Tls(format!("https://{address}"));
    let agent = Agent::start_at(Path::new(world.folder.path()), discovery, world.credentials());
    world.told(&agent, "does not speak TLS; is it discovery with --plaintext?").await;
    agent.stop().await;
    serving.abort();
}
