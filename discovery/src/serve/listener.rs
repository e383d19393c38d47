// SPDX-License-Identifier: Apache-2.0
//! Sockets for ADS: TCP or unix, bound before anything else starts, closed gracefully.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::{Ads, KEEPALIVE, KEEPALIVE_ANSWER, MAX_STREAMS_PER_CONNECTION};
use crate::config::Listen;

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Listen,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A unix socket's file, removed when the server ends.
#[derive(Debug)]
struct SocketFile(PathBuf);

// === impl Listener ===

impl Listener {
    /// Binds. A unix socket is for its owner only; a socket file that nobody answers on is replaced.
    ///
    /// # Errors
    /// What the system says; `AddrInUse` also if another process answers on the unix socket.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let socket = TcpListener::bind(address).await?;
                let address = Listen::Tcp(socket.local_addr()?);
                Ok(Self { socket: Socket::Tcp(socket), address })
            }
            Listen::Unix(path) => {
                let socket = bind_unix(path).await?;
                Ok(Self { socket: Socket::Unix(socket, SocketFile(path.clone())), address: listen.clone() })
            }
        }
    }

    /// Where it is bound; the port is the real one.
    pub fn address(&self) -> &Listen {
        &self.address
    }
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket()) {
        match UnixStream::connect(path).await {
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process serves on this socket",
                ));
            }
            Err(_) => std::fs::remove_file(path)?,
        }
    }
    let socket = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// Serves until the service's shutdown token is cancelled: then no connection is accepted any more, those that are open
/// are told with GOAWAY, and this returns when they have closed.
///
/// # Errors
/// When the transport fails as a whole; a single connection never does that.
pub async fn serve(listener: Listener, ads: Ads) -> Result<(), tonic::transport::Error> {
    let shutdown = ads.shutdown.clone();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .add_service(ads.into_server());
    let until = until(shutdown);
    match listener.socket {
        Socket::Tcp(socket) => {
            let incoming = TcpIncoming::from(socket).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE));
            server.serve_with_incoming_shutdown(incoming, until).await
        }
        Socket::Unix(socket, _file) => {
            server.serve_with_incoming_shutdown(UnixListenerStream::new(socket), until).await
        }
    }
}

async fn until(token: CancellationToken) {
    token.cancelled().await;
}
