// SPDX-License-Identifier: Apache-2.0
//! `evenkeel-testbed server`: a gRPC server with a fixed number of workers and a known service time.
//!
//! Work is waited for, not burned: a request holds one of N workers for its service time, first come, first served, so
//! that twelve servers queue as twelve machines would while the one they share stays half idle. What must always be
//! true: a request whose client has given up leaves the queue and frees its worker; every gauge is kept by a guard.
//!
//! Deliberately not here: TLS, HTTP/1, more than one method.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::{LocalSet, spawn_local};

use crate::peer::control::{self, Lines};
use crate::peer::grpc::{CALL, CONTENT_TYPE, Reply};
use crate::peer::messages::{LIVE_EVERY_MS, Line, ServerLive};
use crate::peer::random::Random;

/// Room for every stream of a client under overload; the queue must form here, not in the clients.
const MAX_STREAMS: u32 = 10_000;
/// `grpc-status` UNIMPLEMENTED.
const UNIMPLEMENTED: HeaderValue = HeaderValue::from_static("12");
const OK: HeaderValue = HeaderValue::from_static("0");

/// A gRPC server with a fixed number of workers and a known service time
#[derive(Clone, Debug, Parser)]
#[command(name = "server")]
pub struct Args {
    /// Where to listen; may be given more than once
    #[arg(long, required = true)]
    pub listen: Vec<SocketAddr>,
    /// The pod's name, given in every response
    #[arg(long)]
    pub name: String,
    /// The pod's zone, given in every response
    #[arg(long)]
    pub zone: String,
    /// Requests worked on at once; the others wait in order of arrival
    #[arg(long, default_value_t = 3)]
    pub workers: usize,
    /// How long a worker takes for a request
    #[arg(long, default_value_t = 10_000)]
    pub service_time_us: u64,
    /// Multiplies the service time
    #[arg(long, default_value_t = 1.0)]
    pub slow_factor: f64,
    /// Whether every request takes the same time
    #[arg(long, value_enum, default_value_t = Distribution::Fixed)]
    pub distribution: Distribution,
    /// Unix socket of the orchestrator
    #[arg(long)]
    pub control: Option<PathBuf>,
}

/// How service times vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// All alike
    Fixed,
    /// Exponential with the given mean
    Exponential,
}

/// Runs the server until SIGTERM has drained it or the orchestrator has gone.
pub fn main(args: Vec<OsString>) -> Result<()> {
    let args = Args::try_parse_from(std::iter::once("server".into()).chain(args))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(args))
}

async fn run(args: Args) -> Result<()> {
    let mut listeners = Vec::new();
    for address in &args.listen {
        listeners
            .push(TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?);
    }
    let control = match &args.control {
        Some(path) => Some(control::connect(path, &args.name).await?),
        None => None,
    };
    let server = Rc::new(Server::new(&args));
    let (drain, draining) = watch::channel(false);
    for listener in listeners {
        println!("listening {}", listener.local_addr()?);
        spawn_local(accept(server.clone(), listener, draining.clone()));
    }
    drop(draining);
    let mut terminate = signal(SignalKind::terminate())?;
    let orchestrator_gone = async {
        match control {
            Some((lines, mut commands)) => {
                spawn_local(report(server.clone(), lines));
                while commands.next().await?.is_some() {}
                anyhow::Ok(())
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = orchestrator_gone => result,
        _ = terminate.recv() => {
            drain.send_replace(true);
            // Every connection and every listener holds a receiver.
            drain.closed().await;
            Ok(())
        }
    }
}

async fn report(server: Rc<Server>, lines: Lines) {
    let mut tick = tokio::time::interval(Duration::from_millis(LIVE_EVERY_MS));
    loop {
        tick.tick().await;
        lines.send(Line::Server(server.live()));
    }
}

pub(in crate::peer) async fn accept(
    server: Rc<Server>,
    listener: TcpListener,
    mut draining: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|drain| *drain) => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                spawn_local(serve(server.clone(), socket, peer, draining.clone()));
            }
            // Out of descriptors or the like: a connection less, not a server less.
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve(server: Rc<Server>, socket: TcpStream, peer: SocketAddr, mut draining: watch::Receiver<bool>) {
    let peer = peer.ip().to_canonical();
    let _open = Gauge::raise(&server.open_connections);
    *server.sources.borrow_mut().entry(peer).or_default() += 1;
    let _no_harm_if_refused = socket.set_nodelay(true);
    let reply = Reply { pod: server.name.clone(), zone: server.zone.clone(), peer }.encode();
    let handshake = h2::server::Builder::new().max_concurrent_streams(MAX_STREAMS).handshake(socket).await;
    let Ok(mut connection): Result<Connection<_, Bytes>, _> = handshake else { return };
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    spawn_local(answer(server.clone(), request, respond, reply.clone()));
                }
                Some(Err(_)) | None => return,
            },
            _ = draining.wait_for(|drain| *drain) => break,
        }
    }
    connection.graceful_shutdown();
    while let Some(Ok((request, respond))) = connection.accept().await {
        spawn_local(answer(server.clone(), request, respond, reply.clone()));
    }
}

/// One request. Errors mean that the client has gone, and are its to count.
async fn answer(
    server: Rc<Server>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    reply: Bytes,
) {
    server.requests.set(server.requests.get() + 1);
    let _in_flight = Gauge::raise(&server.in_flight);
    if request.uri().path() != CALL {
        let mut response = response();
        response.headers_mut().insert("grpc-status", UNIMPLEMENTED);
        let _gone = respond.send_response(response, true);
        return;
    }
    let mut body = request.into_body();
    while let Some(Ok(chunk)) = body.data().await {
        let _gone = body.flow_control().release_capacity(chunk.len());
    }
    tokio::select! {
        _cancelled = reset(&mut respond) => return,
        () = server.work() => {}
    }
    let Ok(mut stream) = respond.send_response(response(), false) else { return };
    if stream.send_data(reply, false).is_ok() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", OK);
        let _gone = stream.send_trailers(trailers);
    }
}

async fn reset(respond: &mut SendResponse<Bytes>) -> Result<Reason, h2::Error> {
    poll_fn(|context| respond.poll_reset(context)).await
}

fn response() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

#[derive(Debug)]
pub(in crate::peer) struct Server {
    name: String,
    zone: String,
    workers: Semaphore,
    service_time: Duration,
    distribution: Distribution,
    random: RefCell<Random>,
    requests: Cell<u64>,
    open_connections: Cell<u64>,
    in_flight: Cell<u64>,
    sources: RefCell<BTreeMap<IpAddr, u64>>,
}

impl Server {
    pub(in crate::peer) fn new(args: &Args) -> Self {
        Self {
            name: args.name.clone(),
            zone: args.zone.clone(),
            workers: Semaphore::new(args.workers),
            service_time: Duration::from_micros(args.service_time_us)
                .mul_f64(args.slow_factor.clamp(0.0, 1e6)),
            distribution: args.distribution,
            random: RefCell::new(Random::named(&args.name)),
            requests: Cell::new(0),
            open_connections: Cell::new(0),
            in_flight: Cell::new(0),
            sources: RefCell::default(),
        }
    }

    /// Waits for a worker, in order of arrival, and keeps it for the service time.
    async fn work(&self) {
        if self.service_time.is_zero() {
            return;
        }
        let Ok(_worker) = self.workers.acquire().await else { return };
        let time = match self.distribution {
            Distribution::Fixed => self.service_time,
            Distribution::Exponential => self.random.borrow_mut().exponential(self.service_time),
        };
        tokio::time::sleep(time).await;
    }

    pub(in crate::peer) fn live(&self) -> ServerLive {
        ServerLive {
            requests: self.requests.get(),
            open_connections: self.open_connections.get(),
            in_flight: self.in_flight.get(),
            sources: self.sources.borrow().clone(),
        }
    }
}

/// Keeps a gauge raised while it lives.
struct Gauge<'a>(&'a Cell<u64>);

impl<'a> Gauge<'a> {
    fn raise(cell: &'a Cell<u64>) -> Self {
        cell.set(cell.get() + 1);
        Self(cell)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
