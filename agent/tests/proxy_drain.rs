// SPDX-License-Identifier: Apache-2.0
//! What clients of the proxy see when it drains: GOAWAY, in time for nobody to lose a request by it.

mod proxy_rig;

use std::{
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use bytes::Bytes;
use evenkeel_agent::store::Application;
use h2::Ping;
use proxy_rig::{Client, Rig, Server, grpc, read, soon, until};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_says_goaway_and_finishes_what_is_in_flight() {
    let go_on = Arc::new(Notify::new());
    let server = Server::echo_when(&go_on).await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let (response, mut up) = client.send.send_request(grpc("/slow"), false).unwrap();
    up.send_data(Bytes::from_static(b"hello"), true).unwrap();
    until("the server has it", || server.requests.load(SeqCst) == 1).await;
    rig.drain.cancel();
    soon("GOAWAY", async {
        while client.send.clone().ready().await.is_ok() {
            tokio::task::yield_now().await
        }
    })
    .await;
    go_on.notify_one();
    let answer = read(soon("the answer", response).await.unwrap()).await.unwrap();
    assert_eq!(answer.grpc_status(), Some("0"));
    drop(client.send);
    soon("the connection ends", client.connection).await.unwrap().unwrap();
    until("no connection is left", || rig.proxy.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_connects_during_the_drain_gets_its_first_answer_and_then_goaway() {
    let server = Server::echo().await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    rig.drain.cancel();
    let mut client = answered_client(&rig).await;
    let answer = soon("an answer", client.call(b"hello")).await.unwrap();
    assert_eq!(answer.grpc_status(), Some("0"));
    soon("GOAWAY", async {
        while client.send.clone().ready().await.is_ok() {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_for_nothing_is_told_to_leave_all_the_same() {
    let rig = Rig::new(Application::Http2, &[]).await;
    rig.drain.cancel();
    let client = answered_client(&rig).await;
    soon("the connection ends", client.connection).await.unwrap().unwrap();
}

/// On one thread, so that nothing has served it when the drain looks.
#[tokio::test]
async fn a_connection_counts_as_open_from_its_acceptance_on() {
    let rig = Rig::new(Application::Http2, &[]).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    rig.proxy.accept(&rig.pod, stream, peer);
    assert_eq!(rig.proxy.open_connections(), 1);
    drop(client);
    until("it ends with its client", || rig.proxy.open_connections() == 0).await;
}

/// A client whose PING has been answered: the proxy has taken the connection up, and all that it says first has arrived.
async fn answered_client(rig: &Rig) -> Client {
    let (send, mut connection) = h2::client::handshake(rig.tcp().await).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let connection = tokio::spawn(connection);
    soon("the answer to a PING", pings.ping(Ping::opaque())).await.unwrap();
    Client { send, connection }
}
