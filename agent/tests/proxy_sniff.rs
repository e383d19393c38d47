// SPDX-License-Identifier: Apache-2.0
//! Tier 2: what is not HTTP/2 is spliced, and what nobody redirected is reset.

mod proxy_rig;

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use evenkeel_agent::store::Application;
use proxy_rig::{Client, Rig, Server, dead_address, soon, until};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A server of plain TCP: each connection runs `handler` in a task.
async fn plain<F, R>(handler: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let connections = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, SeqCst);
            tokio::spawn(handler(stream));
        }
    });
    (address, count)
}

/// Reads to the end, then answers with what was read, reversed.
async fn reverse(mut stream: TcpStream) {
    let mut all = Vec::new();
    if stream.read_to_end(&mut all).await.is_ok() {
        all.reverse();
        _ = stream.write_all(&all).await;
    }
}

async fn exchange(rig: &Rig, request: &[u8]) -> Vec<u8> {
    let mut stream = rig.tcp().await;
    stream.write_all(request).await.unwrap();
    // Half-close: the answer comes after it.
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http1_is_spliced_with_half_close_on_sniffed_and_on_http2_ports() {
    for application in [Application::Unknown, Application::Http2, Application::Opaque] {
        let (server, _) = plain(reverse).await;
        let rig = Rig::new(application, &[server]).await;
        assert_eq!(
            exchange(&rig, b"GET / HTTP/1.1\r\n\r\n").await,
            b"\n\r\n\r1.1/PTTH / TEG",
            "{application:?}"
        );
        until("it has ended", || rig.endpoint(server).load.in_flight() == 0).await;
        let load = rig.endpoint(server).load;
        assert_eq!((load.requests(), load.failures(), load.cancelled()), (1, 0, 0));
        assert_eq!((rig.stats().spliced, rig.stats().requests), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_that_begins_like_the_preface_is_spliced_from_its_first_byte() {
    let (server, _) = plain(reverse).await;
    let rig = Rig::new(Application::Unknown, &[server]).await;
    assert_eq!(exchange(&rig, b"PRI * HTTP/2.0\r\n\r\nXX").await, b"XX\n\r\n\r0.2/PTTH * IRP");
    assert_eq!(exchange(&rig, b"P").await, b"P");
    assert_eq!(exchange(&rig, b"").await, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_heard_while_the_client_waits() {
    let (server, _) = plain(|mut stream| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let mut line = [0; 6];
        stream.read_exact(&mut line).await.unwrap();
        stream.write_all(b"221 bye\r\n").await.unwrap();
    })
    .await;
    let rig = Rig::new(Application::Unknown, &[server]).await;
    let mut stream = rig.tcp().await;
    let mut greeting = [0; 11];
    soon("the greeting", stream.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    stream.write_all(b"QUIT\r\n").await.unwrap();
    let mut rest = Vec::new();
    soon("the answer", stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"221 bye\r\n");
    assert_eq!(rig.stats().spliced, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preface_in_single_bytes_is_http2_and_the_connection_dialled_meanwhile_is_used() {
    let server = Server::echo().await;
    let rig = Rig::new(Application::Unknown, &[server.address]).await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let stream = rig.tcp().await;
    stream.set_nodelay(true).unwrap();
    // Between client and proxy: the first 24 bytes go one by one, each only when the one before has left.
    let (mut from_client, mut to_client) = tokio::io::split(far);
    let (mut from_proxy, mut to_proxy) = stream.into_split();
    tokio::spawn(async move {
        for _ in 0..24 {
            let byte = from_client.read_u8().await.unwrap();
            to_proxy.write_u8(byte).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        _ = tokio::io::copy(&mut from_client, &mut to_proxy).await;
    });
    tokio::spawn(async move { tokio::io::copy(&mut from_proxy, &mut to_client).await });
    let (send, connection) = h2::client::handshake(near).await.unwrap();
    let mut client = Client { send, connection: tokio::spawn(connection) };
    let answer = soon("an answer", client.call(b"hello")).await.unwrap();
    assert_eq!(answer.grpc_status(), Some("0"));
    assert_eq!((rig.stats().spliced, rig.stats().requests), (0, 1));
    assert_eq!(server.connections.load(SeqCst), 1, "one dial for sniffing and for the request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_nobody_redirected_is_reset() {
    let (server, connections) = plain(reverse).await;
    let rig = Rig::new(Application::Unknown, &[server]).await;
    rig.forget_origins();
    assert_eq!(rig.refusal().await, ErrorKind::ConnectionReset);
    assert_eq!((rig.stats().refused, rig.stats().accepted, connections.load(SeqCst)), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spliced_connection_is_placed_elsewhere_when_an_endpoint_is_dead() {
    let dead = dead_address().await;
    let (server, _) = plain(reverse).await;
    let rig = Rig::new(Application::Unknown, &[dead, server]).await;
    for _ in 0..20 {
        assert_eq!(exchange(&rig, b"abc").await, b"cba");
    }
    let rig = Rig::new(Application::Opaque, &[dead]).await;
    assert_eq!(rig.refusal().await, ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_on_one_side_is_a_reset_on_the_other() {
    let (ends, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let (server, _) = plain(move |mut stream| {
        let ends = ends.clone();
        async move {
            let first = stream.read_u8().await.unwrap();
            if first == b's' {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
            ends.send(stream.read_u8().await.unwrap_err().kind()).unwrap();
        }
    })
    .await;
    let rig = Rig::new(Application::Unknown, &[server]).await;
    let mut stream = rig.tcp().await;
    stream.write_all(b"s").await.unwrap();
    assert_eq!(soon("a reset", stream.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut stream = rig.tcp().await;
    stream.write_all(b"c").await.unwrap();
    until("it is through", || rig.proxy.connections().iter().any(|c| c.endpoint == Some(server))).await;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(soon("a reset", seen.recv()).await, Some(ErrorKind::ConnectionReset));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_listed_while_they_are_open() {
    let (server, _) = plain(reverse).await;
    let rig = Rig::new(Application::Opaque, &[server]).await;
    let mut stream = rig.tcp().await;
    until("it is listed", || rig.proxy.connections().len() == 1).await;
    let row = rig.proxy.connections().remove(0);
    assert_eq!((row.service.as_str(), row.endpoint, row.http2), ("shop/cart", Some(server), false));
    assert_eq!((row.client, row.pod.as_ref()), (stream.local_addr().unwrap(), "client"));
    stream.shutdown().await.unwrap();
    until("it is gone", || rig.proxy.connections().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_gone_is_reached_by_its_own_address() {
    let (behind, _) = plain(reverse).await;
    let mut rig = Rig::at(behind, Application::Unknown, &[dead_address().await]).await;
    rig.remove_service();
    assert_eq!(exchange(&rig, b"abc").await, b"cba");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_resets_spliced_connections_on_both_sides() {
    let (ends, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let (server, _) = plain(move |mut stream| {
        let ends = ends.clone();
        async move { ends.send(stream.read_u8().await.unwrap_err().kind()).unwrap() }
    })
    .await;
    let rig = Rig::new(Application::Opaque, &[server]).await;
    let mut stream = rig.tcp().await;
    until("it is through", || rig.proxy.connections().iter().any(|c| c.endpoint == Some(server))).await;
    rig.pod_gone.cancel();
    assert_eq!(soon("a reset", stream.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(soon("a reset", seen.recv()).await, Some(ErrorKind::ConnectionReset));
}
