// SPDX-License-Identifier: Apache-2.0
//! Futures of one task that are polled only when they have been woken.
//!
//! A connection's task waits for many things, and when it is woken it is nearly always because of one. Polling all of them
//! each time is much of what a change to one endpoint would cost, times thousands of clients. So each gets a waker of its
//! own, which remembers that it was used.
//!
//! What must always be true: a wake is never lost. The mark is set before the task is woken, and taken away before what it
//! stands for is polled. Each of these futures stays in one task, so that the waker that it was polled with last is good.
//!
//! Deliberately not here: which futures there are.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Something that is polled only when it was woken, and once at first.
pub(super) struct Gated<T> {
    inner: T,
    mark: Arc<Mark>,
    waker: Waker,
    task: Task,
}

/// See [`Gated`].
struct Mark {
    woken: AtomicBool,
    task: Shared,
}

/// The waker of the task that something is part of. Hardly ever another than before.
#[derive(Default)]
struct Shared(Mutex<Option<Waker>>);

/// The same, for the task itself to compare.
#[derive(Default)]
struct Task(Option<Waker>);

// === impl Gated ===

impl<T> Gated<T> {
    pub(super) fn new(inner: T) -> Self {
        let mark = Arc::new(Mark { woken: AtomicBool::new(true), task: Shared::default() });
        Self { inner, waker: mark.clone().into(), mark, task: Task::default() }
    }

    /// Polls if there may be something new. What was ready is asked again the next time: there may be more.
    pub(super) fn poll<R>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut T, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        if !self.is_woken() {
            return Poll::Pending;
        }
        self.task.register(context.waker(), &self.mark.task);
        self.mark.woken.store(false, SeqCst);
        let polled = poll(&mut self.inner, &mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            self.mark.woken.store(true, SeqCst);
        }
        polled
    }

    /// Whether the next poll is more than a look at the mark.
    pub(super) fn is_woken(&self) -> bool {
        self.mark.woken.load(SeqCst)
    }
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, SeqCst) {
            self.task.wake();
        }
    }
}

// === impl Task ===

impl Task {
    fn register(&mut self, waker: &Waker, shared: &Shared) {
        if !self.0.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.0 = Some(waker.clone());
            *shared.lock() = Some(waker.clone());
        }
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = &*self.lock() {
            waker.wake_by_ref();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        // One assignment: it cannot be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::mpsc;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn receive(gated: &mut Gated<mpsc::Receiver<u8>>, context: &mut Context<'_>) -> (usize, Option<u8>) {
        let mut polls = 0;
        let polled = gated.poll(context, |receiver, context| {
            polls += 1;
            receiver.poll_recv(context)
        });
        let Poll::Ready(received) = polled else { return (polls, None) };
        (polls, received)
    }

    #[test]
    fn it_is_polled_at_first_and_when_it_was_woken_and_never_in_between() {
        let task = Arc::new(Counting::default());
        let waker = Waker::from(task.clone());
        let mut context = Context::from_waker(&waker);
        let (sender, receiver) = mpsc::channel(2);
        let mut gated = Gated::new(receiver);
        assert_eq!(receive(&mut gated, &mut context), (1, None));
        assert_eq!(receive(&mut gated, &mut context), (0, None));
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!(task.0.load(SeqCst), 1);
        assert!(gated.is_woken());
        assert_eq!(receive(&mut gated, &mut context), (1, Some(1)));
        // There was one, so there may be another, and nobody is woken for that.
        assert_eq!(receive(&mut gated, &mut context), (1, Some(2)));
        assert_eq!(receive(&mut gated, &mut context), (1, None));
        assert_eq!(receive(&mut gated, &mut context), (0, None));
    }

    #[tokio::test]
    async fn a_wake_from_another_thread_is_never_lost() {
        let (sender, receiver) = mpsc::channel(1);
        let thread =
            std::thread::spawn(move || (0..20_000_u32).for_each(|n| sender.blocking_send(n).unwrap()));
        let mut state = (Gated::new(receiver), 0_u32);
        let all = std::future::poll_fn(|context| {
            loop {
                match state.0.poll(context, |inner, context| inner.poll_recv(context)) {
                    Poll::Ready(Some(_)) => state.1 += 1,
                    Poll::Ready(None) => return Poll::Ready(state.1),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let got = tokio::time::timeout(std::time::Duration::from_secs(30), all).await.expect("no lost wake");
        assert_eq!(got, 20_000);
        thread.join().unwrap();
    }
}
