// SPDX-License-Identifier: Apache-2.0
//! The folder of namespaces as a stream of changes.
//!
//! A change may be reported that is none (a file that was there already); none is ever missed: on overflow, and whenever the
//! folder itself came or went, [`Change::Rescan`] says to read it whole. While the folder does not exist the nearest folder
//! above it is watched. `IN_CLOSE` is not asked for: our own opens would cause it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use tokio::io::{Interest, unix::AsyncFd};

/// What happened in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A file of this name is there.
    Appeared(String),
    /// It is gone.
    Vanished(String),
    /// Anything may have happened: read the folder.
    Rescan,
}

/// See the module.
pub(super) struct Folder {
    path: PathBuf,
    inotify: AsyncFd<Descriptor>,
    watch: Option<WatchDescriptor>,
    /// The folder above that is watched while ours is not there.
    above: Option<WatchDescriptor>,
}

struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Folder {
    /// Begins to watch. Read the folder afterwards.
    pub(super) fn watch(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: `Descriptor` owns the descriptor and neither replaces it nor closes it while it is registered.
        let inotify = unsafe { AsyncFd::register_with_interest(Descriptor(inotify), Interest::READABLE) }?;
        let mut folder = Self { path: path.to_owned(), inotify, watch: None, above: None };
        folder.attach()?;
        Ok(folder)
    }

    /// Names in the folder; none when it is not there.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    /// The next changes, at least one.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Change>> {
        loop {
            let read = {
                let mut ready = self.inotify.readable().await?;
                ready.try_io(|fd| fd.get_ref().0.read_events().map_err(io::Error::from))
            };
            let events = match read {
                Err(_would_block) => continue,
                Ok(events) => events?,
            };
            let mut changes = Vec::with_capacity(events.len());
            for event in events {
                self.translate(event, &mut changes)?;
            }
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    fn translate(&mut self, event: InotifyEvent, changes: &mut Vec<Change>) -> io::Result<()> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            changes.push(Change::Rescan);
        } else if Some(event.wd) == self.watch {
            let name = event.name.map(|name| name.to_string_lossy().into_owned());
            match name {
                Some(name) if event.mask.contains(AddWatchFlags::IN_DELETE) => {
                    changes.push(Change::Vanished(name));
                }
                Some(name) => changes.push(Change::Appeared(name)),
                None if event.mask.intersects(AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF) => {
                    self.watch = None;
                    self.attach()?;
                    changes.push(Change::Rescan);
                }
                None => {}
            }
        } else if self.watch.is_none() {
            // Something came or went above the folder: it may be there now.
            self.attach()?;
            if self.watch.is_some() {
                changes.push(Change::Rescan);
            }
        }
        Ok(())
    }

    /// Watches the folder, or what is above it until it is there.
    fn attach(&mut self) -> io::Result<()> {
        if let Some(above) = self.above.take() {
            // Gone by itself when that folder is.
            _ = self.inotify.get_ref().0.rm_watch(above);
        }
        loop {
            match self.add(&self.path, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE) {
                Err(Errno::ENOENT) => {}
                watch => {
                    self.watch = Some(watch?);
                    return Ok(());
                }
            }
            let Some((existing, above)) = self.path.ancestors().skip(1).find_map(|folder| {
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                let watch = self.add(folder, AddWatchFlags::IN_CREATE).ok()?;
                Some((folder.to_owned(), watch))
            }) else {
                return Err(io::Error::other(format!("no folder above {} exists", self.path.display())));
            };
            self.above = Some(above);
            // Made between the two calls: the watch above has not seen it.
            let next = self.path.ancestors().find(|folder| folder.parent() == Some(&existing));
            if !next.is_some_and(Path::exists) {
                return Ok(());
            }
            if let Some(above) = self.above.take() {
                _ = self.inotify.get_ref().0.rm_watch(above);
            }
        }
    }

    fn add(&self, path: &Path, flags: AddWatchFlags) -> nix::Result<WatchDescriptor> {
        let always = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_ONLYDIR;
        self.inotify.get_ref().0.add_watch(path, flags | always)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Duration};

    async fn next(folder: &mut Folder) -> Vec<Change> {
        tokio::time::timeout(Duration::from_secs(5), folder.next()).await.expect("a change").unwrap()
    }

    #[tokio::test]
    async fn files_that_come_and_go_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::watch(dir.path()).unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!(next(&mut folder).await, [Change::Appeared("a".into())]);
        fs::remove_file(dir.path().join("a")).unwrap();
        assert_eq!(next(&mut folder).await, [Change::Vanished("a".into())]);
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/netns");
        let mut folder = Folder::watch(&path).unwrap();
        assert!(folder.names().unwrap().is_empty());
        fs::create_dir_all(&path).unwrap();
        assert_eq!(next(&mut folder).await, [Change::Rescan]);
        fs::write(path.join("a"), "").unwrap();
        assert_eq!(next(&mut folder).await, [Change::Appeared("a".into())]);
    }

    #[tokio::test]
    async fn a_folder_that_is_made_anew_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netns");
        fs::create_dir(&path).unwrap();
        let mut folder = Folder::watch(&path).unwrap();
        fs::remove_dir(&path).unwrap();
        assert!(next(&mut folder).await.contains(&Change::Rescan));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), "").unwrap();
        let mut seen = Vec::new();
        while !folder.names().unwrap().contains(&"a".into()) || !seen.contains(&Change::Rescan) {
            seen.extend(next(&mut folder).await);
        }
    }
}
