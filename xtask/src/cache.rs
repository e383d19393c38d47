// SPDX-License-Identifier: Apache-2.0
//! What is fetched or built once and kept for every clone on this machine: `$XDG_CACHE_HOME/evenkeel`.
//!
//! An entry is a folder `NAME-VERSION`. It is made in a temporary folder beside it and renamed, so that an entry
//! that exists is complete, whatever was interrupted. One lock file lets several clones set up at the same time.
//! There is no expiry: old versions are small in number, and the whole folder may be deleted at any time.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::progress;

/// Prefix of unfinished entries. Whoever holds the lock may delete them.
const UNFINISHED: &str = ".unfinished-";

/// The folder that holds all entries.
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this user. Makes the folder if need be.
    pub(crate) fn open() -> Result<Self> {
        let root = location(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
            .context("cannot tell where to keep tools: set XDG_CACHE_HOME or HOME to an absolute path")?;
        Self::at(root)
    }

    fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root)
            .with_context(|| format!("cannot make the cache folder {}", root.display()))?;
        Ok(Self { root })
    }

    /// Where the entry is or would be.
    fn path(&self, name: &str, version: &str) -> PathBuf {
        self.root.join(format!("{name}-{version}"))
    }

    /// Where the output of long steps goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("setup.log")
    }

    /// The newest complete entry `name-*` and its version, if any.
    pub(crate) fn newest(&self, name: &str) -> Option<(String, PathBuf)> {
        let prefix = format!("{name}-");
        fs::read_dir(&self.root)
            .ok()?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let version = entry.file_name().to_str()?.strip_prefix(&prefix)?.to_owned();
                Some((version, entry.path()))
            })
            .max_by_key(|(version, _)| version_order(version))
    }

    /// Returns the entry, made by `make` in the folder that it is given if it is not there yet.
    pub(crate) fn entry(
        &self,
        name: &str,
        version: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.path(name, version);
        if path.is_dir() {
            return Ok(path);
        }
        let _lock = self.lock("lock")?;
        if path.is_dir() {
            return Ok(path); // Another clone made it while this one waited.
        }
        self.sweep()?;
        let unfinished = Unfinished(self.root.join(format!("{UNFINISHED}{name}-{version}")));
        fs::create_dir(&unfinished.0)?;
        make(&unfinished.0)?;
        fs::rename(&unfinished.0, &path).with_context(|| format!("cannot install {}", path.display()))?;
        Ok(path)
    }

    /// Waits until no other clone does what `name` stands for. The lock goes with the file, also when the process
    /// is killed. Not reentrant.
    pub(crate) fn lock(&self, name: &str) -> Result<File> {
        let path = self.root.join(name);
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        if file.try_lock().is_err() {
            progress::say("setup", "another clone is setting up: waiting for it");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }

    /// Deletes what interrupted runs left. Only with the lock held.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// The cache folder by the XDG base directory rules: relative values are ignored.
fn location(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(xdg_cache_home)
        .or_else(|| absolute(home).map(|home| home.join(".cache")))
        .map(|cache| cache.join("evenkeel"))
}

/// Orders versions by the numbers in them, so that 1.100 is newer than 1.96.
pub(crate) fn version_order(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// A folder that is deleted unless it was renamed away.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.0.exists() && fs::remove_dir_all(&self.0).is_err() {
            progress::say("setup", format!("cannot delete {}", self.0.display()));
        }
    }
}

#[cfg(test)]
mod unit {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anyhow::bail;

    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("evenkeel")).unwrap();
        (dir, cache)
    }

    #[test]
    fn the_folder_follows_the_xdg_rules() {
        let at = |xdg: Option<&str>, home: Option<&str>| location(xdg.map(Into::into), home.map(Into::into));
        assert_eq!(at(Some("/c"), Some("/home/u")), Some("/c/evenkeel".into()));
        assert_eq!(at(None, Some("/home/u")), Some("/home/u/.cache/evenkeel".into()));
        assert_eq!(at(Some("relative"), Some("/home/u")), Some("/home/u/.cache/evenkeel".into()));
        assert_eq!(at(Some(""), None), None);
    }

    #[test]
    fn versions_have_entries_of_their_own_and_the_newest_is_found() {
        let (_dir, cache) = cache();
        for version in ["1.96.0-2", "1.100.0-1", "1.9.0-7"] {
            cache.entry("tool", version, |_| Ok(())).unwrap();
        }
        cache.entry("tool2", "9", |_| Ok(())).unwrap();
        assert_eq!(cache.newest("tool"), Some(("1.100.0-1".into(), cache.path("tool", "1.100.0-1"))));
        assert_eq!(cache.newest("absent"), None);
    }

    #[test]
    fn an_entry_is_made_once_and_then_found() {
        let (_dir, cache) = cache();
        let make = |folder: &Path| Ok(fs::write(folder.join("file"), "made")?);
        let path = cache.entry("tool", "1", make).unwrap();
        let again = cache.entry("tool", "1", |_| bail!("made twice")).unwrap();
        assert_eq!(path, again);
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "made");
    }

    #[test]
    fn a_failure_leaves_no_entry_and_no_rubbish() {
        let (_dir, cache) = cache();
        let failed = cache.entry("tool", "1", |folder| {
            fs::write(folder.join("half"), "")?;
            bail!("no network")
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(&cache.root).unwrap().count(), 1, "only the lock file is left");
    }

    #[test]
    fn what_a_killed_run_left_is_swept() {
        let (_dir, cache) = cache();
        let rubbish = cache.root.join(format!("{UNFINISHED}tool-1"));
        fs::create_dir(&rubbish).unwrap();
        fs::write(rubbish.join("half"), "").unwrap();
        let path = cache.entry("tool", "1", |folder| Ok(fs::write(folder.join("whole"), "")?)).unwrap();
        assert!(!rubbish.exists() && path.join("whole").exists() && !path.join("half").exists());
    }

    #[test]
    fn clones_that_set_up_at_the_same_time_make_an_entry_once() {
        let (_dir, cache) = cache();
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let make = |_: &Path| {
                        made.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    };
                    cache.entry("tool", "1", make).unwrap();
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }
}
