// SPDX-License-Identifier: Apache-2.0
//! Tier 1: a session and a client of another make (h2), joined by a pipe in memory.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response, StatusCode};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use super::*;

const SETTINGS: Settings = Settings { max_streams: 3, window: 100_000, max_header_bytes: 2_000 };

/// Answers each request with its own body, and a trailer that counts it; paths say what else.
#[derive(Debug, Default)]
struct Echo {
    open: HashMap<StreamId, Bytes>,
    finished: Vec<StreamId>,
    closed: usize,
    new: Vec<(StreamId, Request<()>)>,
    /// Bytes of bodies that nobody has taken.
    owed: usize,
    greedy: bool,
}

impl Streams for Echo {
    fn opened(&mut self, stream: StreamId, request: Request<()>) {
        assert_ne!(request.uri().path(), "/panic", "asked for");
        self.open.insert(stream, Bytes::new());
        self.new.push((stream, request));
    }

    fn received(&mut self, stream: StreamId, bytes: &[u8]) -> usize {
        let Some(body) = self.open.get_mut(&stream) else { return bytes.len() };
        *body = [body, bytes].concat().into();
        self.owed += bytes.len();
        if self.greedy { 0 } else { bytes.len() }
    }

    fn finished(&mut self, stream: StreamId) {
        self.finished.push(stream);
    }

    fn closed(&mut self, stream: StreamId) {
        self.closed += usize::from(self.open.remove(&stream).is_some());
    }

    fn read(&mut self, stream: StreamId, room: &mut Room<'_>) -> Read {
        let Some(body) = self.open.get_mut(&stream) else { return Read::End };
        let count = room.put(body);
        body.advance(count);
        if !body.is_empty() || !self.finished.contains(&stream) {
            return Read::Open;
        }
        Read::Trailers([(http::header::ETAG, stream.into())].into_iter().collect())
    }
}

/// What the test wants of a server that runs.
enum Order {
    ShutDown,
}

/// Runs a session until it is over; returns what it has seen.
async fn serve(mut io: DuplexStream, mut echo: Echo, mut orders: mpsc::UnboundedReceiver<Order>) -> Echo {
    let mut session = Session::server(&SETTINGS).unwrap();
    let mut buffer = vec![0; 5_000];
    loop {
        for (stream, request) in std::mem::take(&mut echo.new) {
            let empty = request.uri().path() == "/empty";
            session.respond(stream, &Response::new(()).into_parts().0, !empty).unwrap();
        }
        for stream in echo.open.keys() {
            session.resume(*stream).unwrap();
        }
        loop {
            let mut bytes = Vec::new();
            session.transmit(&mut echo, &mut bytes).unwrap();
            if bytes.is_empty() {
                break;
            }
            io.write_all(&bytes).await.unwrap();
        }
        if session.is_over() {
            return echo;
        }
        tokio::select! {
            Some(Order::ShutDown) = orders.recv() => session.shut_down().unwrap(),
            count = io.read(&mut buffer) => match count.unwrap() {
                0 => return echo,
                count => session.receive(&buffer[..count], &mut echo).unwrap(),
            },
        }
    }
}

struct Pair {
    client: SendRequest<Bytes>,
    server: tokio::task::JoinHandle<Echo>,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
    orders: mpsc::UnboundedSender<Order>,
}

async fn pair(echo: Echo) -> Pair {
    let (near, far) = tokio::io::duplex(20_000);
    let (orders, receiver) = mpsc::unbounded_channel();
    let server = tokio::spawn(serve(far, echo, receiver));
    let (client, connection) = h2::client::handshake(near).await.unwrap();
    Pair { client, server, connection: tokio::spawn(connection), orders }
}

fn post(path: &str) -> Request<()> {
    Request::post(format!("http://x{path}")).body(()).unwrap()
}

/// Sends a body and returns what comes back: status, body, trailers.
async fn exchange(
    client: &mut SendRequest<Bytes>,
    path: &str,
    body: Bytes,
) -> (StatusCode, Vec<u8>, HeaderMap) {
    let (response, mut upload) = client.send_request(post(path), false).unwrap();
    // In pieces, as far as the window lets it.
    let upload = async move { upload.send_data(body, true) };
    let (response, _) = tokio::join!(response, upload);
    let (head, mut download) = response.unwrap().into_parts();
    let mut all = Vec::new();
    while let Some(piece) = download.data().await {
        let piece = piece.unwrap();
        download.flow_control().release_capacity(piece.len()).unwrap();
        all.extend_from_slice(&piece);
    }
    (head.status, all, download.trailers().await.unwrap().unwrap_or_default())
}

#[tokio::test]
async fn bodies_of_any_size_pass_in_both_directions_and_end_with_trailers() {
    let Pair { mut client, server, .. } = pair(Echo::default()).await;
    let mut sent = 0;
    for size in [0, 1, 9, 16_383, 16_384, 16_385, 65_536, 1_000_000] {
        let body: Bytes = (0..size).map(|index| (index % 251) as u8).collect();
        client = client.ready().await.unwrap();
        let (status, back, trailers) = exchange(&mut client, "/a", body.clone()).await;
        sent += 1;
        assert_eq!((status, back.len()), (StatusCode::OK, size));
        assert!(back == body);
        assert_eq!(trailers["etag"], (2 * sent - 1).to_string());
    }
    drop(client);
    let echo = server.await.unwrap();
    assert_eq!((echo.closed, echo.open.len(), echo.finished.len()), (sent, 0, sent));
}

#[tokio::test]
async fn an_answer_without_a_body_ends_a_request_that_has_not_ended() {
    let Pair { mut client, server, .. } = pair(Echo::default()).await;
    let (response, mut upload) = client.send_request(post("/empty"), false).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    let reason = std::future::poll_fn(|context| upload.poll_reset(context)).await.unwrap();
    assert_eq!(reason, h2::Reason::NO_ERROR);
    drop((client, upload));
    assert_eq!(server.await.unwrap().closed, 1);
}

#[tokio::test]
async fn a_window_that_nobody_empties_fills_and_no_more_comes() {
    let Pair { client, server, .. } = pair(Echo { greedy: true, ..Echo::default() }).await;
    let mut client = client.ready().await.unwrap();
    let (_response, mut upload) = client.send_request(post("/a"), false).unwrap();
    upload.send_data(vec![7; 300_000].into(), false).unwrap();
    // All that the window allows comes back, and then nothing does.
    let mut download = _response.await.unwrap().into_body();
    let mut back = 0;
    while back < SETTINGS.window as usize {
        let piece = download.data().await.unwrap().unwrap();
        download.flow_control().release_capacity(piece.len()).unwrap();
        back += piece.len();
    }
    let more = tokio::time::timeout(Duration::from_millis(50), download.data()).await;
    assert!(more.is_err(), "{more:?}");
    drop((client, upload, download));
    assert_eq!(server.await.unwrap().owed, SETTINGS.window as usize);
}

#[tokio::test]
async fn requests_with_too_many_fields_are_refused() {
    let Pair { client, server, .. } = pair(Echo::default()).await;
    let mut client = client.ready().await.unwrap();
    let mut large = post("/a");
    large.headers_mut().insert("x", "y".repeat(2_000).parse().unwrap());
    let (response, _) = client.send_request(large, true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    drop(client);
    let echo = server.await.unwrap();
    assert_eq!((echo.closed, echo.open.len()), (0, 0), "its user never heard of it");
}

#[test]
fn streams_beyond_the_limit_are_refused_also_when_the_client_has_not_heard_of_it() {
    const REFUSED_STREAM: u8 = 7;
    let mut bytes = preface();
    for stream in [1, 3, 5, 7] {
        // POST http://x/: all but the x from HPACK's static table.
        bytes.extend([0, 0, 6, 1, 4, 0, 0, 0, stream, 0x83, 0x86, 0x84, 0x41, 1, b'x']);
    }
    let mut session = Session::server(&SETTINGS).unwrap();
    let mut echo = Echo::default();
    session.receive(&bytes, &mut echo).unwrap();
    assert_eq!(echo.new.iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [1, 3, 5]);
    let mut sent = Vec::new();
    session.transmit(&mut echo, &mut sent).unwrap();
    let reset = [0, 0, 4, 3, 0, 0, 0, 0, 7, 0, 0, 0, REFUSED_STREAM];
    assert!(sent.windows(reset.len()).any(|frame| frame == reset), "{sent:?}");
}

#[tokio::test]
async fn a_client_that_is_sent_away_ends_what_it_has_begun() {
    let Pair { client, server, connection, orders } = pair(Echo::default()).await;
    let mut client = client.ready().await.unwrap();
    let (response, mut upload) = client.send_request(post("/a"), false).unwrap();
    let mut download = response.await.unwrap().into_body();
    orders.send(Order::ShutDown).ok();
    // h2 says so once GOAWAY has come.
    let late = async {
        loop {
            client = match client.ready().await {
                Ok(client) => client,
                Err(error) => return error,
            };
            tokio::task::yield_now().await;
        }
    };
    assert!(late.await.is_go_away());
    upload.send_data("last words".into(), true).unwrap();
    assert_eq!(download.data().await.unwrap().unwrap(), "last words");
    assert!(download.trailers().await.unwrap().is_some());
    assert_eq!(server.await.unwrap().closed, 1, "the server closes when all has been said");
    assert!(connection.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_panic_of_the_streams_is_the_callers_and_nobody_elses() {
    let Pair { mut client, server, .. } = pair(Echo::default()).await;
    let (response, _) = client.send_request(post("/panic"), true).unwrap();
    assert!(response.await.is_err());
    assert!(server.await.unwrap_err().is_panic());
}

/// What a client says first.
fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes
}

#[test]
fn what_is_not_http2_is_an_error_that_says_so() {
    let mut session = Session::server(&SETTINGS).unwrap();
    let error = session.receive(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", &mut Echo::default()).unwrap_err();
    assert!(error.to_string().contains("cannot receive"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Frames with random contents, and their types mostly known ones: nothing may be broken by them.
    #[test]
    fn no_bytes_from_a_client_do_harm(
        frames in prop::collection::vec((0_u8..11, any::<u8>(), 0_u8..8, prop::collection::vec(any::<u8>(), 0..40)), 0..40),
        cut in 1_usize..50,
    ) {
        let mut bytes = preface();
        for (kind, flags, stream, payload) in frames {
            bytes.extend([0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream]);
            bytes.extend(payload);
        }
        let mut session = Session::server(&SETTINGS).unwrap();
        let mut echo = Echo::default();
        for piece in bytes.chunks(cut) {
            if session.receive(piece, &mut echo).is_err() {
                break;
            }
            for (stream, _) in std::mem::take(&mut echo.new) {
                session.respond(stream, &Response::new(()).into_parts().0, true).unwrap();
            }
            session.transmit(&mut echo, &mut Vec::new()).unwrap();
            if session.is_over() {
                break;
            }
        }
    }
}
