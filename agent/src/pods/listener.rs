// SPDX-License-Identifier: Apache-2.0
//! The listeners in a pod: on its loopback, any port.
//!
//! On loopback nobody outside the pod can reach them; processes inside can, and are reset by the proxy, since the kernel has
//! no record of having redirected them. The port is of no meaning: the kernel programs find the socket itself, in a map.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket};
use tokio::net::{TcpListener, TcpStream};

use super::Namespace;
use crate::proxy::Sockets as _;

/// Connections that may wait to be accepted; the system's `somaxconn` (4096 since Linux 5.4) bounds it as well.
const BACKLOG: i32 = 4096;

/// The listeners of a pod: IPv4 always, IPv6 where the pod has `::1`.
#[derive(Debug)]
pub(super) struct Listeners {
    v4: TcpListener,
    v6: Option<TcpListener>,
}

impl Listeners {
    /// Opens them in the namespace.
    pub(super) fn open(namespace: &Namespace, with_v6: bool) -> io::Result<Self> {
        let mut listeners =
            Self { v4: open(namespace, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?, v6: None };
        listeners.set_v6(namespace, with_v6)?;
        Ok(listeners)
    }

    /// Opens or closes the IPv6 listener. Says whether that changed anything.
    pub(super) fn set_v6(&mut self, namespace: &Namespace, wanted: bool) -> io::Result<bool> {
        if wanted == self.v6.is_some() {
            return Ok(false);
        }
        self.v6 = match wanted {
            true => Some(open(namespace, SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))?),
            false => None,
        };
        Ok(true)
    }

    pub(super) fn v4(&self) -> BorrowedFd<'_> {
        self.v4.as_fd()
    }

    pub(super) fn v6(&self) -> Option<BorrowedFd<'_>> {
        self.v6.as_ref().map(AsFd::as_fd)
    }

    /// The next connection. Out of descriptors, it waits a moment instead of spinning. Cancel safe.
    pub(super) async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = match &self.v6 {
                Some(v6) => tokio::select! {
                    accepted = self.v4.accept() => accepted,
                    accepted = v6.accept() => accepted,
                },
                None => self.v4.accept().await,
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

fn open(namespace: &Namespace, address: SocketAddr) -> io::Result<TcpListener> {
    let socket: Socket = namespace.stream(Domain::for_address(address))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
