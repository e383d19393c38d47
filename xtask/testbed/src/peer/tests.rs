// SPDX-License-Identifier: Apache-2.0
//! Tier 2, in-process: client and server over loopback, with a server end that misbehaves where needed.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::client::{Args, Client};
use super::messages::{FailureKind, NewConnectionErrorKind, Report};
use super::server;

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test)
}

fn client(target: SocketAddr, options: &[&str]) -> Rc<Client> {
    let target = target.to_string();
    let base = ["client", "--target", &target, "--name", "c", "--zone", "zone-a", "--source", "127.0.0.1"];
    Client::start(&Args::try_parse_from(base.iter().chain(options)).expect("valid arguments"))
}

/// A real server that can be drained and dropped.
struct Echo {
    address: SocketAddr,
    drain: watch::Sender<bool>,
    server: Rc<server::Server>,
    task: JoinHandle<()>,
}

async fn echo(options: &[&str]) -> Echo {
    let base = ["server", "--listen", "127.0.0.1:0", "--name", "echo-1", "--zone", "zone-a"];
    let args = server::Args::try_parse_from(base.iter().chain(options)).expect("valid arguments");
    let listener = TcpListener::bind(args.listen[0]).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = Rc::new(server::Server::new(&args));
    let (drain, draining) = watch::channel(false);
    let task = spawn_local(server::accept(server.clone(), listener, draining));
    Echo { address, drain, server, task }
}

/// Polls a condition until it holds; ten seconds are for slow machines.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn assert_clean(report: &Report) {
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.new_connection_errors.is_empty(), "{:?}", report.new_connection_errors);
    assert_eq!(report.succeeded, report.requests);
    assert_eq!(report.source_mismatches, 0);
}

#[test]
fn every_request_is_answered_and_counted_once() {
    run(async {
        let echo = echo(&["--service-time-us", "1000"]).await;
        let client = client(echo.address, &["--rate", "500"]);
        until("100 requests", || echo.server.live().requests >= 100).await;
        let report = client.report().await;
        assert_clean(&report);
        assert_eq!(report.pods["echo-1"], report.succeeded);
        assert_eq!(report.zones["zone-a"], report.succeeded);
        assert_eq!(report.latencies.iter().map(|(_, count)| count).sum::<u64>(), report.requests);
        assert!(
            report.latencies.iter().all(|(micros, _)| *micros >= 1_000),
            "nobody is faster than the service"
        );
        assert_eq!(report.connects, 4);
        assert_eq!(echo.server.live().sources[&"127.0.0.1".parse().expect("an address")], 4);
    });
}

#[test]
fn a_goaway_costs_no_request_even_with_requests_in_flight() {
    run(async {
        let first = echo(&["--service-time-us", "20000", "--workers", "50"]).await;
        let client = client(first.address, &["--rate", "500", "--connections", "3"]);
        until("requests in flight", || first.server.live().in_flight >= 5).await;
        // A successor on the same address, as behind a virtual IP.
        first.drain.send_replace(true);
        until("the listener is closed", || first.task.is_finished()).await;
        let listener = TcpListener::bind(first.address).await.expect("the port is free again");
        let (_drain, draining) = watch::channel(false);
        spawn_local(server::accept(first.server.clone(), listener, draining));
        let before = first.server.live().requests;
        until("requests on the successor", || first.server.live().requests >= before + 100).await;
        let report = client.report().await;
        // Between the two listeners a connect may be refused; a request never fails for it.
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_eq!(report.succeeded, report.requests);
        assert!(report.connects >= 6, "each connection was replaced: {}", report.connects);
    });
}

#[test]
fn reconnecting_replaces_every_connection_and_loses_nothing() {
    run(async {
        let echo = echo(&["--service-time-us", "5000"]).await;
        let client = client(echo.address, &["--rate", "300"]);
        until("traffic", || echo.server.live().requests >= 20).await;
        client.reconnect().await;
        until("the old connections have ended", || echo.server.live().open_connections == 4).await;
        let report = client.report().await;
        assert_clean(&report);
        assert_eq!(report.connects, 8);
    });
}

/// Accepts connections and hands each to `behave`, which is told how many came before.
async fn peer<F: Future<Output = ()> + 'static>(
    behave: impl Fn(usize, tokio::net::TcpStream) -> F + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    spawn_local(async move {
        for number in 0.. {
            let Ok((socket, _)) = listener.accept().await else { return };
            spawn_local(behave(number, socket));
        }
    });
    address
}

#[test]
fn a_broken_connection_is_reopened_and_only_its_requests_fail() {
    run(async {
        // The first connection is answered in HTTP/2 and dropped at its third request; the next ones hold.
        let held = Rc::new(Cell::new(0));
        let seen = held.clone();
        let address = peer(move |number, socket| {
            let seen = seen.clone();
            async move {
                let mut connection = h2::server::handshake(socket).await.expect("a handshake");
                let mut kept = Vec::new();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if number == 0 {
                        kept.push(respond);
                        if kept.len() == 3 {
                            return;
                        }
                        continue;
                    }
                    seen.set(seen.get() + 1);
                    let mut stream = respond.send_response(http::Response::new(()), false).expect("open");
                    let reply = super::grpc::Reply {
                        pod: "p".into(),
                        zone: "z".into(),
                        peer: "127.0.0.1".parse().expect("an address"),
                    };
                    stream.send_data(reply.encode(), false).expect("open");
                    let status =
                        [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))];
                    stream.send_trailers(status.into_iter().collect()).expect("open");
                }
            }
        })
        .await;
        let client = client(address, &["--connections", "1", "--rate", "300"]);
        until("requests on the second connection", || held.get() >= 20).await;
        let report = client.report().await;
        assert_eq!(report.connects, 2);
        assert!((1..=5).contains(&report.failures_total), "{:?}", report.failures);
        assert!(
            report.failures.iter().all(|failure| failure.kind == FailureKind::Reset),
            "{:?}",
            report.failures
        );
        assert_eq!(report.succeeded + report.failures_total, report.requests);
    });
}

#[test]
fn a_request_that_is_not_answered_misses_its_deadline_and_frees_its_worker() {
    run(async {
        let echo = echo(&["--service-time-us", "60000000", "--workers", "1"]).await;
        let client = client(echo.address, &["--rate", "200", "--deadline-ms", "100"]);
        until("ten requests", || echo.server.live().requests >= 10).await;
        let report = client.report().await;
        assert_eq!(report.succeeded, 0);
        assert_eq!(report.failures_total, report.requests);
        assert!(
            report.failures.iter().all(|failure| failure.kind == FailureKind::Deadline),
            "{:?}",
            report.failures
        );
        assert!(
            report.latencies.iter().all(|(micros, _)| *micros >= 99_000),
            "a miss counts as its deadline"
        );
        let at_most = 200 / 10 * 3; // three deadlines' worth of arrivals
        until("given-up requests leave the server", || echo.server.live().in_flight < at_most).await;
    });
}

#[test]
fn a_peer_that_accepts_and_hangs_is_a_new_connection_error() {
    run(async {
        // The kernel completes the connect; nobody ever accepts.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let options = ["--connections", "0", "--churn", "100", "--connect-timeout-ms", "50"];
        let client = client(address, &options);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let report = client.report().await;
        assert!(report.new_connection_errors_total >= 5, "{report:?}");
        let kind = NewConnectionErrorKind::HandshakeTimeout;
        assert!(report.new_connection_errors.iter().all(|error| error.kind == kind), "{report:?}");
        assert_eq!(report.churned, report.new_connection_errors_total);
    });
}

#[test]
fn a_connection_that_hangs_is_replaced_by_its_keepalive() {
    run(async {
        // The first connection answers the opening ping and then nothing; the second is served by a real server.
        let echo = echo(&["--service-time-us", "0"]).await;
        let real = echo.address;
        let address = peer(move |number, mut socket| async move {
            let mut upstream = tokio::net::TcpStream::connect(real).await.expect("the real server");
            let relay = tokio::io::copy_bidirectional(&mut socket, &mut upstream);
            if number > 0 {
                let _ended = relay.await;
                return;
            }
            let _hung = tokio::time::timeout(Duration::from_millis(300), relay).await;
            std::future::pending::<()>().await;
        })
        .await;
        let client = client(address, &["--connections", "1", "--rate", "100", "--deadline-ms", "500"]);
        until("the keepalive has found it", || echo.server.live().sources.values().sum::<u64>() == 2).await;
        let before = echo.server.live().requests;
        until("requests on the second connection", || echo.server.live().requests >= before + 20).await;
        let report = client.report().await;
        assert_eq!(report.connects, 2);
        assert!(report.failures_total > 0, "requests on the hung connection are lost");
    });
}

#[test]
fn short_lived_connections_are_opened_served_and_closed() {
    run(async {
        let echo = echo(&["--service-time-us", "0"]).await;
        let client = client(echo.address, &["--connections", "0", "--churn", "200"]);
        until("20 connections", || echo.server.live().sources.values().sum::<u64>() >= 20).await;
        let report = client.report().await;
        assert_clean(&report);
        assert_eq!(report.requests, 0);
        assert!(report.churned >= 19, "{}", report.churned);
    });
}

#[test]
fn an_unknown_method_is_unimplemented() {
    run(async {
        let echo = echo(&[]).await;
        let socket = tokio::net::TcpStream::connect(echo.address).await.expect("connected");
        let (mut sender, connection) = h2::client::handshake(socket).await.expect("a handshake");
        spawn_local(async move { drop(connection.await) });
        let request = http::Request::post("http://x/evenkeel.demo.Echo/Nothing").body(()).expect("a request");
        let (response, mut stream) = sender.send_request(request, false).expect("open");
        stream.send_data(Bytes::from_static(&[0; 5]), true).expect("open");
        let response = response.await.expect("a response");
        assert_eq!(response.headers()["grpc-status"], "12");
    });
}
