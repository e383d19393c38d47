// SPDX-License-Identifier: Apache-2.0
//! A directory of Kubernetes manifests as a source: the embedded default, for one machine and for tests.
//!
//! A file is the unit of change: it is read whole, its objects become one batch, and if any document in it has a fault,
//! all objects that were last good *from that file* stay in force until it is fixed or removed. A file is read when a
//! writer closes it, when it is renamed into place, or when a symlink changes (as for mounted ConfigMaps), never while
//! somebody is known to be writing it; writing to a temporary name and renaming is still the way to be exact. An empty
//! file is a fault: it is what a writer leaves between truncating and writing.
//!
//! Deliberately not here: sub-folders, polling. On file systems without inotify events (NFS) changes go unnoticed.
//!
//! Everything happens on one thread of its own, because reading files blocks; the async side only receives batches.

mod catalog;
mod document;
mod reader;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use self::reader::Reader;
use self::watch::Inbox;
use super::{Change, Source, SourceError};

/// Batches that may wait for the indexer. Beyond that the reading thread waits, and events coalesce by file.
const WAITING_BATCHES: usize = 16;

/// The objects in a directory's files.
#[derive(Debug)]
pub struct ManifestSource {
    batches: mpsc::Receiver<Vec<Change>>,
    inbox: Arc<Inbox>,
}

impl ManifestSource {
    /// Starts to watch and read `directory`, an absolute path.
    ///
    /// # Errors
    /// [`SourceError::Watch`] if the kernel refuses the watch: no such directory, or no inotify watches left.
    pub fn open(directory: PathBuf) -> Result<Self, SourceError> {
        let inbox = Arc::new(Inbox::default());
        // The watch is there before the first read, so no change falls between the two.
        let watch = watch::DirectoryWatch::start(directory.clone(), inbox.clone())?;
        let (sender, batches) = mpsc::channel(WAITING_BATCHES);
        let thread = Reader::new(directory.clone(), watch, inbox.clone(), sender);
        std::thread::Builder::new().name("manifests".into()).spawn(move || thread.run()).map_err(
            |error| SourceError::Watch { path: directory.display().to_string(), reason: error.to_string() },
        )?;
        Ok(Self { batches, inbox })
    }
}

impl Source for ManifestSource {
    async fn next(&mut self) -> Result<Vec<Change>, SourceError> {
        self.batches.recv().await.ok_or(SourceError::Stopped)
    }
}

impl Drop for ManifestSource {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
