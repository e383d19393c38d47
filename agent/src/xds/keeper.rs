// SPDX-License-Identifier: Apache-2.0
//! Keeps the last-good file in step with what is accepted.
//!
//! Nothing is debounced by time: while one write is running, any number of changes become the next one. A change costs the
//! flow a map insert; cloning, encoding and syncing happen on a blocking thread.
//!
//! What must always be true: after [`Keeper::close`] the file holds the last change, unless writing fails, which the status
//! tells. Deliberately not here: the format.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

use super::Status;
use crate::store::persist::{self, Accepted, SaveError};

type Held = Arc<Mutex<BTreeMap<(Arc<str>, Arc<str>), Accepted>>>;

/// The accepted resources, raw, and the task that writes them.
#[derive(Debug)]
pub(super) struct Keeper {
    held: Held,
    changed: watch::Sender<()>,
    writer: JoinHandle<()>,
}

impl Keeper {
    /// Starts with what is in the file already.
    pub(super) fn new(path: PathBuf, loaded: &[Accepted], status: watch::Sender<Status>) -> Self {
        let entries = loaded.iter().map(|a| ((a.type_url.clone(), a.name.clone()), a.clone()));
        let held = Arc::new(Mutex::new(entries.collect()));
        let (changed, changes) = watch::channel(());
        let writer = tokio::spawn(write(path, held.clone(), changes, status));
        Self { held, changed, writer }
    }

    /// Takes one batch of changes: what was accepted, and (type, name) of what is gone.
    pub(super) fn apply(&self, accepted: Vec<Accepted>, gone: &[(Arc<str>, Arc<str>)]) {
        if accepted.is_empty() && gone.is_empty() {
            return;
        }
        let mut held = self.held.lock();
        for key in gone {
            held.remove(key);
        }
        held.extend(accepted.into_iter().map(|a| ((a.type_url.clone(), a.name.clone()), a)));
        drop(held);
        self.changed.send_replace(());
    }

    /// Waits until the last change is written.
    pub(super) async fn close(self) {
        let Self { held: _, changed, writer } = self;
        drop(changed);
        // It ends once it has seen the last change; if it panicked there is nothing left to do.
        let _ = writer.await;
    }
}

/// Writes after each change that is seen, and ends when the keeper is closed and nothing is unwritten.
async fn write(path: PathBuf, held: Held, mut changes: watch::Receiver<()>, status: watch::Sender<Status>) {
    while changes.changed().await.is_ok() {
        let (path, held) = (path.clone(), held.clone());
        let save = move || -> Result<(), SaveError> {
            let resources: Vec<Accepted> = held.lock().values().cloned().collect();
            persist::save(&path, &resources)
        };
        let error = match tokio::task::spawn_blocking(save).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(format!("writing the last-good file failed: {panic}")),
        };
        if let Some(error) = &error {
            tracing::warn!("{error}; the agent goes on, but would start with older endpoints");
        }
        status.send_modify(|status| {
            status.saves += u64::from(error.is_none());
            status.save_error = error;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> Accepted {
        Accepted { type_url: "t".into(), name: name.into(), version: "1".into(), body: Default::default() }
    }

    #[tokio::test]
    async fn closing_writes_the_last_change_and_many_changes_need_few_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(persist::FILE_NAME);
        let (sender, status) = super::super::status();
        let keeper = Keeper::new(path.clone(), &[resource("old")], sender);
        for i in 0..1000 {
            keeper.apply(vec![resource(&format!("r{i}"))], &[]);
        }
        keeper.apply(Vec::new(), &[("t".into(), "old".into())]);
        keeper.close().await;
        assert_eq!(persist::load(&path).unwrap().len(), 1000);
        // The loop above never yields, so the task sees all of it at once.
        assert_eq!(status.borrow().saves, 1);
    }

    #[tokio::test]
    async fn a_write_that_fails_is_told_in_the_status() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (sender, status) = super::super::status();
        let keeper = Keeper::new(file.join(persist::FILE_NAME), &[], sender);
        keeper.apply(vec![resource("a")], &[]);
        keeper.close().await;
        let error = status.borrow().save_error.clone().unwrap();
        assert!(error.contains("cannot create the folder"), "{error}");
    }
}
