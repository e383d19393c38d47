// SPDX-License-Identifier: Apache-2.0
//! Tier 2: requests over the proxy on loopback, with real HTTP/2 on both sides and no kernel programs.

mod proxy_rig;

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use evenkeel_agent::{clock::monotonic_ns, store::Application};
use h2::Reason;
use http::{Request, Response, StatusCode};
use proxy_rig::{Client, Rig, Server, dead_address, echo, grpc, ok, read, reset_reason, soon, until};
use tokio::sync::{Notify, mpsc};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unary_call_passes_with_its_trailers() {
    let server = Server::echo().await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let answer = soon("an answer", rig.client().await.call(b"hello")).await.unwrap();
    assert_eq!((answer.body.as_slice(), answer.grpc_status()), (&b"hello"[..], Some("0")));
    assert_eq!(answer.head.headers()["content-type"], "application/grpc");
    let load = rig.endpoint(server.address).load;
    until("the request's end is recorded", || load.in_flight() == 0).await;
    assert_eq!((load.requests(), load.failures(), load.cancelled()), (1, 0, 0));
    until("nothing in flight", || rig.stats().requests_in_flight == 0).await;
    assert_eq!((rig.stats().requests, rig.stats().failures), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_directions_of_a_stream_flow_at_once() {
    // A conversation: each message is answered before the next is sent.
    let server = Server::start(|request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            _ = body.flow_control().release_capacity(data.len());
            _ = stream.send_data(data, false);
        }
        _ = stream.send_trailers(ok());
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let (response, mut up) = client.send.send_request(grpc("/chat"), false).unwrap();
    let mut down = soon("headers", response).await.unwrap().into_body();
    for message in ["one", "two", "three"] {
        up.send_data(Bytes::from(message), false).unwrap();
        let heard = soon("an answer", down.data()).await.unwrap().unwrap();
        assert_eq!(heard, message);
        down.flow_control().release_capacity(heard.len()).unwrap();
    }
    up.send_data(Bytes::new(), true).unwrap();
    assert!(soon("the end", down.data()).await.is_none());
    assert_eq!(down.trailers().await.unwrap().unwrap()["grpc-status"], "0");
}

/// Sends `total` bytes as the window allows and counts them.
async fn pour(stream: &mut h2::SendStream<Bytes>, total: usize, sent: &AtomicUsize) -> bool {
    const PIECE: usize = 16 * 1024;
    while sent.load(SeqCst) < total {
        stream.reserve_capacity(PIECE);
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        let piece = room.min(PIECE).min(total - sent.load(SeqCst));
        if stream.send_data(Bytes::from(vec![7; piece]), false).is_err() {
            return false;
        }
        sent.fetch_add(piece, SeqCst);
    }
    stream.send_data(Bytes::new(), true).is_ok()
}

/// Waits until a counter stands still for a while, and says where.
async fn settled(counter: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    soon("the sender stops", async {
        while last != counter.load(SeqCst) || last == 0 {
            last = counter.load(SeqCst);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    })
    .await;
    last
}

const FLOOD: usize = 64 * 1024 * 1024;
/// Windows and send buffers of proxy and peers for one stream, with room; far below the flood.
const HELD_MAX: usize = 6 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_stops_the_server() {
    let sent = Arc::new(AtomicUsize::new(0));
    let server = Server::start({
        let sent = sent.clone();
        move |_, mut respond| {
            let sent = sent.clone();
            async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                pour(&mut stream, FLOOD, &sent).await;
            }
        }
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let (response, _) = client.send.send_request(grpc("/flood"), true).unwrap();
    let response = soon("headers", response).await.unwrap();
    let held = settled(&sent).await;
    assert!(held < HELD_MAX, "{held} bytes left the server, and nobody read");
    // Reading lets it go on, to the last byte.
    let answer = soon("the rest", read(response)).await.unwrap();
    assert_eq!(answer.body.len(), FLOOD);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_read_stops_the_client() {
    let go_on = Arc::new(Notify::new());
    let received = Arc::new(AtomicUsize::new(0));
    let server = Server::start({
        let (go_on, received) = (go_on.clone(), received.clone());
        move |request, mut respond| {
            let (go_on, received) = (go_on.clone(), received.clone());
            async move {
                go_on.notified().await;
                let body = read(Response::new(request.into_body())).await.unwrap().body;
                received.store(body.len(), SeqCst);
                respond.send_response(Response::new(()), true).unwrap();
            }
        }
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let (response, mut up) = client.send.send_request(grpc("/upload"), false).unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let pouring = tokio::spawn({
        let sent = sent.clone();
        async move { pour(&mut up, FLOOD, &sent).await }
    });
    let held = settled(&sent).await;
    assert!(held < HELD_MAX, "{held} bytes left the client, and nobody read");
    go_on.notify_one();
    assert!(soon("the upload", pouring).await.unwrap());
    assert_eq!(soon("the answer", response).await.unwrap().status(), StatusCode::OK);
    assert_eq!(received.load(SeqCst), FLOOD);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_server_with_its_reason_and_is_counted() {
    let (reasons, mut seen) = mpsc::unbounded_channel();
    let server = Server::start(move |_, mut respond| {
        let reasons = reasons.clone();
        async move { reasons.send(reset_reason(&mut respond).await).unwrap() }
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let load = rig.endpoint(server.address).load;
    for (nth, reason) in [Reason::CANCEL, Reason::ENHANCE_YOUR_CALM].into_iter().enumerate() {
        let (_response, mut up) = client.send.send_request(grpc("/wait"), false).unwrap();
        until("the server has it", || server.requests.load(SeqCst) == nth + 1).await;
        up.send_reset(reason);
        assert_eq!(soon("the reset", seen.recv()).await.unwrap(), reason);
        until("the end is recorded", || load.in_flight() == 0).await;
    }
    assert_eq!((load.cancelled(), load.failures(), rig.stats().cancelled), (2, 0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_after_the_whole_request_was_sent_is_noticed_too() {
    let (reasons, mut seen) = mpsc::unbounded_channel();
    let server = Server::start(move |_, mut respond| {
        let reasons = reasons.clone();
        async move { reasons.send(reset_reason(&mut respond).await).unwrap() }
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let (response, _) = client.send.send_request(grpc("/wait"), true).unwrap();
    until("the server has it", || server.requests.load(SeqCst) == 1).await;
    drop(response);
    assert_eq!(soon("the reset", seen.recv()).await.unwrap(), Reason::CANCEL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_the_server_reaches_the_client_with_its_reason() {
    let server = Server::start(|request, mut respond| async move {
        if request.uri().path() == "/late" {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"half"), false).unwrap();
            stream.send_reset(Reason::ENHANCE_YOUR_CALM);
        } else {
            respond.send_reset(Reason::INADEQUATE_SECURITY);
        }
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let (response, _) = client.send.send_request(grpc("/early"), true).unwrap();
    let error = soon("a reset", response).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INADEQUATE_SECURITY));
    let (response, _) = client.send.send_request(grpc("/late"), true).unwrap();
    let error = match soon("a reset", response).await {
        Ok(response) => soon("a reset", read(response)).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    let load = rig.endpoint(server.address).load;
    until("both are recorded", || load.failures() == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_before_the_end_of_the_upload_ends_the_stream() {
    let server = Server::start(|_, mut respond| async move {
        let response = Response::builder().status(413).body(()).unwrap();
        respond.send_response(response, true).unwrap();
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let (response, mut up) = client.send.send_request(grpc("/upload"), false).unwrap();
    assert_eq!(soon("the answer", response).await.unwrap().status(), 413);
    let reason = soon("the upload is refused", poll_fn(|cx| up.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
    assert!(soon("the connection still works", client.send.clone().ready()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_requests_and_interim_responses_pass() {
    let server = Server::start(|request, mut respond| async move {
        if request.method() == "HEAD" {
            let response = Response::builder().header("content-length", "1234").body(()).unwrap();
            respond.send_response(response, true).unwrap();
            return;
        }
        let early = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
        respond.send_informational(early).unwrap();
        respond.send_response(Response::new(()), true).unwrap();
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let head = Request::head("http://cart.shop/").body(()).unwrap();
    let response = soon("an answer", client.send.send_request(head, true).unwrap().0).await.unwrap();
    assert_eq!(response.headers()["content-length"], "1234");
    let (mut response, _) = client.send.send_request(grpc("/early"), true).unwrap();
    let early = soon("hints", poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(
        (early.status(), early.headers()["link"].as_bytes()),
        (StatusCode::EARLY_HINTS, &b"</a.css>"[..])
    );
    assert_eq!(soon("the answer", response).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_are_judged_by_status_and_trailers() {
    let server = Server::start(|request, mut respond| async move {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        if let Some(status) = path.strip_prefix("http/") {
            let response = Response::builder().status(status).body(()).unwrap();
            respond.send_response(response, true).unwrap();
            return;
        }
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        let mut trailers = ok();
        trailers.insert("grpc-status", path.parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let load = rig.endpoint(server.address).load;
    let mut failures = 0;
    let cases = [
        ("/0", false),
        ("/5", false),
        ("/14", true),
        ("/13", true),
        ("/http/503", true),
        ("/http/404", false),
    ];
    for (path, fails) in cases {
        let (response, _) = client.send.send_request(grpc(path), true).unwrap();
        read(soon("an answer", response).await.unwrap()).await.unwrap();
        failures += u64::from(fails);
        until("the end is recorded", || load.in_flight() == 0).await;
        assert_eq!(load.failures(), failures, "{path}");
    }
    assert_eq!(load.cancelled(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_leave_in_mid_load_fail_no_request() {
    let servers = [Server::echo().await, Server::echo().await, Server::echo().await];
    let addresses: Vec<_> = servers.iter().map(|s| s.address).collect();
    let rig = Rig::new(Application::Http2, &addresses).await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (mut client, done) = (rig.client().await, done.clone());
        load.spawn(async move {
            for _ in 0..200 {
                let answer = client.call(b"hello").await.expect("no call fails");
                assert_eq!(answer.grpc_status(), Some("0"));
                done.fetch_add(1, SeqCst);
            }
        });
    }
    for (i, server) in servers[..2].iter().enumerate() {
        until("the load has begun", || done.load(SeqCst) > 500 * (i + 1)).await;
        server.leave.cancel();
    }
    soon("the load", async {
        while let Some(ended) = load.join_next().await {
            ended.unwrap()
        }
    })
    .await;
    assert_eq!(rig.stats().failures, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_is_sent_elsewhere_with_its_body() {
    let refusing = Server::start(|mut request, mut respond| async move {
        // The body has been read, all of it is needed again.
        _ = request.body_mut().data().await;
        respond.send_reset(Reason::REFUSED_STREAM);
    })
    .await;
    let willing = Server::echo().await;
    let rig = Rig::new(Application::Http2, &[refusing.address, willing.address]).await;
    let mut client = rig.client().await;
    for _ in 0..50 {
        let answer = soon("an answer", client.call(b"hello")).await.unwrap();
        assert_eq!((answer.body.as_slice(), answer.grpc_status()), (&b"hello"[..], Some("0")));
    }
    assert!(refusing.requests.load(SeqCst) > 0, "the refusing server was never asked");
    assert_eq!(willing.requests.load(SeqCst), 50);
    assert_eq!(rig.stats().failures, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_costs_no_request_and_goes_into_back_off() {
    let (dead, live) = (dead_address().await, Server::echo().await);
    let rig = Rig::new(Application::Http2, &[dead, live.address]).await;
    let mut client = rig.client().await;
    for _ in 0..100 {
        assert_eq!(soon("an answer", client.call(b"hello")).await.unwrap().grpc_status(), Some("0"));
    }
    let load = rig.endpoint(dead).load;
    assert!(load.requests() > 0, "the dead endpoint was never tried");
    assert!(load.requests() < 20, "it was tried {} times", load.requests());
    assert!(load.backing_off(monotonic_ns()));
    assert_eq!((load.in_flight(), rig.stats().failures), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_one_stream_per_connection_gets_more_connections() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1);
    let all_here = Arc::new(tokio::sync::Barrier::new(8));
    let server = Server::with(builder, {
        let all_here = all_here.clone();
        move |request, respond| {
            let all_here = all_here.clone();
            async move {
                // Nobody is answered before all eight are being served at once.
                all_here.wait().await;
                echo(request, respond).await;
            }
        }
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let client = rig.client().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut caller = Client { send: client.send.clone(), connection: tokio::spawn(async { Ok(()) }) };
        calls.spawn(async move { caller.call(b"hello").await.unwrap().grpc_status().map(str::to_owned) });
    }
    soon("eight answers", async {
        while let Some(status) = calls.join_next().await {
            assert_eq!(status.unwrap().as_deref(), Some("0"));
        }
    })
    .await;
    assert!(server.connections.load(SeqCst) >= 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_first_requests_share_one_dial() {
    let server = Server::echo().await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let mut client = rig.client().await;
        calls.spawn(async move { client.call(b"hello").await.unwrap().grpc_status().map(str::to_owned) });
    }
    soon("all answers", async {
        while let Some(status) = calls.join_next().await {
            status.unwrap();
        }
    })
    .await;
    assert_eq!(server.connections.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_endpoint_gets_fewer_requests() {
    let slow = Server::start(|request, respond| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        echo(request, respond).await;
    })
    .await;
    let fast = [Server::echo().await, Server::echo().await, Server::echo().await];
    let mut addresses: Vec<_> = fast.iter().map(|s| s.address).collect();
    addresses.push(slow.address);
    let rig = Rig::new(Application::Http2, &addresses).await;
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = rig.client().await;
        load.spawn(async move {
            for _ in 0..100 {
                client.call(b"hello").await.unwrap();
            }
        });
    }
    soon("the load", async {
        while let Some(ended) = load.join_next().await {
            ended.unwrap()
        }
    })
    .await;
    let share = slow.requests.load(SeqCst);
    assert!(share < 100, "the slow one of four took {share} of 800");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_endpoints_answers_unavailable_and_says_why() {
    let rig = Rig::new(Application::Http2, &[]).await;
    let mut client = rig.client().await;
    let answer = soon("an answer", client.call(b"hello")).await.unwrap();
    assert_eq!((answer.head.status(), answer.grpc_status()), (StatusCode::OK, Some("14")));
    let message = answer.head.headers()["grpc-message"].to_str().unwrap();
    assert_eq!(message, "shop/cart:7 has no endpoint (no-endpoint)");
    let plain = Request::get("http://cart.shop/").body(()).unwrap();
    let answer = read(client.send.send_request(plain, true).unwrap().0.await.unwrap()).await.unwrap();
    assert_eq!(answer.head.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8(answer.body).unwrap().contains("shop/cart:7 has no endpoint"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_endpoints_refuse_the_answer_names_the_last_error() {
    let rig = Rig::new(Application::Http2, &[dead_address().await, dead_address().await]).await;
    let answer = soon("an answer", rig.client().await.call(b"hello")).await.unwrap();
    assert_eq!(answer.grpc_status(), Some("14"));
    let message = answer.head.headers()["grpc-message"].to_str().unwrap().to_owned();
    assert!(message.contains("none of 2 endpoints") && message.contains("refused"), "{message}");
    assert_eq!(rig.stats().failures, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_not_balanced_any_more_is_reached_by_its_own_address() {
    let (endpoint, behind) = (Server::echo().await, Server::echo().await);
    let mut rig = Rig::at(behind.address, Application::Http2, &[endpoint.address]).await;
    let mut client = rig.client().await;
    assert!(soon("an answer", client.call(b"hello")).await.is_ok());
    rig.remove_service();
    assert_eq!(soon("an answer", client.call(b"hello")).await.unwrap().grpc_status(), Some("0"));
    assert_eq!((endpoint.requests.load(SeqCst), behind.requests.load(SeqCst)), (1, 1));
    soon("GOAWAY", async {
        while client.send.clone().ready().await.is_ok() {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_resets_both_sides_at_once() {
    let (gone, mut seen) = mpsc::unbounded_channel();
    let server = Server::start(move |_, mut respond| {
        let gone = gone.clone();
        async move {
            _ = poll_fn(|cx| respond.poll_reset(cx)).await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let rig = Rig::new(Application::Http2, &[server.address]).await;
    let mut client = rig.client().await;
    let (response, _) = client.send.send_request(grpc("/wait"), true).unwrap();
    until("the server has it", || server.requests.load(SeqCst) == 1).await;
    rig.pod_gone.cancel();
    assert!(soon("the client's end", response).await.is_err());
    soon("the server's end", seen.recv()).await.unwrap();
    let ended = soon("the connection", client.connection).await.unwrap().unwrap_err();
    assert_eq!(ended.get_io().map(std::io::Error::kind), Some(std::io::ErrorKind::ConnectionReset));
    until("nothing is left", || {
        let stats = rig.stats();
        (stats.client_connections, stats.upstream_connections, stats.requests_in_flight) == (0, 0, 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_listed_no_more_finishes_its_streams_and_is_left() {
    let go_on = Arc::new(Notify::new());
    let old = Server::echo_when(&go_on).await;
    let new = Server::echo().await;
    let mut rig = Rig::new(Application::Http2, &[old.address]).await;
    let mut client = rig.client().await;
    let (response, mut up) = client.send.send_request(grpc("/slow"), false).unwrap();
    up.send_data(Bytes::from_static(b"hello"), true).unwrap();
    until("the old one has it", || old.requests.load(SeqCst) == 1).await;
    rig.set_endpoints(&[new.address]);
    assert_eq!(soon("an answer", client.call(b"hello")).await.unwrap().grpc_status(), Some("0"));
    assert_eq!(new.requests.load(SeqCst), 1);
    go_on.notify_one();
    let answer = read(soon("the answer", response).await.unwrap()).await.unwrap();
    assert_eq!(answer.grpc_status(), Some("0"));
    until("only the new one's connection is left", || rig.stats().upstream_connections == 1).await;
}
