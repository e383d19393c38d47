// SPDX-License-Identifier: Apache-2.0
//! An accepted connection until it is known what it carries.
//!
//! Its record of the original destination is read first; then the socket is checked to be alive, in this order: the record
//! of a dead connection may be its successor's, that of a live one is its own.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::BytesMut;
use evenkeel_abi::{FAMILY_V4, FAMILY_V6, Origin, OriginKey};
use tokio::net::TcpStream;

use super::{
    pool::Key,
    session::Session,
    sniff::{self, Verdict},
    socket::{Socket, reset_on_close},
    splice::{self, Upstream},
    state::{Pod, Shared},
    stats::{Gauge, Listed, count},
    upstream::Inherit,
};
use crate::store::{Application, Frontend, Protocol};

/// First read of a connection whose protocol is not known. What follows is read by whoever carries it.
const FIRST_READ: usize = 4 * 1024;

/// A connection that was handed over by the kernel.
pub(super) struct Accepted {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Arc<Pod>,
    pub(super) frontend: Frontend,
    pub(super) inherit: Inherit,
    client: SocketAddr,
}

impl Accepted {
    /// The Service address that the client dialled.
    pub(super) const fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.frontend.address, self.frontend.port)
    }

    /// Lists the connection while the result lives.
    pub(super) fn list(&self, endpoint: Option<SocketAddr>, http2: bool) -> Listed {
        let snapshot = self.shared.store.current();
        let service = snapshot.frontend(&self.frontend).map(|(s, ..)| s.spec.name.to_string());
        self.shared.connections.list(
            &self.pod.name,
            service.unwrap_or_default(),
            self.client,
            endpoint,
            http2,
        )
    }
}

/// Serves an accepted socket to its end, which is that of `_open` as well.
pub(super) async fn serve(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    stream: TcpStream,
    peer: SocketAddr,
    _open: Gauge,
) {
    count(&shared.stats.accepted);
    let origin = shared.origins.origin(&origin_key(pod.netns_cookie, peer));
    let Some(origin) = origin.filter(|_| !pod.own_ports.lock().contains(&peer.port())) else {
        count(&shared.stats.refused);
        tracing::debug!(pod = %pod.name, %peer, "a connection that nobody redirected is reset");
        reset_on_close(&stream);
        return;
    };
    let socket = Socket::new(stream, &pod.abort);
    if !socket.is_connected() {
        return;
    }
    let accepted = Accepted {
        frontend: frontend(&origin),
        inherit: Inherit { source: own_source(peer.ip()), mark: origin.mark },
        shared,
        pod,
        client: peer,
    };
    let abort = accepted.pod.abort.clone();
    tokio::select! {
        biased;
        // Whatever it had come to: its sockets are dropped, and close by a reset.
        () = abort.cancelled() => {}
        () = carry(accepted, socket) => {}
    }
}

/// The key under which the kernel recorded a connection's original destination.
fn origin_key(netns_cookie: u64, peer: SocketAddr) -> OriginKey {
    let family = if peer.is_ipv4() { FAMILY_V4 } else { FAMILY_V6 };
    OriginKey { netns_cookie, address: peer.ip().into(), port: peer.port().into(), family }
}

fn frontend(origin: &Origin) -> Frontend {
    Frontend {
        address: IpAddr::from(origin.address),
        port: u16::from_be(origin.port_be),
        protocol: Protocol::Tcp,
    }
}

/// The source to dial from: the client's when it had bound to one. An unbound client comes from loopback.
fn own_source(peer: IpAddr) -> Option<IpAddr> {
    (!peer.is_loopback()).then_some(peer)
}

async fn carry(accepted: Accepted, mut client: Socket) {
    let application = {
        let snapshot = accepted.shared.store.current();
        snapshot.frontend(&accepted.frontend).map_or(Application::Opaque, |(service, port, _)| {
            if service.per_request(port) { port.application } else { Application::Opaque }
        })
    };
    let mut head = BytesMut::with_capacity(FIRST_READ);
    let (verdict, upstream) = match application {
        Application::Opaque => (Verdict::Other, None),
        Application::Http2 => (wait_for_client(&client, &mut head).await, None),
        Application::Unknown => match client.read_now(&mut head).map(|_| sniff::client(&head)) {
            Ok(Verdict::More) => match sniff_both(&accepted, &client, &mut head).await {
                Some(known) => known,
                None => return client.reset_on_close(),
            },
            Ok(verdict) => (verdict, None),
            Err(_) => return,
        },
    };
    client.put_back(head.freeze());
    match verdict {
        Verdict::Http2 => http2(accepted, client, upstream).await,
        Verdict::Other | Verdict::More => splice::run(&accepted, client, upstream).await,
    }
}

/// For a port known to be HTTP/2 the client's own bytes decide; one that ends before is spliced, and ends there.
async fn wait_for_client(client: &Socket, head: &mut BytesMut) -> Verdict {
    loop {
        match client.read_some(head).await {
            Ok(0) | Err(_) => return Verdict::Other,
            Ok(_) => match sniff::client(head) {
                Verdict::More => {}
                verdict => return verdict,
            },
        }
    }
}

/// Waits for the first bytes of either side: dials an endpoint at once, so that a server that speaks first is heard. `None`
/// when no endpoint could be reached, and the client has said nothing yet that would tell how to answer it.
async fn sniff_both(
    accepted: &Accepted,
    client: &Socket,
    head: &mut BytesMut,
) -> Option<(Verdict, Option<Upstream>)> {
    let mut dial = std::pin::pin!(splice::connect(accepted));
    let mut upstream: Option<Upstream> = None;
    let mut greeting = BytesMut::new();
    let mut server_is_http2 = false;
    let verdict = loop {
        tokio::select! {
            biased;
            read = client.read_some(head) => match read {
                Ok(0) | Err(_) => break Verdict::Other,
                Ok(_) => match sniff::client(head) {
                    Verdict::More => {}
                    verdict => break verdict,
                },
            },
            dialled = &mut dial, if upstream.is_none() => upstream = Some(dialled?),
            verdict = hear(upstream.as_ref(), &mut greeting), if upstream.is_some() && !server_is_http2 => {
                match verdict {
                    Verdict::Other => break Verdict::Other,
                    Verdict::Http2 => server_is_http2 = true,
                    Verdict::More => {}
                }
            }
        }
    };
    if let Some(upstream) = &mut upstream {
        upstream.socket.put_back(greeting.freeze());
    }
    Some((verdict, upstream))
}

/// Reads on from the server. Its end, too, is something to pass on.
async fn hear(upstream: Option<&Upstream>, greeting: &mut BytesMut) -> Verdict {
    let Some(upstream) = upstream else { return std::future::pending().await };
    match upstream.socket.read_some(greeting).await {
        Ok(0) | Err(_) => Verdict::Other,
        Ok(_) => sniff::server(greeting),
    }
}

async fn http2(accepted: Accepted, client: Socket, upstream: Option<Upstream>) {
    if let Some(Upstream { socket, target: Some(target), .. }) = upstream {
        let key = Key { address: target.address, inherit: accepted.inherit };
        accepted.pod.pool.adopt(&accepted.pod, key, &target.load, socket);
    }
    let listed = accepted.list(None, true);
    let Accepted { shared, pod, frontend, inherit, .. } = accepted;
    let name = pod.name.clone();
    let session = Arc::new(Session::new(shared, pod, frontend, inherit, listed));
    if let Err(error) = session.run(client).await {
        tracing::debug!(pod = %name, %error, "a client's HTTP/2 connection failed");
    }
}
