// SPDX-License-Identifier: Apache-2.0
//! The streams of one HTTP/2 connection, run by the connection's own task.
//!
//! hyper hands each stream's future to an executor, which elsewhere makes a task of it. Here it stays where it is: what a
//! stream and its connection do for each other then needs no scheduler. What must always be true: streams end with their
//! connection. Deliberately not here: the connection, and how many streams it may have.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use hyper::rt::Executor;

use super::gated::Gated;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All open streams.
#[derive(Default)]
pub(super) struct Streams {
    open: Vec<Gated<Stream>>,
    new: NewStreams,
}

/// Where hyper puts the streams that clients open.
#[derive(Clone, Default)]
pub(super) struct NewStreams(Arc<Mutex<Vec<Stream>>>);

// === impl Streams ===

impl Streams {
    /// The executor for the connection.
    pub(super) fn entry(&self) -> NewStreams {
        self.new.clone()
    }

    /// Takes the streams that were opened since the last time. The connection does that in its turn, so nobody is woken.
    pub(super) fn take_new(&mut self) {
        self.open.extend(self.new.lock().drain(..).map(Gated::new));
    }

    /// Polls the streams that have been woken.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) {
        self.open.retain_mut(|stream| {
            stream.poll(context, |stream, context| stream.as_mut().poll(context)).is_pending()
        });
    }

    /// Whether the next poll does anything.
    pub(super) fn is_woken(&self) -> bool {
        self.open.iter().any(Gated::is_woken)
    }
}

// === impl NewStreams ===

impl NewStreams {
    fn lock(&self) -> MutexGuard<'_, Vec<Stream>> {
        // A list of futures cannot be half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for NewStreams {
    fn execute(&self, stream: F) {
        self.lock().push(Box::pin(stream));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn streams_run_to_their_ends_side_by_side() {
        let mut streams = Streams::default();
        let (first, one) = oneshot::channel::<()>();
        let (second, two) = oneshot::channel::<()>();
        streams.entry().execute(async move { drop(one.await) });
        streams.entry().execute(async move {
            two.await.ok();
            first.send(()).ok();
        });
        assert!(!streams.is_woken());
        streams.take_new();
        assert!(streams.is_woken() && streams.open.len() == 2);
        std::future::poll_fn(|context| {
            streams.poll(context);
            Poll::Ready(())
        })
        .await;
        assert!(!streams.is_woken() && streams.open.len() == 2);
        second.send(()).unwrap();
        assert!(streams.is_woken());
        std::future::poll_fn(|context| {
            streams.poll(context);
            if streams.open.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
