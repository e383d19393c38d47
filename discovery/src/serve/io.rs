// SPDX-License-Identifier: Apache-2.0
//! The sockets that a connection can be on. Deliberately not here: how they come to be.

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// Bytes in both directions; boxed, so that connections are compiled once for all kinds of sockets.
pub(super) type Io = Box<dyn Duplex>;

/// See [`Io`].
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {
    /// Something was sent that the client will acknowledge in words. What it says needs no packet of its own to say that it
    /// has come: TCP's acknowledgement rides on the next response, or goes after 40 ms (RFC 9293, 3.8.6.3; tcp(7),
    /// `TCP_QUICKACK`). With many changes that is a third of all packets.
    fn expect_answer(&self) {}
}

impl Duplex for UnixStream {}

impl Duplex for TcpStream {
    fn expect_answer(&self) {
        // The kernel forgets it, so it is told each time. It fails only on a dead socket.
        SockRef::from(self).set_tcp_quickack(false).ok();
    }
}

impl Duplex for TlsStream<TcpStream> {
    fn expect_answer(&self) {
        self.get_ref().0.expect_answer();
    }
}

#[cfg(test)]
impl Duplex for tokio::io::DuplexStream {}
