// SPDX-License-Identifier: Apache-2.0
//! The body of a request that tonic serves: the connection puts it in, the method takes it out, in whatever task it runs.
//!
//! What must always be true: what nobody has taken is not credited to the client, so its window bounds it. A stream that
//! breaks off ends the body with an error, one that ends does not.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hyper::body::{Body, Bytes, Frame};

use super::CREDIT;

/// One end of it; both have the same.
#[derive(Clone, Default)]
pub(super) struct Upload(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Bytes>,
    end: Option<End>,
    /// Bytes that were taken and not credited yet.
    taken: usize,
    reader: Option<Waker>,
    connection: Option<Waker>,
}

#[derive(Clone, Copy)]
enum End {
    Finished,
    BrokenOff,
}

// === impl Upload ===

impl Upload {
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut inner = self.inner();
        inner.waiting.push_back(Bytes::copy_from_slice(bytes));
        wake(&mut inner.reader);
    }

    /// The client sends no more.
    pub(super) fn finish(&self) {
        self.end(End::Finished);
    }

    /// The stream is no more.
    pub(super) fn break_off(&self) {
        self.end(End::BrokenOff);
    }

    /// Bytes that the client may send in place of those that were taken; wakes when there are many.
    pub(super) fn take_credit(&self, context: &Context<'_>) -> usize {
        let mut inner = self.inner();
        inner.connection = Some(context.waker().clone());
        std::mem::take(&mut inner.taken)
    }

    fn end(&self, end: End) {
        let mut inner = self.inner();
        inner.end.get_or_insert(end);
        wake(&mut inner.reader);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A list and numbers: they cannot be half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut inner = self.inner();
        if let Some(bytes) = inner.waiting.pop_front() {
            inner.taken += bytes.len();
            if inner.taken >= CREDIT {
                wake(&mut inner.connection);
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match inner.end {
            Some(End::Finished) => Poll::Ready(None),
            Some(End::BrokenOff) => Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into()))),
            None => {
                inner.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(upload: &mut Upload) -> Option<Result<Bytes, io::ErrorKind>> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *upload).poll_frame(context)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.kind()))
    }

    fn credit(upload: &Upload) -> usize {
        upload.take_credit(&Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn what_is_taken_is_credited_and_the_end_comes_last() {
        let upload = Upload::default();
        let mut reader = upload.clone();
        let reading = tokio::spawn(async move {
            (
                next(&mut reader).await,
                next(&mut reader).await,
                next(&mut reader).await,
                next(&mut reader).await,
            )
        });
        tokio::task::yield_now().await;
        upload.push(b"ab");
        assert_eq!(credit(&upload), 0, "nobody has taken it yet");
        upload.push(b"c");
        upload.finish();
        // The stream closes after its end has come: that changes nothing.
        upload.break_off();
        let read = reading.await.unwrap();
        assert_eq!(read, (Some(Ok("ab".into())), Some(Ok("c".into())), None, None));
        assert_eq!((credit(&upload), credit(&upload)), (3, 0));
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_an_error_and_a_large_one_wakes_its_connection() {
        let upload = Upload::default();
        upload.push(&[0; CREDIT]);
        let mut reader = upload.clone();
        let credited = std::future::poll_fn(|context| match upload.take_credit(context) {
            0 => Poll::Pending,
            credit => Poll::Ready(credit),
        });
        let (credited, read) = tokio::join!(credited, next(&mut reader));
        assert_eq!((credited, read.unwrap().unwrap().len()), (CREDIT, CREDIT));
        upload.break_off();
        assert_eq!(next(&mut reader).await, Some(Err(io::ErrorKind::ConnectionReset)));
    }
}
