// SPDX-License-Identifier: Apache-2.0
//! An admin server on a socket of its own, on a thread of its own; and the binary that asks it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    thread::JoinHandle,
};

use evenkeel_agent::admin::{self, Facts};
use evenkeel_console::socket::PrivateSocket;
use tokio_util::sync::CancellationToken;

pub(crate) struct Server {
    folder: tempfile::TempDir,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(facts: Arc<dyn Facts>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (bound, is_bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = PrivateSocket::bind(&socket, "--admin-socket").unwrap();
                bound.send(()).unwrap();
                admin::serve(socket, facts, stopped).await.unwrap();
            });
        });
        is_bound.recv().unwrap();
        Self { folder, stop, thread: Some(thread) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Runs `evenkeel` with these arguments against this server.
    pub(crate) fn evenkeel(&self, args: &[&str]) -> Output {
        evenkeel_at(&self.socket(), args)
    }

    /// Its standard output, which must be a success.
    pub(crate) fn answer(&self, args: &[&str]) -> String {
        let output = self.evenkeel(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub(crate) fn evenkeel_at(socket: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(args)
        .env("EVENKEEL_ADMIN_SOCKET", socket)
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Compares with a file in `golden/`.
pub(crate) fn golden(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli_admin/golden").join(file);
    if std::env::var_os("EVENKEEL_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == actual, "{} differs (EVENKEEL_BLESS=1 writes it anew); now:\n{actual}", path.display());
}
