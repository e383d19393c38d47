// SPDX-License-Identifier: Apache-2.0
//! inotify events, reduced to "these files may have changed" and "look at everything".
//!
//! The directory is watched, and its parent, so that a directory that is removed and made again, or swapped for another
//! by rename or symlink, is found again. Events are coalesced by file name in the [`Inbox`], so a slow reader costs a
//! bounded amount of memory and reads each file once. What arrives together is one batch: the reader is let go when no
//! event has come for [`QUIET`], because the two halves of a rename are two events, and acting on the first alone would
//! delete objects for a moment.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::source::SourceError;

/// How long no event may come before a batch is complete. Events of one system call are microseconds apart.
const QUIET: Duration = Duration::from_millis(2);
/// How long a batch may wait for quiet. Somebody who writes files all the time does not hold up the first of them.
const PATIENCE: Duration = Duration::from_millis(10);

/// What has happened since the reader last looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    /// Names of files in the directory.
    pub(super) files: BTreeSet<OsString>,
    /// Something happened that says nothing about single files: look at all of them.
    pub(super) rescan: bool,
    /// The directory itself is another one now.
    pub(super) rewatch: bool,
    /// Nobody wants to know any more.
    pub(super) closed: bool,
}

/// Where events wait for the reader.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pending: Mutex<Pending>,
    /// Told of each event.
    arrived: Condvar,
}

/// The watches on a directory and on its parent.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    directory: PathBuf,
    watcher: RecommendedWatcher,
}

/// Whether a file of this name is a manifest: not hidden, not an editor's temporary file.
pub(super) fn is_manifest(name: &std::ffi::OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let hidden = name.starts_with('.') || name.starts_with('#');
    !hidden && [".yaml", ".yml", ".json"].iter().any(|end| name.len() > end.len() && name.ends_with(end))
}

// === impl Inbox ===

impl Inbox {
    /// Waits until something has happened and then nothing more for a moment, and takes all of it.
    pub(super) fn wait(&self) -> Pending {
        let pending = self.lock();
        let idle = |pending: &mut Pending| *pending == Pending::default();
        let mut pending = self.arrived.wait_while(pending, idle).unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        while !pending.closed && began.elapsed() < PATIENCE {
            let waited = self.arrived.wait_timeout(pending, QUIET).unwrap_or_else(PoisonError::into_inner);
            pending = waited.0;
            if waited.1.timed_out() {
                break;
            }
        }
        std::mem::take(&mut *pending)
    }

    /// Ends the reader.
    pub(super) fn close(&self) {
        self.put(|pending| pending.closed = true);
    }

    fn put(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.lock());
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Plain data: there is no broken state that a panic could leave.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl DirectoryWatch ===

impl DirectoryWatch {
    /// Starts both watches.
    pub(super) fn start(directory: PathBuf, inbox: Arc<Inbox>) -> Result<Self, SourceError> {
        let watched = directory.clone();
        let handler = move |event: notify::Result<notify::Event>| sort(&watched, &inbox, event);
        let watcher = notify::recommended_watcher(handler).map_err(|error| refused(&directory, &error))?;
        let mut watch = Self { directory, watcher };
        watch.add(&watch.directory.clone())?;
        if let Some(parent) = watch.directory.parent().map(Path::to_owned) {
            watch.add(&parent)?;
        }
        Ok(watch)
    }

    /// Watches whatever is at the directory's path now.
    pub(super) fn renew(&mut self) -> Result<(), SourceError> {
        // The old watch is usually gone with the old directory.
        self.watcher.unwatch(&self.directory).ok();
        self.add(&self.directory.clone())
    }

    fn add(&mut self, path: &Path) -> Result<(), SourceError> {
        self.watcher.watch(path, RecursiveMode::NonRecursive).map_err(|error| refused(path, &error))
    }
}

fn refused(path: &Path, error: &notify::Error) -> SourceError {
    let reason = match error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            "no inotify watches are left; raise fs.inotify.max_user_watches".to_owned()
        }
        _ => error.to_string(),
    };
    SourceError::Watch { path: path.display().to_string(), reason }
}

/// Runs on the watcher's thread for each event.
fn sort(directory: &Path, inbox: &Inbox, event: notify::Result<notify::Event>) {
    let Ok(event) = event else { return inbox.put(|pending| pending.rescan = true) };
    if event.need_rescan() {
        return inbox.put(|pending| pending.rescan = true);
    }
    for path in event.paths.iter().filter(|_| matters(event.kind)) {
        if path == directory {
            inbox.put(|pending| pending.rewatch = true);
        } else if path.parent() == Some(directory)
            && let Some(name) = path.file_name()
        {
            if is_manifest(name) {
                if settled(event.kind, path) {
                    inbox.put(|pending| pending.files.extend([name.to_owned()]));
                }
            } else if !matches!(event.kind, EventKind::Access(_)) && path.is_symlink() {
                // A mounted ConfigMap changes all its files by swapping the hidden link `..data`.
                inbox.put(|pending| pending.rescan = true);
            }
        }
    }
}

fn matters(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Access(AccessKind::Close(AccessMode::Write))
    )
}

/// A file that was just created is about to be written: its writer's close is the moment to read it. Links are complete
/// from the start.
fn settled(kind: EventKind, path: &Path) -> bool {
    !matches!(kind, EventKind::Create(_))
        || path.symlink_metadata().is_ok_and(|meta| meta.is_symlink() || meta.nlink() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editors_temporary_files_are_no_manifests() {
        for name in ["web.yaml", "web.yml", "web.json", "a.b.yaml"] {
            assert!(is_manifest(name.as_ref()), "{name}");
        }
        for name in
            [".web.yaml", "#web.yaml", "web.yaml~", ".web.yaml.swp", "4913", "web.yaml.tmp", ".yaml", "yaml"]
        {
            assert!(!is_manifest(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn events_of_one_file_become_one() {
        let inbox = Inbox::default();
        let directory = Path::new("/m");
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        for kind in [close, close, EventKind::Access(AccessKind::Open(AccessMode::Any))] {
            sort(directory, &inbox, Ok(notify::Event::new(kind).add_path("/m/web.yaml".into())));
        }
        sort(directory, &inbox, Ok(notify::Event::new(close).add_path("/m/web.yaml~".into())));
        sort(directory, &inbox, Ok(notify::Event::new(close).add_path("/other/x.yaml".into())));
        let expected = Pending { files: BTreeSet::from(["web.yaml".into()]), ..Pending::default() };
        assert_eq!(inbox.wait(), expected);
    }
}
