// SPDX-License-Identifier: Apache-2.0
//! When a change is published: the first of a Service at once, those that follow it closely together.
//!
//! A rollout of a thousand pods is a thousand changes of one Service, and clients need the first and the last. What must
//! always be true: a change of a Service that has been quiet waits for nothing; no change waits longer than the window;
//! a Service is published at most once per window; what one Service does never makes another wait.
//!
//! Pure: the time is an argument, as a duration since any fixed moment.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// The time between two publications of one Service. Ten messages per second are easy for any client, and pods do not
/// come and go so fast that the second change within a tenth of a second could not wait.
pub const WINDOW: Duration = Duration::from_millis(100);

/// Which Services have just been published, and which of them wait to be published again.
#[derive(Debug)]
pub struct Pace<K> {
    window: Duration,
    /// Published Services and whether they have changed since. A Service is here as long as its window is open.
    open: HashMap<K, bool>,
    /// The same Services with the ends of their windows. All windows are equally long, so this is in order.
    ends: VecDeque<(Duration, K)>,
}

// === impl Pace ===

impl<K: Clone + Eq + Hash + Ord> Pace<K> {
    /// Nothing has been published yet.
    pub fn new(window: Duration) -> Self {
        Self { window, open: HashMap::new(), ends: VecDeque::new() }
    }

    /// Of Services that have changed, those to publish now; the others wait for [`Pace::due`].
    pub fn offer(&mut self, changed: BTreeSet<K>, now: Duration) -> BTreeSet<K> {
        let mut publish = self.due(now);
        for key in changed {
            if publish.contains(&key) {
                continue;
            }
            match self.open.get_mut(&key) {
                Some(waits) => *waits = true,
                None => {
                    self.begin(key.clone(), now);
                    publish.insert(key);
                }
            }
        }
        publish
    }

    /// Services whose window has ended and that have changed meanwhile: to publish now.
    pub fn due(&mut self, now: Duration) -> BTreeSet<K> {
        let mut publish = BTreeSet::new();
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            let Some((_, key)) = self.ends.pop_front() else { break };
            if self.open.remove(&key) == Some(true) {
                publish.insert(key);
            }
        }
        for key in &publish {
            self.begin(key.clone(), now);
        }
        publish
    }

    /// When to call [`Pace::due`] next. `None`: nothing is open.
    pub fn next(&self) -> Option<Duration> {
        self.ends.front().map(|(end, _)| *end)
    }

    fn begin(&mut self, key: K, now: Duration) {
        self.ends.push_back((now + self.window, key.clone()));
        self.open.insert(key, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn keys<const N: usize>(keys: [u8; N]) -> BTreeSet<u8> {
        keys.into()
    }

    #[test]
    fn the_first_change_goes_out_at_once_and_the_next_ones_together_at_the_end_of_the_window() {
        let mut pace = Pace::new(WINDOW);
        assert_eq!(pace.offer(keys([1]), ms(0)), keys([1]));
        assert_eq!(pace.offer(keys([1]), ms(1)), keys([]));
        assert_eq!(pace.offer(keys([1, 2]), ms(50)), keys([2]), "another Service does not wait");
        assert_eq!(pace.next(), Some(ms(100)));
        assert_eq!(pace.due(ms(99)), keys([]));
        assert_eq!(pace.due(ms(100)), keys([1]));
        assert_eq!(pace.offer(keys([1]), ms(101)), keys([]), "a new window has begun");
        assert_eq!(pace.due(ms(200)), keys([1]));
    }

    #[test]
    fn a_service_that_was_quiet_for_a_window_does_not_wait_and_is_forgotten() {
        let mut pace = Pace::new(WINDOW);
        pace.offer(keys([1]), ms(0));
        assert_eq!(pace.due(ms(100)), keys([]));
        assert_eq!((pace.next(), pace.open.len()), (None, 0));
        assert_eq!(pace.offer(keys([1]), ms(100)), keys([1]));
    }

    #[test]
    fn a_change_at_the_very_end_of_a_window_is_published_once() {
        let mut pace = Pace::new(WINDOW);
        pace.offer(keys([1]), ms(0));
        pace.offer(keys([1]), ms(10));
        assert_eq!(pace.offer(keys([1]), ms(100)), keys([1]));
        assert_eq!(pace.due(ms(200)), keys([]));
    }

    proptest! {
        #[test]
        fn no_change_is_lost_or_late_and_no_service_is_published_twice_in_a_window(
            steps in prop::collection::vec((0u64..40, 0u8..4), 1..200)
        ) {
            let mut pace = Pace::new(WINDOW);
            let (mut now, mut waiting) = (ms(0), HashMap::<u8, Duration>::new());
            let mut last = HashMap::<u8, Duration>::new();
            let mut told = |publish: BTreeSet<u8>, at: Duration, waiting: &mut HashMap<u8, Duration>| {
                for key in publish {
                    let since = waiting.remove(&key).expect("only what has changed is published");
                    assert!(at - since <= WINDOW, "late by {:?}", at - since - WINDOW);
                    if let Some(before) = last.insert(key, at) {
                        assert!(at - before >= WINDOW, "twice within {:?}", at - before);
                    }
                }
            };
            for (pause, key) in steps {
                let next = now + ms(pause);
                while let Some(end) = pace.next().filter(|end| *end <= next) {
                    told(pace.due(end), end, &mut waiting);
                }
                now = next;
                waiting.entry(key).or_insert(now);
                told(pace.offer(BTreeSet::from([key]), now), now, &mut waiting);
            }
            while let Some(end) = pace.next() {
                told(pace.due(end), end, &mut waiting);
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
