// SPDX-License-Identifier: Apache-2.0
//! The tasks that must live as long as the agent. One that ends is a fault of the whole agent: half an agent is worse than
//! none, because the kernel notices that none is there. (A panic ends the process already, see
//! [`crate::telemetry::exit_on_panic`].)

use std::future::Future;

use tokio::{runtime::Handle, sync::mpsc};

/// Starts tasks; cheap to clone.
#[derive(Clone)]
pub(super) struct Tasks {
    ended: mpsc::UnboundedSender<&'static str>,
}

/// Learns of their ends.
pub(super) struct Ends(mpsc::UnboundedReceiver<&'static str>);

impl Tasks {
    pub(super) fn new() -> (Self, Ends) {
        let (ended, ends) = mpsc::unbounded_channel();
        (Self { ended }, Ends(ends))
    }

    /// Runs `future` on `runtime`.
    pub(super) fn spawn(
        &self,
        runtime: &Handle,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let ended = self.ended.clone();
        runtime.spawn(async move {
            future.await;
            let _ = ended.send(name);
        });
    }
}

impl Ends {
    /// The name of a task that has ended.
    pub(super) async fn next(&mut self) -> &'static str {
        match self.0.recv().await {
            Some(name) => name,
            // Nobody can start a task any more, so none can end.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_is_named() {
        let (tasks, mut ends) = Tasks::new();
        tasks.spawn(&Handle::current(), "lives on", std::future::pending());
        tasks.spawn(&Handle::current(), "ends", async {});
        assert_eq!(ends.next().await, "ends");
        drop(tasks);
        let none = tokio::time::timeout(std::time::Duration::from_secs(60), ends.next()).await;
        assert!(none.is_err(), "the other one lives on");
    }
}
