// SPDX-License-Identifier: Apache-2.0
//! The unix socket of the admin API.
//!
//! What must always be true: a folder made here is 0700, the socket is 0600 before its path is known, and a peer that is
//! neither root nor the service's own user is dropped unanswered. A socket that nobody answers on is replaced, one that
//! somebody answers on is not: two services on one machine need two paths.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use futures_util::{Stream, StreamExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;

/// Owner only: the API tells names and addresses of everything in the cluster.
const SOCKET_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The admin socket, in its place.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The admin socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("admin socket {}: cannot {operation}: {source}; give another place with --admin-socket", path.display())]
pub struct SocketError {
    /// Where.
    pub path: PathBuf,
    /// What failed.
    pub operation: &'static str,
    /// What the system said.
    pub source: io::Error,
}

/// The socket's file; removed when dropped, if it is still ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
    owner: u32,
}

// === impl AdminSocket ===

impl AdminSocket {
    /// Binds it under another name and moves it into its place once it is the owner's only.
    ///
    /// # Errors
    /// When the folder or the socket cannot be made, or somebody answers there.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |operation| move |source| SocketError { path: path.to_owned(), operation, source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder)
            .map_err(fail("make its folder"))?;
        if UnixStream::connect(path).await.is_ok() {
            let source = io::Error::new(io::ErrorKind::AddrInUse, "another process answers there");
            return Err(fail("bind it")(source));
        }
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        // Left by a process of the same number that was killed between the next lines.
        fs::remove_file(&draft).ok();
        let listener = UnixListener::bind(&draft).map_err(fail("bind it"))?;
        let metadata = fs::symlink_metadata(&draft).map_err(fail("read its metadata"))?;
        let mut file = SocketFile { path: draft, inode: metadata.ino(), owner: metadata.uid() };
        fs::set_permissions(&file.path, fs::Permissions::from_mode(SOCKET_MODE))
            .map_err(fail("set its permissions"))?;
        fs::rename(&file.path, path).map_err(fail("move it into place"))?;
        path.clone_into(&mut file.path);
        Ok(Self { listener, file })
    }

    /// The connections of peers that may ask, and the guard that removes the socket's file when dropped.
    pub(super) fn into_incoming(self) -> (impl Stream<Item = io::Result<UnixStream>>, SocketFile) {
        let Self { listener, file } = self;
        // Who made the file is who runs the service.
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

/// Root and the service's own user may ask.
fn allowed(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[tokio::test]
    async fn folder_and_socket_belong_to_the_owner_only_and_the_socket_goes_with_its_service() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("run/discovery.sock");
        let socket = AdminSocket::bind(&path).await.unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        drop(socket);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_socket_left_by_a_dead_service_is_replaced_and_that_of_a_live_one_is_not() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("discovery.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _live = AdminSocket::bind(&path).await.unwrap();
        let error = AdminSocket::bind(&path).await.unwrap_err().to_string();
        assert!(error.contains("cannot bind it: another process answers there"), "{error}");
        assert!(error.ends_with("give another place with --admin-socket"), "{error}");
        UnixStream::connect(&path).await.unwrap();
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1, "no temporary name stays");
    }

    #[test]
    fn only_root_and_the_own_user_may_ask() {
        assert!(allowed(0, 1000) && allowed(1000, 1000) && allowed(0, 0));
        assert!(!allowed(1001, 1000) && !allowed(1000, 0));
    }
}
