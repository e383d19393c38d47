// SPDX-License-Identifier: Apache-2.0
//! The last-good file: every accepted resource with its version, so that the agent starts without discovery and resumes
//! without being sent anything again.
//!
//! One line of text, then the payload:
//!
//! ```text
//! evenkeel-last-good 1 <checksum: 32 hexadecimal digits> <payload bytes>\n
//! ```
//!
//! The payload is a sequence of length-delimited `DeltaDiscoveryResponse` messages, one per type: the same encoding in which
//! the resources came. The checksum is over the payload.
//!
//! What must always be true: the file under its own name is complete (written beside it, synced, renamed); a file that is
//! not exactly what was written is not used, and is kept as `….corrupt` for whoever wants to know.
//! Deliberately not here: what the resources mean ([`super::decode`]) and when to write ([`crate::xds`]).

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource},
    google::protobuf::Any,
};
use evenkeel_xds::Version;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use prost::Message;

/// Name of the file inside the state folder.
pub const FILE_NAME: &str = "last-good";

const MAGIC: &str = "evenkeel-last-good";
const FORMAT: &str = "1";
/// Longer than any header; a file without a line end in this many bytes is not ours.
const HEADER_MAX: usize = 128;
/// A write takes milliseconds: an agent that holds the lock for longer hangs.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// One accepted resource, raw. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its type.
    pub type_url: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its version, as the server wrote it.
    pub version: Arc<str>,
    /// The encoded message.
    pub body: Bytes,
}

/// Why the last-good file was not used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("last-good file {path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not begin like one.
    #[error("last-good file {path}: does not begin with a {MAGIC:?} line; it is not ours")]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// It was written by another version of the agent.
    #[error("last-good file {path}: has format {found:?}; this agent reads format {FORMAT:?}")]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// It is shorter or longer than its header says.
    #[error("last-good file {path}: has {found} bytes of payload where its header says {expected:?}")]
    Length {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: usize,
        /// What the header says.
        expected: String,
    },
    /// It is not what was written.
    #[error("last-good file {path}: the payload does not match its checksum; the file is damaged")]
    Checksum {
        /// The file.
        path: PathBuf,
    },
    /// The checksum holds and yet it cannot be decoded.
    #[error("last-good file {path}: the payload cannot be decoded: {source}")]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: prost::DecodeError,
    },
}

/// Why the last-good file was not written.
#[derive(Debug, thiserror::Error)]
#[error("last-good file {path}: cannot {operation}: {source}")]
pub struct SaveError {
    /// The file that the operation was on.
    pub path: PathBuf,
    /// What was tried.
    pub operation: &'static str,
    /// What went wrong.
    pub source: io::Error,
}

/// Reads the file. A file that is not there is an empty one.
///
/// # Errors
/// See [`LoadError`]; each names the file.
pub fn load(path: &Path) -> Result<Vec<Accepted>, LoadError> {
    match fs::read(path) {
        Ok(bytes) => decode(path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(LoadError::Read { path: path.into(), source }),
    }
}

/// Renames a file that [`load`] refused to `….corrupt`, over an older one. Returns the new name.
///
/// # Errors
/// The rename failed.
pub fn set_aside(path: &Path) -> Result<PathBuf, SaveError> {
    let aside = with_suffix(path, ".corrupt");
    fs::rename(path, &aside).map_err(|source| SaveError {
        path: path.into(),
        operation: "be set aside as .corrupt",
        source,
    })?;
    Ok(aside)
}

/// Replaces the file, atomically and durably. The resources must be sorted by type. Blocks.
///
/// # Errors
/// The first operation that failed; the old file is then still in place.
pub fn save(path: &Path, resources: &[Accepted]) -> Result<(), SaveError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let fail = |path: &Path, operation| {
        let path = path.to_path_buf();
        move |source| SaveError { path, operation, source }
    };
    fs::create_dir_all(folder).map_err(fail(folder, "create the folder"))?;
    let _lock = lock(folder)?;
    let temporary = with_suffix(path, ".new");
    let mut file = File::create(&temporary).map_err(fail(&temporary, "create"))?;
    file.write_all(&encode(resources)).map_err(fail(&temporary, "write"))?;
    file.sync_all().map_err(fail(&temporary, "sync"))?;
    drop(file);
    fs::rename(&temporary, path).map_err(fail(path, "replace"))?;
    // The rename itself is durable only once the folder is.
    File::open(folder).and_then(|f| f.sync_all()).map_err(fail(folder, "sync the folder"))
}

/// Deletes all files that are ours, and the folder if nothing else is in it. Returns whether there was anything.
///
/// # Errors
/// A file or the folder cannot be deleted.
pub fn forget(folder: &Path) -> Result<bool, SaveError> {
    let file = folder.join(FILE_NAME);
    let mut found = false;
    for path in [with_suffix(&file, ".new"), with_suffix(&file, ".corrupt"), file] {
        match fs::remove_file(&path) {
            Ok(()) => found = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SaveError { path, operation: "delete", source }),
        }
    }
    match fs::remove_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Ok(found)
        }
        Err(source) => Err(SaveError { path: folder.into(), operation: "delete", source }),
    }
}

/// Two agents share the folder while they overlap during an upgrade. The kernel drops the lock of one that dies.
fn lock(folder: &Path) -> Result<Flock<File>, SaveError> {
    let fail = |source: io::Error| SaveError {
        path: folder.into(),
        operation: "lock the folder, in which another agent may be writing",
        source,
    };
    let until = Instant::now() + LOCK_PATIENCE;
    let mut file = File::open(folder).map_err(fail)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((waiting, Errno::EWOULDBLOCK)) if Instant::now() < until => file = waiting,
            Err((_, error)) => return Err(fail(error.into())),
        }
        std::thread::sleep(LOCK_RETRY);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

// === format ===

fn encode(resources: &[Accepted]) -> Vec<u8> {
    let mut payload = Vec::new();
    for group in resources.chunk_by(|a, b| a.type_url == b.type_url) {
        let resources = group.iter().map(|resource| Resource {
            name: resource.name.to_string(),
            version: resource.version.to_string(),
            resource: Some(Any { type_url: resource.type_url.to_string(), value: resource.body.to_vec() }),
            ..Resource::default()
        });
        let message = DeltaDiscoveryResponse {
            type_url: group[0].type_url.to_string(),
            resources: resources.collect(),
            ..DeltaDiscoveryResponse::default()
        };
        payload.extend(message.encode_length_delimited_to_vec());
    }
    let mut file = format!("{MAGIC} {FORMAT} {} {}\n", Version::of(&payload), payload.len()).into_bytes();
    file.append(&mut payload);
    file
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Vec<Accepted>, LoadError> {
    let not_ours = || LoadError::NotOurs { path: path.into() };
    let end = bytes.iter().take(HEADER_MAX).position(|b| *b == b'\n').ok_or_else(not_ours)?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|_| not_ours())?;
    let mut words = header.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(not_ours());
    }
    let format = words.next().unwrap_or_default();
    if format != FORMAT {
        return Err(LoadError::OtherFormat { path: path.into(), found: format.to_owned() });
    }
    let (checksum, length) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let payload = &bytes[end + 1..];
    if length != payload.len().to_string() {
        let (found, expected) = (payload.len(), length.to_owned());
        return Err(LoadError::Length { path: path.into(), found, expected });
    }
    if Version::parse(checksum) != Some(Version::of(payload)) {
        return Err(LoadError::Checksum { path: path.into() });
    }
    decode_payload(payload).map_err(|source| LoadError::Decode { path: path.into(), source })
}

fn decode_payload(mut payload: &[u8]) -> Result<Vec<Accepted>, prost::DecodeError> {
    let mut accepted = Vec::new();
    while !payload.is_empty() {
        let message = DeltaDiscoveryResponse::decode_length_delimited(&mut payload)?;
        let type_url: Arc<str> = message.type_url.into();
        accepted.extend(message.resources.into_iter().map(|resource| Accepted {
            type_url: type_url.clone(),
            name: resource.name.into(),
            version: resource.version.into(),
            body: resource.resource.unwrap_or_default().value.into(),
        }));
    }
    Ok(accepted)
}

#[cfg(test)]
mod tests;
