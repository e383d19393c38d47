// SPDX-License-Identifier: Apache-2.0
//! The heart: every [`INTERVAL`] it asks each part of the agent for a sign of life, and beats only when all have answered.
//!
//! The agent has two halves that can hang independently: the control half (one thread: discovery, publishing, admin) and
//! the proxy half (several threads: the request path). A hung half is a hung agent: a proxy that accepts nothing must not
//! be handed connections, and endpoints that nobody updates must not be trusted. So a ping goes to each part; a part that
//! has not answered when the next beat is due withholds that beat, and gets no second ping before it has answered the
//! first. The heart itself runs on the control half, so when that hangs nobody beats. When the parts are back, so is the
//! beat: nothing else needs to recover.
//!
//! Always true: at most one interval lies between a beat and the answers it rests on.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

/// Ten beats fit into the default time after which a heartbeat is stale: a few late ones on a busy node are no outage.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);

/// What the kernel made of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beaten {
    /// Written: this agent owns the slots.
    Owner,
    /// Not written: a newer live agent owns them.
    Superseded {
        /// The newer agent's generation.
        by: u64,
    },
    /// Not written: the map could not be.
    Failed,
}

/// A part of the agent that has to be alive, as the heart sees it.
pub(super) struct Part {
    name: &'static str,
    pings: mpsc::Sender<oneshot::Sender<()>>,
    waiting: Option<oneshot::Receiver<()>>,
}

/// The same part, as seen from inside: answers the pings. Run it where the part runs.
pub(super) struct Pulse {
    pings: mpsc::Receiver<oneshot::Sender<()>>,
}

/// A part and its pulse.
pub(super) fn part(name: &'static str) -> (Part, Pulse) {
    let (sender, pings) = mpsc::channel(1);
    (Part { name, pings: sender, waiting: None }, Pulse { pings })
}

impl Pulse {
    /// Answers until the heart is gone.
    pub(super) async fn run(mut self) {
        while let Some(answer) = self.pings.recv().await {
            let _ = answer.send(());
        }
    }
}

impl Part {
    /// Whether the part answers a ping until `due`.
    async fn answers(&mut self, due: Instant) -> bool {
        let mut waiting = match self.waiting.take() {
            Some(waiting) => waiting,
            None => {
                let (answer, waiting) = oneshot::channel();
                if self.pings.try_send(answer).is_err() {
                    return false;
                }
                waiting
            }
        };
        match timeout_at(due, &mut waiting).await {
            Ok(answered) => answered.is_ok(),
            Err(_) => {
                self.waiting = Some(waiting);
                false
            }
        }
    }
}

/// Beats until a newer agent has taken over; returns its generation.
pub(super) async fn run(mut parts: Vec<Part>, mut beat: impl FnMut() -> Beaten) -> u64 {
    let mut ticks = interval(INTERVAL);
    // After a pause (the process was stopped) one beat is due, not a burst of them.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent: Option<&'static str> = None;
    loop {
        let due = ticks.tick().await + INTERVAL;
        match first_silent(&mut parts, due).await {
            None => {
                if let Some(part) = silent.take() {
                    tracing::info!(part, "answers again, the heart beats");
                }
                if let Beaten::Superseded { by } = beat() {
                    return by;
                }
            }
            Some(part) => {
                if silent.replace(part).is_none() {
                    tracing::error!(part, "does not answer; the heart does not beat until it does");
                }
            }
        }
    }
}

/// The first part that does not answer until `due`.
async fn first_silent(parts: &mut [Part], due: Instant) -> Option<&'static str> {
    let mut silent = None;
    for part in parts {
        if !part.answers(due).await {
            silent = silent.or(Some(part.name));
        }
    }
    silent
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    };

    use tokio::{sync::watch, time::sleep};

    use super::*;

    struct Counted(Arc<AtomicU64>);

    impl Counted {
        fn new() -> (Self, impl FnMut() -> Beaten) {
            let beats = Arc::new(AtomicU64::new(0));
            let own = beats.clone();
            (Self(beats), move || {
                own.fetch_add(1, SeqCst);
                Beaten::Owner
            })
        }

        fn take(&self) -> u64 {
            self.0.swap(0, SeqCst)
        }
    }

    /// A pulse that answers only while `alive` says so.
    async fn sometimes(mut pulse: Pulse, mut alive: watch::Receiver<bool>) {
        while let Some(answer) = pulse.pings.recv().await {
            alive.wait_for(|alive| *alive).await.unwrap();
            let _ = answer.send(());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_heart_beats_five_times_a_second_while_all_parts_answer() {
        let (beats, beat) = Counted::new();
        let ((control, a), (proxy, b)) = (part("control"), part("proxy"));
        tokio::spawn(a.run());
        tokio::spawn(b.run());
        tokio::spawn(run(vec![control, proxy], beat));
        sleep(Duration::from_millis(1_990)).await;
        assert_eq!(beats.take(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn one_silent_part_stops_the_heart_and_its_return_starts_it_again() {
        let (beats, beat) = Counted::new();
        let ((control, a), (proxy, b)) = (part("control"), part("proxy"));
        let (alive, watched) = watch::channel(true);
        tokio::spawn(a.run());
        tokio::spawn(sometimes(b, watched));
        tokio::spawn(run(vec![control, proxy], beat));
        sleep(Duration::from_millis(990)).await;
        assert_eq!(beats.take(), 5);
        alive.send_replace(false);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(beats.take(), 0, "the control half alone does not keep the heart going");
        alive.send_replace(true);
        sleep(Duration::from_secs(2)).await;
        let beaten = beats.take();
        assert!((9..=11).contains(&beaten), "{beaten} beats after the return");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_came_late_counts_for_the_next_beat_only() {
        let (beats, beat) = Counted::new();
        let (proxy, mut pulse) = part("proxy");
        tokio::spawn(run(vec![proxy], beat));
        let answer = pulse.pings.recv().await.unwrap();
        sleep(INTERVAL + INTERVAL / 2).await;
        assert_eq!(beats.take(), 0);
        answer.send(()).unwrap();
        sleep(INTERVAL / 4).await;
        assert_eq!(beats.take(), 1);
        sleep(INTERVAL * 5).await;
        assert_eq!(beats.take(), 0, "the next ping is unanswered");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_ended_stops_the_heart() {
        let (beats, beat) = Counted::new();
        let (proxy, pulse) = part("proxy");
        drop(pulse);
        tokio::spawn(run(vec![proxy], beat));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(beats.take(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_agent_ends_the_beating() {
        let mut left = 3;
        let by = run(Vec::new(), move || {
            left -= 1;
            if left > 0 { Beaten::Owner } else { Beaten::Superseded { by: 42 } }
        });
        assert_eq!(by.await, 42);
    }
}
