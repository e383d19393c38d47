// SPDX-License-Identifier: Apache-2.0
//! Unix sockets for their owner only: that of an admin API, and that of discovery's clients on the same machine.
//!
//! Always true: a folder made here is 0700, the socket is 0600 before its path is known; of an admin API, a peer that is
//! neither root nor the process' own user is dropped unanswered. What is no socket is never replaced. The path is replaced
//! by rename: the socket of a dead process disappears, that of a live one (two agents overlap during an upgrade) passes to
//! the newer without an instant in which nobody answers, and the older removes nothing that is not its own. Who wants no
//! such heir asks for [`PrivateSocket::bind_alone`].

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use futures_util::{Stream, StreamExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;

/// Owner only: the API tells names and addresses of everything on the node, or in the cluster.
const SOCKET_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A socket that is bound, but not yet where it will be looked for. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct PreparedSocket {
    listener: UnixListener,
    path: PathBuf,
    flag: &'static str,
    file: SocketFile,
}

/// A socket in its place.
#[derive(Debug)]
pub struct PrivateSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("socket {}: cannot {operation}: {source}; give another place with {flag}", path.display())]
pub struct SocketError {
    /// Where.
    pub path: PathBuf,
    /// The flag that names its place.
    pub flag: &'static str,
    /// What failed.
    pub operation: &'static str,
    /// What the system said.
    pub source: io::Error,
}

// === impl PreparedSocket ===

impl PreparedSocket {
    /// Binds a socket for `path`, which `flag` names, without touching what is there. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the folder or the socket cannot be made.
    pub fn bind(path: &Path, flag: &'static str) -> Result<Self, SocketError> {
        let fail = |operation| move |source| SocketError { path: path.to_owned(), flag, operation, source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_folder(folder).map_err(fail("make its folder"))?;
        // Overlapping agents may have the same process id, each in its own pid namespace: the time tells them apart.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let temporary = path.with_extension(format!("{}-{}.new", std::process::id(), now.as_nanos()));
        let listener = UnixListener::bind(&temporary).map_err(fail("bind it"))?;
        let metadata = fs::symlink_metadata(&temporary).map_err(fail("read its metadata"))?;
        let file = SocketFile { path: temporary, inode: metadata.ino(), owner: metadata.uid() };
        fs::set_permissions(&file.path, fs::Permissions::from_mode(SOCKET_MODE))
            .map_err(fail("set its permissions"))?;
        Ok(Self { listener, path: path.to_owned(), flag, file })
    }

    /// Moves it into its place, over the socket that is there.
    ///
    /// # Errors
    /// When something other than a socket is in its place.
    pub fn install(self) -> Result<PrivateSocket, SocketError> {
        let Self { listener, path, flag, mut file } = self;
        match replace(&file.path, &path) {
            Ok(()) => {
                file.path = path;
                Ok(PrivateSocket { listener, file })
            }
            Err(source) => Err(SocketError { path, flag, operation: "move it into place", source }),
        }
    }
}

// === impl PrivateSocket ===

impl PrivateSocket {
    /// [`PreparedSocket::bind`] and [`PreparedSocket::install`] in one.
    ///
    /// # Errors
    /// As theirs.
    pub fn bind(path: &Path, flag: &'static str) -> Result<Self, SocketError> {
        PreparedSocket::bind(path, flag)?.install()
    }

    /// As [`PrivateSocket::bind`], unless somebody answers there.
    ///
    /// # Errors
    /// As its, and when somebody does.
    pub async fn bind_alone(path: &Path, flag: &'static str) -> Result<Self, SocketError> {
        if UnixStream::connect(path).await.is_ok() {
            let source = io::Error::new(io::ErrorKind::AddrInUse, "another process answers there");
            return Err(SocketError { path: path.to_owned(), flag, operation: "bind it", source });
        }
        Self::bind(path, flag)
    }

    /// The listener, and the guard that removes the socket's file when dropped.
    #[must_use]
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }

    /// For an admin API: the connections of peers that may ask, and the guard that removes the socket's file when dropped.
    pub fn into_incoming(self) -> (impl Stream<Item = io::Result<UnixStream>>, SocketFile) {
        let Self { listener, file } = self;
        // Who made the file is who runs the process.
        let own = file.owner;
        let incoming = UnixListenerStream::new(listener).filter(move |accepted| {
            let keep = match accepted {
                Ok(stream) => may_ask(stream, own),
                Err(_) => true,
            };
            std::future::ready(keep)
        });
        (incoming, file)
    }
}

/// Moves the socket at `new` to `path`, over another socket at most.
fn replace(new: &Path, path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is not a socket"))
        }
        _ => fs::rename(new, path),
    }
}

/// Makes the folder, owner-only. One that exists is left as it is: it may hold other things than ours, and the socket
/// and the check of the peer protect themselves.
fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

fn may_ask(stream: &UnixStream, own: u32) -> bool {
    match stream.peer_cred() {
        Ok(peer) if allowed(peer.uid(), own) => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "a user who may not ask the admin API was refused");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a peer of the admin API has no credentials and was refused");
            false
        }
    }
}

/// Root and the process' own user may ask.
fn allowed(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

/// The socket's file; removed when dropped, if it is still ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
    owner: u32,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAG: &str = "--admin-socket";

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[tokio::test]
    async fn folder_and_socket_belong_to_the_owner_only() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("run/admin.sock");
        let _socket = PrivateSocket::bind(&path, FLAG).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }

    #[tokio::test]
    async fn a_socket_left_by_a_dead_process_is_replaced() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).await.is_err());
        let _socket = PrivateSocket::bind_alone(&path, FLAG).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn who_wants_to_be_alone_does_not_replace_a_live_one() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("admin.sock");
        let _live = PrivateSocket::bind(&path, FLAG).unwrap();
        let error = PrivateSocket::bind_alone(&path, FLAG).await.unwrap_err().to_string();
        assert!(error.contains("cannot bind it: another process answers there"), "{error}");
        UnixStream::connect(&path).await.unwrap();
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1, "no temporary name stays");
    }

    #[tokio::test]
    async fn a_newer_process_takes_the_path_over_and_the_older_leaves_it_there() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("admin.sock");
        let older = PrivateSocket::bind(&path, FLAG).unwrap();
        let newer = PrivateSocket::bind(&path, FLAG).unwrap();
        drop(older);
        UnixStream::connect(&path).await.unwrap();
        drop(newer);
        assert!(!path.exists(), "the last one cleans up");
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0, "no temporary name stays");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_not_replaced() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("notes");
        fs::write(&path, "mine").unwrap();
        let error = PrivateSocket::bind(&path, FLAG).unwrap_err().to_string();
        assert!(error.contains("cannot move it into place: what is there is not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1, "no temporary name stays");
    }

    #[test]
    fn only_root_and_the_own_user_may_ask() {
        assert!(allowed(0, 1000) && allowed(1000, 1000) && allowed(0, 0));
        assert!(!allowed(1001, 1000) && !allowed(1000, 0));
    }

    #[tokio::test]
    async fn a_socket_that_is_never_installed_leaves_the_older_one_alone() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("admin.sock");
        let _older = PrivateSocket::bind(&path, FLAG).unwrap();
        drop(PreparedSocket::bind(&path, FLAG).unwrap());
        UnixStream::connect(&path).await.unwrap();
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_had_is_named_with_what_to_do() {
        let top = tempfile::tempdir().unwrap();
        fs::write(top.path().join("file"), "").unwrap();
        let error = PrivateSocket::bind(&top.path().join("file/admin.sock"), FLAG).unwrap_err().to_string();
        assert!(error.contains("file/admin.sock: cannot make its folder"), "{error}");
        assert!(error.ends_with("give another place with --admin-socket"), "{error}");
    }
}
