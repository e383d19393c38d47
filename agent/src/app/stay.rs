// SPDX-License-Identifier: Apache-2.0
//! What a superseded agent does under a supervisor that would start it again: nothing, until there is a reason to end.
//!
//! A DaemonSet with `maxSurge` asks the older pod to go when the newer one is ready. If the older agent ended by itself before
//! that, the kubelet would start it again in its old pod, as the newest agent of all, and it would take the node back.
//!
//! Ending is right when somebody asks, and when being started again is: the newer agent is silent, or nobody has asked for
//! longer than a rollout takes from ready to asked. The last covers an older container that was restarted while both were
//! there, and so superseded the newer pod: without it that pod would never become ready, and the rollout never end.

use std::{fmt, time::Duration};

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use crate::kernel::{Beat, KernelError};

/// How often it is looked whether the newer agent lives.
const LOOK: Duration = Duration::from_secs(1);
/// A rollout asks the older pod to go a few seconds after the newer is ready.
const AT_MOST: Duration = Duration::from_secs(120);

/// Why the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody asked.
    Asked,
    /// Nobody serves the node.
    Silent,
    /// The rollout that superseded this agent does not go on.
    Forgotten,
}

/// Waits for a reason to end. `look` says what became of the newer agent.
pub(super) async fn stay(
    asked: CancellationToken,
    mut look: impl FnMut() -> Result<Beat, KernelError>,
) -> Why {
    let until = Instant::now() + AT_MOST;
    let mut looks = interval(LOOK);
    loop {
        tokio::select! {
            biased;
            () = asked.cancelled() => return Why::Asked,
            now = looks.tick() => {
                if now >= until {
                    return Why::Forgotten;
                }
                // What cannot be read is no reason to be started again: the next look may succeed.
                if matches!(look(), Ok(Beat::Vacant { .. })) {
                    return Why::Silent;
                }
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "told to end",
            Self::Silent => "the newer agent is silent: ending, to be started again",
            Self::Forgotten => "superseded, and not told to end for two minutes: ending, to be started again",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWER: Beat = Beat::Superseded { generation: 2 };

    #[tokio::test(start_paused = true)]
    async fn a_superseded_agent_ends_when_it_is_asked() {
        let asked = CancellationToken::new();
        let staying = tokio::spawn(stay(asked.clone(), || Ok(NEWER)));
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!staying.is_finished());
        asked.cancel();
        assert_eq!(staying.await.unwrap(), Why::Asked);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_asked_during_its_drain_does_not_stay() {
        let (asked, started) = (CancellationToken::new(), Instant::now());
        asked.cancel();
        assert_eq!(stay(asked, || Ok(NEWER)).await, Why::Asked);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_newer_one_is_silent() {
        let (mut looks, started) = (0, Instant::now());
        let look = || {
            looks += 1;
            Ok(if looks < 10 { NEWER } else { Beat::Vacant { generation: 2 } })
        };
        assert_eq!(stay(CancellationToken::new(), look).await, Why::Silent);
        assert_eq!(started.elapsed(), Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_stay_forever_beside_an_agent_that_was_restarted() {
        let started = Instant::now();
        assert_eq!(stay(CancellationToken::new(), || Ok(NEWER)).await, Why::Forgotten);
        assert_eq!(started.elapsed(), AT_MOST);
    }
}
