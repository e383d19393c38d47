// SPDX-License-Identifier: Apache-2.0
//! One request: attempts on endpoints until one answers, then its response to the end.
//!
//! An attempt that did not reach a server, or that the server says it has not processed, is followed by another one on
//! another endpoint; see the module's rules for what counts. The guard of the endpoint's load is dropped when the response
//! has ended.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    client::{ResponseFuture, SendRequest},
    server::SendResponse,
};
use http::{HeaderMap, Request, Response, Version, request::Parts};

use super::{
    forward::{self, Broken, Upload},
    pick::{Choice, Target, Tried, pick},
    pool::{Key, Lease},
    reply,
    session::Session,
    stats::{Gauge, count},
    upstream::DialError,
};
use crate::store::{EndpointLoad, Outcome};

/// Connections to one endpoint that a request may find spent. One or two happen in any rolling restart; a server that
/// says GOAWAY to every new connection must not hold a request for ever.
const SPENT_CONNECTIONS: usize = 8;

/// How an attempt ended.
enum Ended {
    /// The response was passed on whole.
    Answered(Outcome),
    /// The client cancelled, with this reason.
    Client(Reason),
    /// Not processed by the server: may be sent elsewhere.
    Again(String, Option<Reason>),
    /// The upstream stream failed before a response had begun: reset by the server, or its connection was lost.
    Failed(String, Option<Reason>),
    /// The response broke off after it had begun.
    BrokenOff(Reason),
}

/// Serves a request to its end.
pub(super) async fn serve(
    session: Arc<Session>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let _in_flight = session.begin_request();
    let stats = &session.shared.stats;
    let (mut head, body) = request.into_parts();
    if head.uri.authority().is_none() {
        // A request with a Host field only, which the engine accepts for HTTP/1.1 (RFC 9113, section 8.3.1).
        head.version = Version::HTTP_11;
    }
    let grpc = reply::is_grpc(&head.headers);
    let mut attempts =
        Attempts { session: &session, head, upload: Upload::new(body), tried: Tried::default() };
    match attempts.run(&mut respond).await {
        Ended::Answered(Outcome::Success) => {}
        Ended::Answered(_) => count(&stats.failures),
        Ended::Client(_) => count(&stats.cancelled),
        Ended::Again(reason, None) | Ended::Failed(reason, None) => {
            count(&stats.failures);
            reply::unavailable(&mut respond, grpc, &reason);
        }
        Ended::Again(_, Some(reset)) | Ended::Failed(_, Some(reset)) | Ended::BrokenOff(reset) => {
            count(&stats.failures);
            respond.send_reset(reset);
        }
    }
}

struct Attempts<'a> {
    session: &'a Arc<Session>,
    head: Parts,
    upload: Upload,
    tried: Tried,
}

impl Attempts<'_> {
    async fn run(&mut self, respond: &mut SendResponse<Bytes>) -> Ended {
        let stats = &self.session.shared.stats;
        let mut last: Option<(String, Option<Reason>)> = None;
        loop {
            let target = match pick(&self.session.shared, &self.session.frontend, &self.tried) {
                Choice::Endpoint(target) => target,
                Choice::NotOurs => self.past_us(),
                Choice::Nobody(sentence) => {
                    count(&stats.unserved);
                    return match last {
                        Some((reason, reset)) => {
                            Ended::Again(format!("{sentence}; the last: {reason}"), reset)
                        }
                        None => Ended::Again(sentence, None),
                    };
                }
            };
            self.tried.add(target.address);
            match self.attempt(&target, respond).await {
                Ended::Again(reason, reset) if self.tried.exhausted() || !self.upload.can_restart() => {
                    return Ended::Again(reason, reset);
                }
                Ended::Again(reason, reset) => last = Some((reason, reset)),
                ended => return ended,
            }
            count(&stats.retries);
        }
    }

    /// The Service is not balanced any more: its own address, for the node's rules, and no new requests here.
    fn past_us(&self) -> Target {
        self.session.retire();
        Target { address: self.session.destination, load: Arc::new(EndpointLoad::default()) }
    }

    /// One attempt on one endpoint; its load is held meanwhile.
    async fn attempt(&mut self, target: &Target, respond: &mut SendResponse<Bytes>) -> Ended {
        let mut guard = target.load.begin();
        let ended = self.on_endpoint(target, respond).await;
        match &ended {
            Ended::Answered(outcome) => guard.finish(*outcome),
            Ended::Client(_) => guard.finish(Outcome::Cancelled),
            // The server said no in time, and nothing was lost: the request goes on elsewhere.
            Ended::Again(_, Some(_)) => guard.finish(Outcome::Cancelled),
            Ended::Again(..) | Ended::Failed(..) | Ended::BrokenOff(_) => guard.finish(Outcome::Failure),
        }
        ended
    }

    async fn on_endpoint(&mut self, target: &Target, respond: &mut SendResponse<Bytes>) -> Ended {
        let session = self.session;
        let key = Key { address: target.address, inherit: session.inherit };
        for _ in 0..SPENT_CONNECTIONS {
            let lease = match lease_or_cancel(session, key, &target.load, respond).await {
                Ok(Ok(lease)) => lease,
                Ok(Err(error)) => return Ended::Again(error.to_string(), None),
                Err(cancelled) => return Ended::Client(cancelled),
            };
            let request = Request::from_parts(self.head.clone(), ());
            let mut sender = lease.sender();
            match sender.send_request(request, self.upload.is_empty()) {
                Ok((response, up)) => return self.exchange(response, up, respond).await,
                Err(error) if takes_streams(&mut sender).await => {
                    // The connection is well: it is these headers that the engine will not send.
                    return Ended::Failed(error.to_string(), Some(Reason::PROTOCOL_ERROR));
                }
                // It takes no more streams (GOAWAY, lost, ids used up) and nothing was sent: another one.
                Err(_) => session.pod.pool.retire(&key, &lease),
            }
        }
        Ended::Again(format!("{} ends every connection at once", target.address), None)
    }

    /// The exchange on an open stream: both directions at once, until the response has ended.
    async fn exchange(
        &mut self,
        response: ResponseFuture,
        mut up: h2::SendStream<Bytes>,
        respond: &mut SendResponse<Bytes>,
    ) -> Ended {
        let answered = AtomicBool::new(false);
        let ended = {
            let no_body = self.upload.is_empty();
            let mut upload = pin!(self.upload.run(&mut up, &answered));
            let mut download = pin!(answer(response, respond, &answered));
            let mut uploading = !no_body;
            poll_fn(|cx| {
                if uploading && let Poll::Ready(uploaded) = upload.as_mut().poll(cx) {
                    uploading = false;
                    if let Err(Broken::Source(error)) = uploaded {
                        return Poll::Ready(Ended::Client(error.reason().unwrap_or(Reason::CANCEL)));
                    }
                    // A sink that takes no more is the response's affair: it may be complete already.
                }
                download.as_mut().poll(cx)
            })
            .await
        };
        if let Ended::Client(reason) = ended {
            // A client that has seen enough says NO_ERROR to us; to a server that is still at work it is a cancel.
            up.send_reset(if reason == Reason::NO_ERROR { Reason::CANCEL } else { reason });
        }
        ended
    }
}

/// A lease, unless the client cancels first.
async fn lease_or_cancel(
    session: &Session,
    key: Key,
    load: &Arc<EndpointLoad>,
    respond: &mut SendResponse<Bytes>,
) -> Result<Result<Lease, DialError>, Reason> {
    let mut lease = pin!(session.pod.pool.lease(&session.pod, key, load));
    poll_fn(|cx| {
        if let Poll::Ready(reset) = respond.poll_reset(cx) {
            return Poll::Ready(Err(reset.unwrap_or(Reason::CANCEL)));
        }
        lease.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// Passes the response on: interim responses, headers, body, trailers.
async fn answer(
    mut response: ResponseFuture,
    respond: &mut SendResponse<Bytes>,
    answered: &AtomicBool,
) -> Ended {
    let head = poll_fn(|cx| {
        if let Poll::Ready(reset) = respond.poll_reset(cx) {
            return Poll::Ready(Err(Ended::Client(reset.unwrap_or(Reason::CANCEL))));
        }
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            answered.store(true, Relaxed);
            // One that cannot be passed on is no loss: the final one decides.
            _ = respond.send_informational(interim);
        }
        Pin::new(&mut response).poll(cx).map_err(|error| not_answered(&error))
    })
    .await;
    let head = match head {
        Ok(head) => head,
        Err(ended) => return ended,
    };
    answered.store(true, Relaxed);
    let (parts, mut body) = head.into_parts();
    let mut outcome = judge(parts.status.is_server_error(), &parts.headers);
    let end = body.is_end_stream();
    let mut down = match respond.send_response(Response::from_parts(parts, ()), end) {
        Ok(down) => down,
        Err(_) => return Ended::Client(Reason::CANCEL),
    };
    if end {
        return Ended::Answered(outcome);
    }
    let carried = forward::download(&mut body, &mut down, |trailers| {
        if outcome == Outcome::Success {
            outcome = judge(false, trailers);
        }
    })
    .await;
    match carried {
        Ok(()) => Ended::Answered(outcome),
        Err(Broken::Sink(reason)) => Ended::Client(reason.unwrap_or(Reason::CANCEL)),
        Err(Broken::Source(error)) => Ended::BrokenOff(
            if error.is_reset() { error.reason() } else { None }.unwrap_or(Reason::INTERNAL_ERROR),
        ),
    }
}

/// What an error before the response means: refused streams and those above a GOAWAY's last id were not processed.
fn not_answered(error: &h2::Error) -> Ended {
    let sentence = || format!("the endpoint did not answer: {error}");
    if error.is_go_away() && error.is_remote() {
        // A stream below the last id ends with its connection, as an I/O error, never with this one.
        return Ended::Again(sentence(), Some(Reason::REFUSED_STREAM));
    }
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => {
            Ended::Again(sentence(), Some(Reason::REFUSED_STREAM))
        }
        Some(reason) if error.is_reset() => Ended::Failed(sentence(), Some(reason)),
        _ => Ended::Failed(sentence(), None),
    }
}

/// Whether a connection still takes new streams.
async fn takes_streams(sender: &mut SendRequest<Bytes>) -> bool {
    poll_fn(|cx| Poll::Ready(!matches!(sender.poll_ready(cx), Poll::Ready(Err(_))))).await
}

/// Outcome by status and `grpc-status`: UNKNOWN, INTERNAL, UNAVAILABLE and DATA_LOSS are the server's failures; the others
/// are answers.
fn judge(server_error: bool, headers: &HeaderMap) -> Outcome {
    let grpc = headers.get("grpc-status").map(http::HeaderValue::as_bytes);
    if server_error || matches!(grpc, Some(b"2" | b"13" | b"14" | b"15")) {
        Outcome::Failure
    } else {
        Outcome::Success
    }
}

/// In flight, for the statistics and for the connection's row.
pub(super) struct RequestGauge {
    _all: Gauge,
    session: Arc<Session>,
}

impl RequestGauge {
    pub(super) fn new(session: &Arc<Session>) -> Self {
        session.listed.connection.requests_in_flight.fetch_add(1, Relaxed);
        Self { _all: Gauge::new(&session.shared.stats, |s| &s.requests_in_flight), session: session.clone() }
    }
}

impl Drop for RequestGauge {
    fn drop(&mut self) {
        let row = &self.session.listed.connection;
        row.requests_in_flight.fetch_sub(1, Relaxed);
    }
}
