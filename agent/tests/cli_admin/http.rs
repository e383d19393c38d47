// SPDX-License-Identifier: Apache-2.0
//! `/metrics`, `/ready`, `/healthz`.

use std::{net::SocketAddr, sync::Arc};

use evenkeel_agent::{
    admin::{Facts, facts::Readiness},
    telemetry::HttpServer,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::{
    fake::{Fake, READY},
    server::golden,
};

fn serve(facts: Arc<dyn Facts>) -> SocketAddr {
    let server = HttpServer::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.address();
    tokio::spawn(server.serve(facts, CancellationToken::new()));
    address
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let fake = Fake::fresh();
    let address = serve(fake.clone());
    assert_eq!(
        ask(address, "GET", "/ready").await,
        (
            503,
            "not ready: no endpoints yet, neither from discovery nor from the last-good file; the pods' network \
             namespaces have not been scanned yet; the heartbeat is not fresh\n"
                .to_owned()
        )
    );
    fake.state.lock().unwrap().readiness = READY;
    assert_eq!(ask(address, "GET", "/ready").await, (200, "ready\n".to_owned()));
    fake.state.lock().unwrap().readiness = Readiness { draining: true, ..READY };
    assert_eq!(ask(address, "GET", "/ready").await, (503, "not ready: the agent is draining\n".to_owned()));
    assert_eq!(ask(address, "GET", "/healthz").await, (200, "ok\n".to_owned()), "alive while it drains");
}

#[tokio::test]
async fn metrics_are_the_facts() {
    let address = serve(Fake::busy());
    let (status, body) = ask(address, "GET", "/metrics").await;
    assert_eq!(status, 200);
    golden("metrics.txt", &body);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let address = serve(Fake::fresh());
    assert_eq!(ask(address, "GET", "/").await.0, 404);
    assert_eq!(ask(address, "POST", "/metrics").await.0, 405);
    assert_eq!(ask(address, "HEAD", "/healthz").await, (200, String::new()));
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named() {
    let error = HttpServer::bind("192.0.2.1:9901".parse().unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("--http 192.0.2.1:9901: cannot listen there"), "{error}");
}
