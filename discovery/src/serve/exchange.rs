// SPDX-License-Identifier: Apache-2.0
//! One stream of a connection: a request, a method, an answer.
//!
//! | it | then |
//! |---|---|
//! | is new | its token is checked, where tokens are asked for |
//! | is admitted | its method is called |
//! | answers | one piece at a time waits for the transport |
//! | has ended | it waits to be closed |
//!
//! What must always be true: it is answered once, and with a piece only when the one before has gone. Each byte that came
//! is credited once. Deliberately not here: which streams there are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use evenkeel_http2::{Error, Read, Room, Session, StreamId};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::Status;

use super::CREDIT;
use super::connection::Shared;
use super::gated::Gated;
use super::methods::Call;
use super::peer::Peer;
use super::said::{Data, Said};
use crate::auth::Gate;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// Health is asked by probes, which have no tokens, and tells nothing about endpoints.
const OPEN_TO_ALL: &str = "/grpc.health.v1.Health/";

/// See the module.
pub(super) struct Exchange {
    id: StreamId,
    state: State,
    /// What came before the method was called, and whether that is all.
    early: Vec<u8>,
    finished: bool,
    /// What is being sent.
    sending: Option<Data>,
    /// What is sent last.
    end: Option<HeaderMap>,
    /// Bytes that came and are not credited yet, and those of them that can be.
    owed: usize,
    credit: usize,
    closed: bool,
}

enum State {
    New(Box<Request<()>>),
    Entering(Box<Gated<Admission>>),
    Called(Call),
    Ended,
}

type Admission = Pin<Box<dyn Future<Output = Result<(Request<()>, Peer), Status>> + Send>>;

/// What is the same for all streams of a connection.
pub(super) struct Scene {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Peer,
    /// Whether the connection has been sent away.
    pub(super) leaving: bool,
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn new(id: StreamId, request: Request<()>) -> Self {
        Self {
            id,
            state: State::New(Box::new(request)),
            early: Vec::new(),
            finished: false,
            sending: None,
            end: None,
            owed: 0,
            credit: 0,
            closed: false,
        }
    }

    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    /// Takes a piece of the request; returns how much of it is dealt with.
    pub(super) fn received(&mut self, bytes: &[u8]) -> usize {
        match &mut self.state {
            State::Called(call) => call.received(bytes),
            State::New(_) | State::Entering(_) => self.early.extend_from_slice(bytes),
            // It was answered without that.
            State::Ended => return bytes.len(),
        }
        self.owed += bytes.len();
        0
    }

    /// The client sends no more.
    pub(super) fn finished(&mut self) {
        self.finished = true;
        if let State::Called(call) = &mut self.state {
            call.finished();
        }
    }

    /// The connection is sent away.
    pub(super) fn leave(&mut self) {
        if let State::Called(call) = &mut self.state {
            call.leave();
        }
    }

    /// Nothing can be sent or received any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes to be credited at the end.
    pub(super) fn owed(&self) -> usize {
        self.owed
    }

    /// Whether there is no piece that waits for the transport.
    pub(super) fn is_idle(&self) -> bool {
        self.sending.is_none() && self.end.is_none()
    }

    /// The transport has room for more of the answer.
    pub(super) fn read(&mut self, room: &mut Room<'_>) -> Read {
        if let Some(data) = &mut self.sending {
            if data.fill(room) {
                self.sending = None;
            }
            return Read::Open;
        }
        match self.end.take() {
            Some(trailers) if trailers.is_empty() => Read::End,
            Some(trailers) => Read::Trailers(trailers),
            None => Read::Open,
        }
    }

    /// Does what can be done now.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub(super) fn work(
        &mut self,
        context: &mut Context<'_>,
        session: &mut Session,
        scene: &Scene,
    ) -> Result<(), Error> {
        if matches!(self.state, State::New(_) | State::Entering(_)) {
            self.enter(context, session, scene)?;
        }
        while self.sending.is_none()
            && let State::Called(call) = &mut self.state
            && let Poll::Ready(said) = call.poll_next(context)
        {
            self.say(said, session)?;
        }
        self.give_credit(context, session)
    }

    fn enter(
        &mut self,
        context: &mut Context<'_>,
        session: &mut Session,
        scene: &Scene,
    ) -> Result<(), Error> {
        if let State::New(_) = self.state
            && let State::New(request) = std::mem::replace(&mut self.state, State::Ended)
        {
            let admission = admission(*request, scene.peer.clone(), scene.shared.gate.clone());
            self.state = State::Entering(Box::new(Gated::new(Box::pin(admission))));
        }
        let State::Entering(admission) = &mut self.state else { return Ok(()) };
        let polled = admission.poll(context, |admission, context| admission.as_mut().poll(context));
        let Poll::Ready(admitted) = polled else { return Ok(()) };
        let Shared { methods, bell, .. } = &*scene.shared;
        match admitted.and_then(|(request, peer)| methods.call(request, &peer, bell)) {
            Ok(call) => self.begin(call, session, scene.leaving),
            Err(status) => {
                self.state = State::Ended;
                session.respond(self.id, &status.into_http::<()>().into_parts().0, false)
            }
        }
    }

    fn begin(&mut self, mut call: Call, session: &mut Session, leaving: bool) -> Result<(), Error> {
        if call.is_ads() {
            let mut head = Response::new(());
            head.headers_mut().insert(CONTENT_TYPE, GRPC);
            session.respond(self.id, &head.into_parts().0, true)?;
        }
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            call.received(&early);
        }
        if self.finished {
            call.finished();
        }
        if leaving {
            call.leave();
        }
        self.state = State::Called(call);
        Ok(())
    }

    fn say(&mut self, said: Said, session: &mut Session) -> Result<(), Error> {
        match said {
            Said::Head(head, all) => {
                if all {
                    self.state = State::Ended;
                }
                session.respond(self.id, &head, !all)
            }
            Said::Piece(data) => {
                self.sending = Some(data);
                session.resume(self.id)
            }
            Said::End(trailers) => {
                self.state = State::Ended;
                self.end = Some(trailers);
                session.resume(self.id)
            }
            Said::Broken => {
                self.state = State::Ended;
                session.reset(self.id)
            }
        }
    }

    /// Not for every acknowledgement: the window is large.
    fn give_credit(&mut self, context: &Context<'_>, session: &mut Session) -> Result<(), Error> {
        if self.owed < CREDIT {
            return Ok(());
        }
        if let State::Called(call) = &mut self.state {
            self.credit += call.take_credit(context);
        }
        if self.credit < CREDIT {
            return Ok(());
        }
        let credit = std::mem::take(&mut self.credit);
        self.owed -= credit;
        session.consumed(self.id, credit)
    }
}

/// Whether the client may ask this.
async fn admission(
    request: Request<()>,
    mut peer: Peer,
    gate: Option<Arc<Gate>>,
) -> Result<(Request<()>, Peer), Status> {
    if let Some(gate) = gate
        && !request.uri().path().starts_with(OPEN_TO_ALL)
    {
        match gate.admit(request.headers()).await {
            Ok(user) => peer.user = Some(user),
            Err(status) => {
                tracing::info!(peer = ?peer.address, reason = status.message(), "stream refused");
                return Err(status);
            }
        }
    }
    Ok((request, peer))
}
