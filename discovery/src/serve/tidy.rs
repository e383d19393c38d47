// SPDX-License-Identifier: Apache-2.0
//! Gives memory back when clients have been given much.
//!
//! Until it is in sync a new client costs a multiple of what it costs from then on, and after a restart all of them come at
//! once. What must always be true: it waits for a moment of rest, and is done once per [`INTERVAL`] at most.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// As long as no further client has been given everything.
const REST: Duration = Duration::from_millis(100);
/// It takes milliseconds, and memory that is given back has to be asked for again.
const INTERVAL: Duration = Duration::from_secs(1);

/// Clones are handles to the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Tidy(Arc<Notify>);

// === impl Tidy ===

impl Tidy {
    /// A client that was sent much is in sync.
    pub(super) fn after_sync(&self) {
        self.0.notify_one();
    }

    /// Calls `give_back` when it is time, for ever.
    pub(super) async fn run(self, give_back: fn() -> bool) {
        loop {
            self.0.notified().await;
            while timeout(REST, self.0.notified()).await.is_ok() {}
            // A panic in there would be a process without memory.
            tokio::task::spawn_blocking(give_back).await.ok();
            sleep(INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_clients_is_tidied_up_after_once() {
        static TIMES: AtomicUsize = AtomicUsize::new(0);
        let tidy = Tidy::default();
        tokio::spawn(tidy.clone().run(|| TIMES.fetch_add(1, SeqCst) > 0));
        for _ in 0..50 {
            tidy.after_sync();
            sleep(REST / 2).await;
        }
        assert_eq!(TIMES.load(SeqCst), 0, "they are still coming");
        sleep(INTERVAL).await;
        assert_eq!(TIMES.load(SeqCst), 1);
        sleep(INTERVAL * 9).await;
        assert_eq!(TIMES.load(SeqCst), 1, "nobody has come");
        tidy.after_sync();
        sleep(INTERVAL).await;
        assert_eq!(TIMES.load(SeqCst), 2);
    }
}
