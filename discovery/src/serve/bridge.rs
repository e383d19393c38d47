// SPDX-License-Identifier: Apache-2.0
//! A stream whose method tonic serves: health, load reports, and the answer to those that do not exist.
//!
//! What must always be true: the method ends with its stream. Deliberately not here: what the methods do.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use hyper::body::Body as _;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;

use super::gated::Gated;
use super::peer::Peer;
use super::said::{Data, Said};
use super::upload::Upload;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// See the module.
pub(super) struct Bridge {
    upload: Upload,
    state: State,
}

enum State {
    Asked(Gated<Answer>),
    Answering(Gated<Body>),
    Ended,
}

// === impl Bridge ===

impl Bridge {
    pub(super) fn new(routes: &Routes, request: Request<()>, peer: Peer) -> Self {
        let upload = Upload::default();
        let mut request = request.map(|()| Body::new(upload.clone()));
        peer.introduce(request.extensions_mut());
        // Routes are always ready.
        let answer: Answer = Box::pin(routes.clone().call(request));
        Self { upload, state: State::Asked(Gated::new(answer)) }
    }

    /// What the client sends.
    pub(super) fn upload(&self) -> &Upload {
        &self.upload
    }

    /// What is said next; after the end, nothing.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Said> {
        loop {
            match &mut self.state {
                State::Asked(answer) => {
                    let Ok(response) =
                        ready!(answer.poll(context, |answer, context| answer.as_mut().poll(context)));
                    let (head, body) = response.into_parts();
                    let all = body.is_end_stream();
                    self.state = if all { State::Ended } else { State::Answering(Gated::new(body)) };
                    return Poll::Ready(Said::Head(Box::new(head), all));
                }
                State::Answering(body) => {
                    let frame =
                        ready!(body.poll(context, |body, context| Pin::new(body).poll_frame(context)));
                    let said = match frame.transpose() {
                        Err(status) => {
                            tracing::debug!(%status, "a method broke off");
                            Said::Broken
                        }
                        Ok(None) => Said::End(HeaderMap::new()),
                        Ok(Some(frame)) => match frame.into_data() {
                            Ok(data) if data.is_empty() => continue,
                            Ok(data) => return Poll::Ready(Said::Piece(Data::Bytes(data))),
                            Err(frame) => Said::End(frame.into_trailers().unwrap_or_default()),
                        },
                    };
                    self.state = State::Ended;
                    return Poll::Ready(said);
                }
                State::Ended => return Poll::Pending,
            }
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.upload.break_off();
    }
}
