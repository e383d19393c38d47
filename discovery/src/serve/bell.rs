// SPDX-License-Identifier: Apache-2.0
//! Tells all streams of a new snapshot.
//!
//! Those that wait at a `tokio::sync::watch` are taken off a list with each value, and put themselves back. With thousands
//! of them that is a good part of what a change costs, so here each is on the list for as long as it lives.
//!
//! What must always be true: who has subscribed sees the newest snapshot after the bell has rung, and the bell rings after
//! each. Who sleeps through some sees the last. There is one bell per thread: a wake across threads costs a system call. Deliberately not here: what a stream does with a snapshot.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::Snapshots;
use crate::snapshot::Snapshot;

/// Clones are the same bell.
#[derive(Clone, Debug, Default)]
pub(super) struct Bell(Arc<Mutex<Slab<Waker>>>);

/// One stream's place on the list.
#[derive(Debug)]
pub(super) struct Subscription {
    snapshots: Snapshots,
    bell: Bell,
    /// Its place, and the waker that is there.
    place: Option<(usize, Waker)>,
}

// === impl Bell ===

impl Bell {
    /// Rings for each of these snapshots, until there will be no more, and then once again.
    pub(super) async fn follow(self, mut snapshots: Snapshots) {
        while snapshots.changed().await.is_ok() {
            self.ring();
        }
        // What tells that there are no more is dropped: those who look after this see it.
        drop(snapshots);
        self.ring();
    }

    /// A stream that is told of these snapshots; the first is the one that is there now.
    pub(super) fn subscribe(&self, snapshots: &Snapshots) -> Subscription {
        let mut snapshots = snapshots.clone();
        snapshots.mark_changed();
        Subscription { snapshots, bell: self.clone(), place: None }
    }

    fn ring(&self) {
        self.list().iter().for_each(|(_, waker)| waker.wake_by_ref());
    }

    fn list(&self) -> MutexGuard<'_, Slab<Waker>> {
        // Wakers do not panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Subscription ===

impl Subscription {
    /// The newest snapshot, if it is another than the last time; `None`: there will be no more.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Option<Arc<Snapshot>>>> {
        // First, so that nothing is missed that comes after the look below.
        self.register(context.waker());
        match self.snapshots.has_changed() {
            Ok(false) => Poll::Pending,
            Ok(true) => Poll::Ready(Some(self.snapshots.borrow_and_update().clone())),
            Err(_) => Poll::Ready(None),
        }
    }

    fn register(&mut self, waker: &Waker) {
        match &mut self.place {
            // A stream hardly ever changes its task.
            Some((_, known)) if known.will_wake(waker) => {}
            Some((place, known)) => {
                known.clone_from(waker);
                self.bell.list()[*place].clone_from(waker);
            }
            place => *place = Some((self.bell.list().insert(waker.clone()), waker.clone())),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some((place, _)) = self.place {
            self.bell.list().remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    async fn next(subscription: &mut Subscription) -> Option<Option<Arc<Snapshot>>> {
        std::future::poll_fn(|context| subscription.poll_next(context)).await
    }

    #[tokio::test]
    async fn each_subscriber_sees_what_is_there_and_what_comes_and_the_end() {
        let (sender, receiver) = watch::channel(None);
        let bell = Bell::default();
        let following = tokio::spawn(bell.clone().follow(receiver.clone()));
        let [mut one, mut two] = [(), ()].map(|()| bell.subscribe(&receiver));
        assert_eq!(next(&mut one).await.map(|first| first.is_none()), Some(true));
        sender.send_replace(Some(Arc::default()));
        assert!(next(&mut one).await.flatten().is_some());
        assert!(next(&mut two).await.flatten().is_some(), "only the newest");
        assert_eq!(bell.list().len(), 2);
        drop(two);
        assert_eq!(bell.list().len(), 1, "it is off the list");
        drop(sender);
        assert!(next(&mut one).await.is_none());
        following.await.unwrap();
    }

    #[tokio::test]
    async fn no_snapshot_is_slept_through_for_good() {
        let (sender, receiver) = watch::channel(None);
        let bell = Bell::default();
        tokio::spawn(bell.clone().follow(receiver.clone()));
        let mut subscription = bell.subscribe(&receiver);
        let last = Arc::<Snapshot>::default();
        let publisher = std::thread::spawn({
            let last = last.clone();
            move || {
                (0..2_000).for_each(|_| drop(sender.send_replace(Some(Arc::default()))));
                sender.send_replace(Some(last));
                sender
            }
        });
        let seen = async {
            while !next(&mut subscription).await.flatten().is_some_and(|seen| Arc::ptr_eq(&seen, &last)) {}
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), seen).await.expect("the last is seen");
        drop(publisher.join().unwrap());
    }
}
