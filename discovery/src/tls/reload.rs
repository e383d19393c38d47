// SPDX-License-Identifier: Apache-2.0
//! Renews the TLS configuration when its files change.
//!
//! The files' directories are watched, not the files: a tool that renames a new file into place, and the kubelet, which
//! swaps the link `..data` of a mounted Secret, both replace what a watch on a file would go on looking at. Since a watch
//! can be refused, lost, or left behind by a directory that is replaced, the files are also read every [`RECHECK`].
//!
//! What must always be true: the configuration in force is the newest that could be used. A certificate that is not valid
//! now never replaces one that is. Each bad content is told once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustls::ServerConfig;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Pem, TlsError, Validity};
use crate::config::TlsFiles;
use crate::metrics::TransportMetrics;

/// How often the files are read though nothing was heard of them.
const RECHECK: Duration = Duration::from_secs(60);
/// How long to wait after an event: the certificate and its key are two files, and a tool writes one after the other.
const SETTLE: Duration = Duration::from_millis(100);

/// The configuration in force, and what renews it.
pub struct Reloader {
    files: TlsFiles,
    /// The last content that was tried.
    tried: Pem,
    validity: Validity,
    expired: bool,
    config: watch::Sender<Arc<ServerConfig>>,
    metrics: TransportMetrics,
}

// === impl Reloader ===

impl Reloader {
    /// Reads the files for the first time. A certificate that is not valid now is taken, with an error in the log: what
    /// renews it may come later than this process.
    ///
    /// # Errors
    /// [`TlsError`]: which file cannot be used, and why.
    pub fn open(files: TlsFiles, metrics: TransportMetrics) -> Result<Self, TlsError> {
        let tried = Pem::read(&files)?;
        let loaded = tried.load(&files)?;
        let (config, _) = watch::channel(loaded.config);
        let mut reloader = Self { files, tried, validity: loaded.validity, expired: false, config, metrics };
        reloader.tell(unix_now());
        Ok(reloader)
    }

    /// What handshakes use: whatever is in force at that moment.
    pub fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// Renews until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let changed = Arc::new(Notify::new());
        // Dropping it ends the watches.
        let _watcher = watch_files(&self.files, &changed);
        let renew = async {
            loop {
                if tokio::time::timeout(RECHECK, changed.notified()).await.is_ok() {
                    tokio::time::sleep(SETTLE).await;
                }
                self = match tokio::task::spawn_blocking(move || self.renewed()).await {
                    Ok(reloader) => reloader,
                    Err(panic) => return tracing::error!(%panic, "TLS files are not read any more"),
                };
            }
        };
        shutdown.run_until_cancelled(renew).await;
    }

    fn renewed(mut self) -> Self {
        self.renew(unix_now());
        self
    }

    fn renew(&mut self, now: i64) {
        let pem = match Pem::read(&self.files) {
            Ok(pem) => pem,
            // Not remembered: a file that is away for a moment comes back with the content that was tried.
            Err(error) => return self.refuse(&error.to_string()),
        };
        if pem != self.tried {
            self.tried = pem;
            match self.tried.load(&self.files) {
                Err(error) => self.refuse(&error.to_string()),
                Ok(new) if !new.validity.may_replace(self.validity, now) => {
                    let file = self.files.cert.display();
                    self.refuse(&format!("--tls-cert {file}: the new certificate is not valid now"));
                }
                Ok(new) => {
                    self.validity = new.validity;
                    self.config.send_replace(new.config);
                    self.metrics.tls_reload(true);
                    self.expired = false;
                    tracing::info!(
                        not_after = new.validity.not_after,
                        "TLS files read again; new handshakes use them"
                    );
                }
            }
        }
        self.tell(now);
    }

    fn refuse(&self, reason: &str) {
        self.metrics.tls_reload(false);
        tracing::error!(reason, "the TLS files have changed and cannot be used; what was in force stays");
    }

    /// Says once that the certificate in force is not valid.
    fn tell(&mut self, now: i64) {
        self.metrics.tls_not_after.set(self.validity.not_after);
        let expired = !self.validity.holds(now);
        if expired && !self.expired {
            let file = self.files.cert.display();
            tracing::error!(
                not_after = self.validity.not_after,
                "--tls-cert {file} is not valid now: clients will refuse it"
            );
        }
        self.expired = expired;
    }
}

/// `None`, with a warning, if nothing can be watched: the files are then only read every [`RECHECK`].
fn watch_files(files: &TlsFiles, changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let told = changed.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        // An error is a reason to look, too.
        if event.map_or(true, |event| matters(event.kind)) {
            told.notify_one();
        }
    };
    let slow = |error: &notify::Error| {
        tracing::warn!(%error, "cannot watch the TLS files; they are read every {} s instead", RECHECK.as_secs());
    };
    let mut watcher = notify::recommended_watcher(handler).inspect_err(slow).ok()?;
    let TlsFiles { cert, key, client_ca } = files;
    let paths = [Some(cert), Some(key), client_ca.as_ref()];
    let mut directories: Vec<&Path> = paths.into_iter().flatten().map(|path| directory(path)).collect();
    directories.sort();
    directories.dedup();
    for directory in directories {
        watcher.watch(directory, RecursiveMode::NonRecursive).inspect_err(slow).ok()?;
    }
    Some(watcher)
}

fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Our own reading makes events, too; reacting to those would never end.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(_)
        | EventKind::Any
        | EventKind::Other => true,
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
