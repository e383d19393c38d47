// SPDX-License-Identifier: Apache-2.0
//! One client's connection: HTTP/2 over TCP, one stream, windows as large as the agent's.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use evenkeel_xds::type_url::CLUSTER_LOAD_ASSIGNMENT;
use h2::{RecvStream, SendStream};
use nix::time::{ClockId, clock_gettime};
use tokio::{net::TcpStream, sync::Semaphore};

use super::{board::Board, say, talk::Talk, wire};
use crate::discovery::{plan::Mode, world};

/// The defaults of the agent's transport.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;
/// Clients that connect at the same time. A longer accept queue loses connects, and what would be measured then is how
/// long the kernel waits before it tries again.
const AT_ONCE: usize = 128;

/// The way to the server, which all clients share.
pub(super) struct Door {
    server: SocketAddr,
    places: Semaphore,
}

impl Door {
    /// To the server at this address.
    pub(super) fn new(server: SocketAddr) -> Self {
        Self { server, places: Semaphore::new(AT_ONCE) }
    }
}

/// Connects, subscribes, and follows what it is told until the stream ends, which it never should.
pub(super) async fn follow(
    door: Rc<Door>,
    mode: Mode,
    client: usize,
    mut talk: Talk,
    board: Rc<RefCell<Board>>,
) -> Result<()> {
    let (mut requests, mut responses) = open(&door, mode).await?;
    send(&mut requests, talk.open())?;
    let (mut buffer, mut synced) = (BytesMut::new(), false);
    while let Some(data) = responses.data().await {
        let data = data.context("the stream broke")?;
        responses.flow_control().release_capacity(data.len()).context("no such capacity")?;
        buffer.extend_from_slice(&data);
        let now = monotonic()?;
        while let Some(message) = wire::unframe(&mut buffer)? {
            let response = wire::scan(mode, &message)?;
            if response.type_url == CLUSTER_LOAD_ASSIGNMENT {
                let mut board = board.borrow_mut();
                board.told(client, now);
                let new = |(name, body): &(&[u8], &[u8])| board.is_expected(world::number(name), body);
                if response.resources.iter().any(new)
                    && let Some(instants) = board.arrived(now)
                {
                    say("arrived", instants);
                }
            }
            send(&mut requests, talk.answer(&response)?)?;
            if !synced && talk.in_sync() {
                synced = true;
                say("synced", [board.borrow_mut().synced() as u64]);
            }
        }
    }
    let trailers = responses.trailers().await.ok().flatten().unwrap_or_default();
    let told = |key| trailers.get(key).and_then(|value| value.to_str().ok()).unwrap_or("nothing").to_owned();
    bail!("the server has ended the stream: grpc-status {}, {}", told("grpc-status"), told("grpc-message"))
}

async fn open(door: &Door, mode: Mode) -> Result<(SendStream<Bytes>, RecvStream)> {
    let _place = door.places.acquire().await?;
    let server = door.server;
    let connection =
        TcpStream::connect(server).await.with_context(|| format!("cannot connect to {server}"))?;
    connection.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = builder.handshake(connection).await.context("HTTP/2 handshake")?;
    // Its end is the stream's end, which is told there.
    tokio::task::spawn_local(connection);
    let method = match mode {
        Mode::Delta => "DeltaAggregatedResources",
        Mode::Sotw => "StreamAggregatedResources",
    };
    let request = http::Request::post(format!(
        "http://discovery/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}"
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .body(())?;
    let (response, requests) = sender.ready().await?.send_request(request, false)?;
    let response = response.await.context("no response headers")?;
    if let Some(status) = response.headers().get("grpc-status") {
        bail!("refused: grpc-status {status:?}, {:?}", response.headers().get("grpc-message"));
    }
    Ok((requests, response.into_body()))
}

fn send(requests: &mut SendStream<Bytes>, messages: Vec<Bytes>) -> Result<()> {
    messages.into_iter().try_for_each(|message| requests.send_data(message, false)).context("cannot send")
}

/// Nanoseconds of the clock that all processes of the machine share.
pub(in crate::discovery) fn monotonic() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("there is no monotonic clock")?;
    Ok(u64::try_from(std::time::Duration::from(now).as_nanos())?)
}
