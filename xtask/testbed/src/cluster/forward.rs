// SPDX-License-Identifier: Apache-2.0
//! A port on the host's loopback that leads to an address inside a network namespace, so that any tool of the user
//! reaches the API server. The host's namespace gets a listening socket and nothing else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// After a failed accept (out of descriptors): a pause instead of a busy loop.
const PAUSE: Duration = Duration::from_millis(50);

/// A forwarded port; closed with its owner.
pub(super) struct Forward {
    address: SocketAddr,
    _end: oneshot::Sender<()>,
}

impl Forward {
    /// Forwards a free port of 127.0.0.1 to `target`, as seen from inside `net`.
    pub(super) fn new(net: OwnedFd, target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on 127.0.0.1")?;
        listener.set_nonblocking(true).context("listen on 127.0.0.1")?;
        let address = listener.local_addr().context("read the bound address")?;
        let (end, ended) = oneshot::channel();
        // A thread of its own: its connections begin in the namespace that it is in.
        std::thread::Builder::new()
            .name("forward".into())
            .spawn(move || {
                if let Err(error) = serve(&net, listener, target, ended) {
                    eprintln!("the port {address} is not forwarded any more: {error:#}");
                }
            })
            .context("start a thread")?;
        Ok(Self { address, _end: end })
    }

    /// The port on the host.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(
    net: &OwnedFd,
    listener: TcpListener,
    target: SocketAddr,
    ended: oneshot::Receiver<()>,
) -> Result<()> {
    setns(net.as_fd(), CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).context("use the listener")?;
        let forward = async {
            loop {
                match listener.accept().await {
                    Ok((client, _)) => drop(tokio::spawn(join(client, target))),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::select! {
            () = forward => Ok(()),
            _ = ended => Ok(()),
        }
    })
}

async fn join(mut client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}
