// SPDX-License-Identifier: Apache-2.0
//! Who may write the services' maps: the agent whose generation is in `CONTROL`, one write at a time.
//!
//! While two agents overlap, the older may be in the middle of a publication when the newer claims. A lock on the pins'
//! folder, which both see, makes the newer wait for its end, and the older find that it is superseded. The kernel drops
//! the lock of an agent that dies. One that hangs with it loses it to the claim after [`PATIENCE`].

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aya::maps::{Array, MapData};
use evenkeel_abi::{Control, maps};
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;

use super::KernelError;

/// How long the lock of another agent is waited for. A publication takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// The `CONTROL` array.
#[derive(Clone)]
pub(super) struct ControlArray {
    map: Arc<Mutex<Array<MapData, u64>>>,
}

impl ControlArray {
    pub(super) fn new(map: aya::maps::Map) -> Result<Self, KernelError> {
        let map = map.try_into().map_err(KernelError::map("open", maps::CONTROL))?;
        Ok(Self { map: Arc::new(Mutex::new(map)) })
    }

    pub(super) fn get(&self, which: Control) -> Result<u64, KernelError> {
        self.map.lock().get(&(which as u32), 0).map_err(KernelError::map("read", maps::CONTROL))
    }

    pub(super) fn set(&self, which: Control, value: u64) -> Result<(), KernelError> {
        self.map.lock().set(which as u32, value, 0).map_err(KernelError::map("write to", maps::CONTROL))
    }
}

/// Shared by the heartbeat, which claims, and the writer, which asks.
#[derive(Clone)]
pub struct Ownership {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    control: ControlArray,
    pins: File,
    path: std::path::PathBuf,
    /// Our generation; zero before the first claim.
    generation: AtomicU64,
}

/// Held while maps are written.
pub(super) struct Writing {
    _lock: Option<Flock<File>>,
}

impl Ownership {
    /// The ownership of the maps in `pins`.
    pub(super) fn new(control: ControlArray, pins: &Path) -> Result<Self, KernelError> {
        let file = File::open(pins).map_err(|source| KernelError::File {
            operation: "open the pins' folder",
            path: pins.to_owned(),
            source,
        })?;
        let inner = Inner { control, pins: file, path: pins.to_owned(), generation: AtomicU64::new(0) };
        Ok(Self { inner: Some(Arc::new(inner)) })
    }

    /// For a sink that nobody else can write to.
    #[must_use]
    pub const fn undisputed() -> Self {
        Self { inner: None }
    }

    /// Our generation; zero before the first claim.
    pub(super) fn generation(&self) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.generation.load(Ordering::Acquire))
    }

    /// Begins to write; `None` when the maps are not ours.
    pub(super) fn enter(&self) -> Result<Option<Writing>, KernelError> {
        let Some(inner) = &self.inner else { return Ok(Some(Writing { _lock: None })) };
        let ours = inner.generation.load(Ordering::Acquire);
        if ours == 0 || inner.control.get(Control::Generation)? != ours {
            return Ok(None);
        }
        let lock = inner.lock()?;
        // Again, now that nobody can be claiming.
        let ours = inner.control.get(Control::Generation)? == ours;
        Ok(ours.then_some(Writing { _lock: lock }))
    }

    /// Makes `generation` the owner, once nobody is writing. `write` does the rest of the claim.
    pub(super) fn claim(
        &self,
        generation: u64,
        write: impl FnOnce(&ControlArray) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let Some(inner) = &self.inner else { return Ok(()) };
        let _lock = inner.lock()?;
        inner.control.set(Control::Generation, generation)?;
        inner.generation.store(generation, Ordering::Release);
        write(&inner.control)
    }
}

impl Inner {
    /// `None` when its holder hangs: then the claim is what counts.
    fn lock(&self) -> Result<Option<Flock<File>>, KernelError> {
        let failed = |source| KernelError::File {
            operation: "lock the pins' folder",
            path: self.path.clone(),
            source,
        };
        // A descriptor of our own would share the lock with its clones; a new one does not.
        let mut file = File::open(&self.path).or_else(|_| self.pins.try_clone()).map_err(failed)?;
        let until = Instant::now() + PATIENCE;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Some(lock)),
                Err((file, nix::errno::Errno::EWOULDBLOCK)) => file,
                Err((_, error)) => return Err(failed(error.into())),
            };
            if Instant::now() >= until {
                tracing::warn!(path = %self.path.display(), "another agent hangs while it writes the maps");
                return Ok(None);
            }
            std::thread::sleep(BETWEEN_TRIES);
        }
    }
}
