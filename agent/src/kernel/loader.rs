// SPDX-License-Identifier: Apache-2.0
//! Loads the embedded object, over the maps that are pinned or over new ones.
//!
//! Always true: pinned maps are looked at before anything is loaded, and if their shape or their ABI version is not ours
//! nothing is changed. What a fresh load has pinned is taken away again when it fails.
//!
//! Pinned are the maps that must survive the agent. [`UNPINNED`] ones belong to one agent each: a ring buffer has one
//! reader, and the programs write to that of the agent that loaded them last.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, MapInfo},
};
use evenkeel_abi::{ABI_VERSION, Control, maps};

use super::{KernelError, attach, bpf};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/evenkeel.o"));

/// The maps that are pinned, under their own names.
pub(super) const PINNED: [&str; 10] = [
    maps::SERVICES,
    maps::SLOTS,
    maps::BACKENDS,
    maps::LOADS,
    maps::CONTROL,
    maps::COUNTERS,
    maps::LISTENERS,
    maps::PODS,
    maps::ORIGINS,
    maps::SOCKETS,
];

/// The maps that are not: see the module.
#[cfg(test)]
pub(super) const UNPINNED: [&str; 3] = [maps::REPORTED, maps::EVENTS, maps::PROCESS];

/// A loaded object.
pub(super) struct Loaded {
    /// Programs and maps.
    pub(super) object: Ebpf,
    /// Whether the maps were there already.
    pub(super) adopted: bool,
}

/// Loads the object with its maps in `pins`. Programs are not loaded into the kernel yet, see [`attach`].
pub(super) fn load(pins: &Path) -> Result<Loaded, KernelError> {
    load_object(OBJECT, pins)
}

fn load_object(bytes: &[u8], pins: &Path) -> Result<Loaded, KernelError> {
    if bytes.is_empty() {
        return Err(KernelError::NoObject);
    }
    let adopted = verify(bytes, pins)?;
    fs::create_dir_all(pins).map_err(|source| KernelError::File {
        operation: "create the pins' folder",
        path: pins.to_owned(),
        source,
    })?;
    let mut loader = EbpfLoader::new();
    for map in PINNED {
        loader.map_pin_path(map, pins.join(map));
    }
    let fresh = loader.load(bytes).map_err(|source| KernelError::Load { source }).and_then(|mut object| {
        set_version(&mut object)?;
        Ok(object)
    });
    match fresh {
        Ok(object) => Ok(Loaded { object, adopted }),
        Err(error) => {
            if !adopted {
                // Nothing is attached that could use them.
                let _ = attach::detach(pins);
            }
            Err(error)
        }
    }
}

/// Compares what is pinned with what the object declares. Whether anything of an earlier agent is there.
fn verify(bytes: &[u8], pins: &Path) -> Result<bool, KernelError> {
    let object =
        aya_obj::Object::parse(bytes).map_err(|error| KernelError::Object { reason: error.to_string() })?;
    let mut found = false;
    for name in PINNED {
        let declared = object.maps.get(name).ok_or(KernelError::Lacks { what: "map", name })?;
        let path = pins.join(name);
        if !path.exists() {
            continue;
        }
        let data = MapData::from_pin(&path).map_err(KernelError::map("open pinned", name))?;
        let info = data.info().map_err(KernelError::map("inspect pinned", name))?;
        same_shape(name, declared, &info, pins)?;
        if name == maps::CONTROL {
            let pinned = version_in(data)?;
            // Zero: an agent died between making the map and writing the number.
            if pinned != ABI_VERSION && pinned != 0 {
                return Err(KernelError::Abi { pinned, wanted: ABI_VERSION, pins: pins.to_owned() });
            }
            found = pinned != 0;
        }
    }
    Ok(found)
}

fn version_in(control: MapData) -> Result<u64, KernelError> {
    let control: Array<_, u64> =
        Map::Array(control).try_into().map_err(KernelError::map("read pinned", maps::CONTROL))?;
    control.get(&(Control::AbiVersion as u32), 0).map_err(KernelError::map("read pinned", maps::CONTROL))
}

fn same_shape(name: &str, declared: &aya_obj::Map, info: &MapInfo, pins: &Path) -> Result<(), KernelError> {
    let kind = info.map_type().map_or(u64::MAX, |kind| kind as u64);
    let pairs = [
        ("type", kind, u64::from(declared.map_type())),
        ("key size", u64::from(info.key_size()), u64::from(declared.key_size())),
        ("value size", u64::from(info.value_size()), u64::from(declared.value_size())),
        ("max_entries", u64::from(info.max_entries()), u64::from(declared.max_entries())),
        ("flags", u64::from(info.map_flags()), u64::from(declared.map_flags())),
    ];
    match pairs.into_iter().find(|(_, pinned, wanted)| pinned != wanted) {
        None => Ok(()),
        Some((field, pinned, wanted)) => {
            Err(KernelError::Shape { map: name.to_owned(), field, pinned, wanted, pins: pins.to_owned() })
        }
    }
}

/// Writes the ABI version into maps that are new.
fn set_version(object: &mut Ebpf) -> Result<(), KernelError> {
    let map = object.map_mut(maps::CONTROL).ok_or(KernelError::Lacks { what: "map", name: maps::CONTROL })?;
    let mut control: Array<_, u64> = map.try_into().map_err(KernelError::map("open", maps::CONTROL))?;
    control
        .set(Control::AbiVersion as u32, ABI_VERSION, 0)
        .map_err(KernelError::map("write the ABI version to", maps::CONTROL))
}

/// Removes the pins of the maps. Absent ones are fine.
pub(super) fn unpin_maps(pins: &Path) -> Result<Vec<String>, KernelError> {
    let mut removed = Vec::new();
    for name in PINNED {
        if remove(pins.join(name))? {
            removed.push(name.to_owned());
        }
    }
    Ok(removed)
}

/// Removes a pin; `false` when there was none.
pub(super) fn remove(path: PathBuf) -> Result<bool, KernelError> {
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(KernelError::File { operation: "remove pin", path, source }),
    }
}

/// Opens a pin; `None` when there is none.
pub(super) fn open(path: &Path) -> Result<Option<std::os::fd::OwnedFd>, KernelError> {
    match bpf::open_pin(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            Err(KernelError::Bpf { operation: "open pin", object: path.display().to_string(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_without_its_programs_says_how_to_build_it() {
        let error = load_object(&[], Path::new("/nowhere")).err().unwrap();
        assert!(matches!(error, KernelError::NoObject));
        assert!(error.to_string().contains("cargo xtask build"), "{error}");
    }

    #[test]
    fn a_damaged_object_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let error = load_object(b"not an object", &dir.path().join("pins")).err().unwrap();
        assert!(matches!(error, KernelError::Object { .. }));
        assert!(!dir.path().join("pins").exists());
    }

    #[test]
    fn pinned_and_unpinned_maps_are_disjoint() {
        assert!(PINNED.iter().all(|name| !UNPINNED.contains(name)));
    }
}
