// SPDX-License-Identifier: Apache-2.0
//! The threads that connections live on.
//!
//! A connection stays on the thread that it was given to, as in Envoy: what is known of its client stays in the caches of
//! one core, and a change wakes each thread once rather than each connection. Workers that take tasks from each other are
//! better where tasks are few and differ; here they are thousands and alike.
//!
//! What must always be true: there is at least one. They end with this value, and what is left on them with them.
//! Deliberately not here: which connection goes where.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// See the module.
pub(super) struct Shards {
    threads: Vec<Handle>,
    _stop: DropGuard,
}

// === impl Shards ===

impl Shards {
    /// One for two cores that this process may use: the kernel's half of each send and the rest of the service need some as
    /// well, and a thread that has work costs less per connection than two that wake each other. Where threads cannot be
    /// had, the caller's runtime does.
    pub(super) fn start() -> Self {
        let count = count();
        let stop = CancellationToken::new();
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            match shard(number, stop.clone()) {
                Ok(handle) => threads.push(handle),
                Err(error) => tracing::warn!(%error, "cannot start a thread for connections"),
            }
        }
        if threads.is_empty() {
            threads.push(Handle::current());
        }
        Self { threads, _stop: stop.drop_guard() }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Handle> {
        self.threads.iter()
    }
}

fn count() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// Starts a thread that runs what is spawned on it, until it is to stop.
fn shard(number: usize, stop: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("connections-{number}"))
        .spawn(move || runtime.block_on(stop.cancelled()))?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn each_runs_what_it_is_given_on_its_own_thread_until_they_end() {
        let shards = Shards::start();
        let mut names = Vec::new();
        for handle in shards.iter() {
            let name = async { thread::current().name().map(ToOwned::to_owned) };
            names.push(handle.spawn(name).await.unwrap().expect("a name"));
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count());
        let (sender, receiver) = oneshot::channel::<()>();
        let task = shards.iter().next().unwrap().spawn(async move {
            let _held = sender;
            std::future::pending::<()>().await;
        });
        drop(shards);
        assert!(receiver.await.is_err(), "what is left ends");
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
    }
}
