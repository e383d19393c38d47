// SPDX-License-Identifier: Apache-2.0
//! The thread that reads files: waits for events, reads what they name, sends batches.
//!
//! What must always be true: a file or a directory that cannot be read leaves what was read before in force.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::catalog::Catalog;
use super::document;
use super::watch::{DirectoryWatch, Inbox, Pending, is_manifest};
use crate::fault::{Fault, FaultKind};
use crate::source::Change;

/// Larger files are refused. 100 000 endpoints are about 20 MiB of YAML.
const MAX_FILE_BYTES: u64 = 128 << 20;

/// Changes after which the first scan tells what it has read so far. Nobody is served before its end, so it need not be
/// one step, and a large cluster need not be in memory twice.
const FIRST_BATCH: usize = 1000;

/// The state of the reading thread.
pub(super) struct Reader {
    directory: PathBuf,
    watch: DirectoryWatch,
    inbox: Arc<Inbox>,
    batches: mpsc::Sender<Vec<Change>>,
    catalog: Catalog,
    /// What each file was when it was last read, so that a rescan reads only what differs.
    signatures: HashMap<OsString, Signature>,
}

/// Device, inode, size, and times of modification and change in nanoseconds.
type Signature = (u64, u64, u64, i64, i64, i64, i64);

impl Reader {
    pub(super) fn new(
        directory: PathBuf,
        watch: DirectoryWatch,
        inbox: Arc<Inbox>,
        batches: mpsc::Sender<Vec<Change>>,
    ) -> Self {
        Self { directory, watch, inbox, batches, catalog: Catalog::default(), signatures: HashMap::new() }
    }

    /// Until nobody receives batches any more.
    pub(super) fn run(mut self) {
        let mut first = latest_faults(self.rescan(FIRST_BATCH));
        first.push(Change::Synced);
        let mut batch = first;
        loop {
            if !batch.is_empty() && self.batches.blocking_send(batch).is_err() {
                return;
            }
            let pending = self.inbox.wait();
            if pending.closed {
                return;
            }
            batch = latest_faults(self.react(&pending));
        }
    }

    fn react(&mut self, pending: &Pending) -> Vec<Change> {
        if pending.rewatch {
            // Fails while there is no directory; the parent's watch tells when there is one again, and the rescan
            // reports what is missing meanwhile.
            self.watch.renew().ok();
        }
        if pending.rewatch || pending.rescan {
            return self.rescan(usize::MAX);
        }
        let mut changes = Vec::new();
        // Files that are gone come last: a renamed file then hands its objects over, and nothing is deleted.
        let (there, gone): (Vec<_>, Vec<_>) =
            pending.files.iter().partition(|name| self.directory.join(name).exists());
        for name in there.into_iter().chain(gone) {
            self.load(name, &mut changes);
        }
        changes
    }

    /// Looks at all files. Changes are returned together; beyond `most` of them, what there is so far is sent ahead.
    fn rescan(&mut self, most: usize) -> Vec<Change> {
        let names = match self.list() {
            Ok(names) => names,
            Err(error) => {
                let message = format!(
                    "directory {}: cannot be read: {error}; the objects read from it before stay in force",
                    self.directory.display()
                );
                return vec![self.directory_faults(vec![Fault::new(FaultKind::Source, message)])];
            }
        };
        let mut changes = vec![self.directory_faults(Vec::new())];
        let gone: Vec<String> =
            self.catalog.files().filter(|file| !names.contains(&OsString::from(file))).cloned().collect();
        for name in names {
            let unchanged = self.signature(&name).is_some_and(|new| self.signatures.get(&name) == Some(&new));
            if !unchanged {
                self.load(&name, &mut changes);
            }
            if changes.len() >= most {
                // If nobody receives any more, the next one to send notices.
                self.batches.blocking_send(latest_faults(std::mem::take(&mut changes))).ok();
            }
        }
        for file in gone {
            self.signatures.remove(OsStr::new(&file));
            changes.extend(self.catalog.remove(&file));
        }
        changes
    }

    fn directory_faults(&self, faults: Vec<Fault>) -> Change {
        Change::Faults { origin: self.directory.display().to_string(), faults }
    }

    /// In name order, which decides between files that hold the same object.
    fn list(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if is_manifest(&name) && !self.directory.join(&name).is_dir() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn load(&mut self, name: &OsStr, changes: &mut Vec<Change>) {
        let Some(file) = name.to_str() else { return };
        let signature = self.signature(name);
        match self.read(name) {
            Ok(Some(bytes)) => {
                match signature {
                    Some(signature) => drop(self.signatures.insert(name.to_owned(), signature)),
                    None => drop(self.signatures.remove(name)),
                }
                match document::read(file, &bytes) {
                    Ok(objects) => changes.extend(self.catalog.load(file, objects)),
                    Err(faults) => changes.extend(self.catalog.refuse(file, faults)),
                }
            }
            Ok(None) => {
                self.signatures.remove(name);
                changes.extend(self.catalog.remove(file));
            }
            Err(error) => {
                self.signatures.remove(name);
                let message = format!(
                    "file {file}: cannot be read: {error}; the objects read from it before stay in force"
                );
                changes.extend(self.catalog.refuse(file, vec![Fault::new(FaultKind::Source, message)]));
            }
        }
    }

    /// `None`: there is no such file, although its directory is there.
    fn read(&self, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
        let path = self.directory.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            // Without its directory the file is out of sight, not removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.directory.is_dir() => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Ok(None);
        }
        if !meta.is_file() {
            return Err(io::Error::other("it is neither a file nor a link to one"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20)));
        }
        Ok(Some(bytes))
    }

    fn signature(&self, name: &OsStr) -> Option<Signature> {
        let meta = fs::metadata(self.directory.join(name)).ok()?;
        Some((
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        ))
    }
}

/// Leaves the last word on each origin. A file that is renamed is a duplicate of itself until its old name is looked at.
fn latest_faults(mut changes: Vec<Change>) -> Vec<Change> {
    let mut told = HashSet::new();
    changes.reverse();
    changes.retain(|change| match change {
        Change::Faults { origin, .. } => told.insert(origin.clone()),
        _ => true,
    });
    changes.reverse();
    changes
}
