// SPDX-License-Identifier: Apache-2.0
//! A TCP stream of a pod, with bytes put back in front of it.
//!
//! What must always be true: whoever owns it and however it is dropped, when its pod is gone it closes by a reset. An orderly
//! close would make the kernel hold the pod's namespace until the peer has answered.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    unread: Bytes,
    pod_gone: CancellationToken,
}

/// From now on closing sends RST and drops what is unsent.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // Fails only on a socket that is closed already.
    _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

// === impl Socket ===

impl Socket {
    /// Takes over a connected stream of a pod that lives until `pod_gone`; small writes leave at once.
    pub(super) fn new(stream: TcpStream, pod_gone: &CancellationToken) -> Self {
        // Fails only on a dead socket, which the first read will tell.
        _ = stream.set_nodelay(true);
        Self { stream, unread: Bytes::new(), pod_gone: pod_gone.clone() }
    }

    /// Puts bytes in front of whatever comes next.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        debug_assert!(self.unread.is_empty());
        self.unread = bytes;
    }

    /// From now on closing it is a reset.
    pub(super) fn reset_on_close(&self) {
        reset_on_close(&self.stream);
    }

    /// Whether the connection still stands, as the kernel sees it: a reset one has no peer any more.
    pub(super) fn is_connected(&self) -> bool {
        self.stream.peer_addr().is_ok()
    }

    /// Reads what is there into `buffer`, waiting for at least one byte; 0 is the end. Cancel safe.
    pub(super) async fn read_some(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            if let Some(n) = self.read_now(buffer)? {
                return Ok(n);
            }
            self.stream.readable().await?;
        }
    }

    /// Reads what is there without waiting; `None` when there is nothing.
    pub(super) fn read_now(&self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        match self.stream.try_read_buf(buffer) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.pod_gone.is_cancelled() {
            self.reset_on_close();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let n = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread[..n]);
            self.unread.advance(n);
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Socket {
    /// Runs a write that may find the socket full after all.
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write_vectored(data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.stream).shutdown(Shutdown::Write))
    }
}
