// SPDX-License-Identifier: Apache-2.0
//! Dialling an endpoint from inside the client pod's namespace.
//!
//! The socket is made there ([`Sockets`]) and used from anywhere. It is bound to the client's own source address when the
//! client had bound to one, and carries the client's mark where the agent may set marks.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Socket as RawSocket};
use tokio::net::{TcpSocket, TcpStream};

use super::{socket::Socket, state::Pod};
use crate::store::EndpointLoad;

/// How long a connect may take. The kernel repeats a lost SYN after one second: by then another endpoint is the better bet,
/// and inside a cluster a round trip takes a few milliseconds at most.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes sockets in a pod's namespace.
pub trait Sockets: Send + Sync + 'static {
    /// A new TCP socket of the family, not blocking, closed on exec.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the process is out of descriptors.
    fn stream(&self, domain: Domain) -> io::Result<RawSocket>;
}

/// Why there is no connection to an endpoint. Shared by all requests that waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The endpoint did not accept the connection.
    #[error("connect to {address} failed: {error}")]
    Connect {
        /// Who was dialled.
        address: SocketAddr,
        /// What the kernel said.
        error: Arc<io::Error>,
    },
    /// No answer in time.
    #[error("connect to {address} timed out")]
    Timeout {
        /// Who was dialled.
        address: SocketAddr,
    },
    /// The connection was made but what answers is not HTTP/2.
    #[error("{address} does not speak HTTP/2: {error}")]
    NotHttp2 {
        /// Who was dialled.
        address: SocketAddr,
        /// What the handshake found.
        error: Arc<str>,
    },
    /// No socket could be made on this side: says nothing about the endpoint.
    #[error("no socket in the pod's namespace: {0}")]
    Local(Arc<io::Error>),
    /// The pod was deleted meanwhile.
    #[error("the pod is gone")]
    PodGone,
}

impl DialError {
    /// Whether the endpoint is to blame.
    pub(super) const fn blames_endpoint(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { .. } | Self::NotHttp2 { .. })
    }
}

/// What an upstream socket inherits from the client's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Inherit {
    /// The client's address, when it had bound to one that is not loopback.
    pub(super) source: Option<IpAddr>,
    /// `SO_MARK`; zero is none.
    pub(super) mark: u32,
}

/// Dials an endpoint and tells its load how it went.
pub(super) async fn dial(
    pod: &Pod,
    address: SocketAddr,
    inherit: Inherit,
    load: &EndpointLoad,
) -> Result<Socket, DialError> {
    let dialled = within(address, async {
        let socket = prepare(pod, address, inherit).map_err(|e| DialError::Local(Arc::new(e)))?;
        connect(socket, address).await
    })
    .await;
    report(&dialled, load);
    Ok(Socket::new(dialled?, &pod.abort))
}

/// Notes success or failure of a dial where the endpoint is to be judged by it.
pub(super) fn report<T>(dialled: &Result<T, DialError>, load: &EndpointLoad) {
    match dialled {
        Ok(_) => load.connected(),
        Err(error) if error.blames_endpoint() => load.connect_failed(crate::clock::monotonic_ns()),
        Err(_) => {}
    }
}

/// Runs `work` within the connect timeout.
pub(super) async fn within<T>(
    address: SocketAddr,
    work: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    tokio::time::timeout(CONNECT_TIMEOUT, work).await.unwrap_or(Err(DialError::Timeout { address }))
}

/// Dials a Service address itself, past ourselves: the node's own rules (kube-proxy) stand behind it. The local port is
/// remembered while the connection lives, so that [`OwnPort`] tells our own call from a client's, should it come back.
pub(super) async fn dial_past(
    pod: &Arc<Pod>,
    address: SocketAddr,
    inherit: Inherit,
) -> Result<(Socket, OwnPort), DialError> {
    within(address, async {
        let local = |error| DialError::Local(Arc::new(error));
        let socket = prepare(pod, address, inherit).map_err(local)?;
        if inherit.source.is_none() {
            let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
            socket.bind(&SocketAddr::new(any, 0).into()).map_err(local)?;
        }
        let bound = socket.local_addr().map_err(local)?.as_socket();
        let own = OwnPort::new(pod, bound.map_or(0, |a| a.port()));
        let stream = connect(socket, address).await?;
        Ok((Socket::new(stream, &pod.abort), own))
    })
    .await
}

/// A local port in use for a connection of our own; forgotten when dropped.
pub(super) struct OwnPort {
    pod: Arc<Pod>,
    port: u16,
}

impl OwnPort {
    fn new(pod: &Arc<Pod>, port: u16) -> Self {
        pod.own_ports.lock().insert(port);
        Self { pod: pod.clone(), port }
    }
}

impl Drop for OwnPort {
    fn drop(&mut self) {
        self.pod.own_ports.lock().remove(&self.port);
    }
}

fn prepare(pod: &Pod, address: SocketAddr, inherit: Inherit) -> io::Result<RawSocket> {
    let socket = pod.sockets.stream(Domain::for_address(address))?;
    if inherit.mark != 0
        && let Err(error) = socket.set_mark(inherit.mark)
    {
        // NET_RAW is optional: without it marks stay behind, traffic does not.
        tracing::debug!(mark = inherit.mark, %error, "the client's mark cannot be carried upstream");
    }
    if let Some(source) = inherit.source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

async fn connect(socket: RawSocket, address: SocketAddr) -> Result<TcpStream, DialError> {
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(address);
    connecting.await.map_err(|error| match error.kind() {
        // Our side ran out of ports, or the address given by the client is not there any more.
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => DialError::Local(Arc::new(error)),
        _ => DialError::Connect { address, error: Arc::new(error) },
    })
}
