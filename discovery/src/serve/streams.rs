// SPDX-License-Identifier: Apache-2.0
//! The streams of one connection, run by the connection's own task.
//!
//! The transport tells what has come and asks for what is to be sent, and is only answered with bytes; what the streams
//! are about is done in between ([`Streams::work`]). What must always be true: streams end with their connection.
//! Deliberately not here: how many streams a connection may have; the transport sees to that.

use std::task::Context;

use evenkeel_http2::{Error, Read, Room, Session, StreamId};
use http::Request;
use tokio_util::sync::CancellationToken;

use super::exchange::{Exchange, Scene};

/// All streams that are open.
pub(super) struct Streams {
    open: Vec<Exchange>,
    scene: Scene,
    /// Cancelled by the first.
    asked: CancellationToken,
    /// Whether there is work.
    touched: bool,
}

// === impl Streams ===

impl Streams {
    pub(super) fn new(scene: Scene, asked: CancellationToken) -> Self {
        Self { open: Vec::new(), scene, asked, touched: false }
    }

    /// Whether the transport has told of anything since the last [`Streams::work`].
    pub(super) fn is_touched(&self) -> bool {
        self.touched
    }

    /// Ends all that can be ended, now and from now on. The work is still to be done.
    pub(super) fn leave(&mut self) {
        self.scene.leaving = true;
        self.open.iter_mut().for_each(Exchange::leave);
    }

    /// Does what can be done now.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub(super) fn work(&mut self, context: &mut Context<'_>, session: &mut Session) -> Result<(), Error> {
        self.touched = false;
        let mut any_closed = false;
        for stream in &mut self.open {
            if stream.is_closed() {
                any_closed = true;
                session.consumed(stream.id(), stream.owed())?;
            } else {
                stream.work(context, session, &self.scene)?;
            }
        }
        if any_closed {
            self.open.retain(|stream| !stream.is_closed());
        }
        Ok(())
    }

    fn stream(&mut self, id: StreamId) -> Option<&mut Exchange> {
        let stream = self.open.iter_mut().find(|stream| stream.id() == id);
        self.touched |= stream.is_some();
        stream
    }
}

impl evenkeel_http2::Streams for Streams {
    fn opened(&mut self, id: StreamId, request: Request<()>) {
        self.asked.cancel();
        self.touched = true;
        // Most connections have one.
        self.open.reserve_exact(1);
        self.open.push(Exchange::new(id, request));
    }

    fn received(&mut self, id: StreamId, bytes: &[u8]) -> usize {
        self.stream(id).map_or(bytes.len(), |stream| stream.received(bytes))
    }

    fn finished(&mut self, id: StreamId) {
        self.stream(id).into_iter().for_each(Exchange::finished);
    }

    fn closed(&mut self, id: StreamId) {
        self.stream(id).into_iter().for_each(Exchange::close);
    }

    fn read(&mut self, id: StreamId, room: &mut Room<'_>) -> Read {
        let Some(stream) = self.open.iter_mut().find(|stream| stream.id() == id) else { return Read::End };
        let read = stream.read(room);
        // There is room for the next piece once the last one has gone.
        self.touched |= stream.is_idle();
        read
    }
}
