// SPDX-License-Identifier: Apache-2.0
//! A fake of the maps for tests: it refuses what the programs could trip over, at every single operation.

use std::{cell::RefCell, collections::BTreeMap, io, rc::Rc};

use evenkeel_abi::{Backend, Service, ServiceKey, Slot};

use super::{
    KernelError,
    apply::MapSink,
    diff::{Capacity, Operation},
    image::{Image, ServiceImage, Weighted},
    reconcile::Contents,
};

/// What the fake holds; shared with the test.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeMaps {
    /// `SERVICES`.
    pub(crate) services: BTreeMap<ServiceKey, Service>,
    /// `SLOTS`.
    pub(crate) slots: Vec<Slot>,
    /// `BACKENDS`.
    pub(crate) backends: Vec<Backend>,
    /// `LOADS`.
    pub(crate) loads: Vec<u64>,
    /// Operations performed.
    pub(crate) performed: Vec<Operation>,
    /// Fail the operation after so many.
    pub(crate) fail_after: Option<usize>,
    /// For each port, the tables it may have at this moment. Checked after each operation when not empty.
    pub(crate) allowed: BTreeMap<ServiceKey, Vec<ServiceImage>>,
}

impl FakeMaps {
    /// The table in force for a port, resolved as the programs would resolve it. `Err` says what dangles.
    pub(crate) fn resolve(&self, key: &ServiceKey) -> Result<Option<ServiceImage>, String> {
        let Some(entry) = self.services.get(key) else { return Ok(None) };
        let range = entry.slot_base as usize..(entry.slot_base + entry.slot_count) as usize;
        let slots = self.slots.get(range).ok_or_else(|| format!("{key:?}: slots {entry:?} are not there"))?;
        let place = |index: u32| match self.backends.get(index as usize) {
            Some(backend) if !backend.address.is_none() => Ok(*backend),
            _ => Err(format!("{key:?}: backend {index} is not there")),
        };
        let mut endpoints = Vec::new();
        for slot in slots {
            endpoints.push(Weighted { backend: place(slot.backend)?, weight: slot.weight });
            place(slot.alias)?;
        }
        Ok(Some(ServiceImage::new(entry.flags, endpoints)))
    }

    /// Everything resolved.
    pub(crate) fn image(&self) -> Result<Image, String> {
        let mut image = Image::default();
        for key in self.services.keys() {
            image.services.extend(self.resolve(key)?.map(|service| (*key, service)));
        }
        Ok(image)
    }

    fn check(&self) {
        for (key, allowed) in &self.allowed {
            match self.resolve(key) {
                Ok(Some(now)) => assert!(allowed.contains(&now), "{key:?} is neither old nor new: {now:?}"),
                Ok(None) => {}
                Err(dangling) => panic!("{dangling}"),
            }
        }
    }
}

/// A sink on [`FakeMaps`].
#[derive(Clone, Debug)]
pub(crate) struct FakeSink {
    /// The maps.
    pub(crate) maps: Rc<RefCell<FakeMaps>>,
}

impl FakeSink {
    /// Empty maps of a size.
    #[must_use]
    pub(crate) fn new(capacity: Capacity) -> Self {
        let maps = FakeMaps {
            slots: vec![Slot::default(); capacity.slots as usize],
            backends: vec![Backend::default(); capacity.backends as usize],
            loads: vec![0; capacity.backends as usize],
            ..FakeMaps::default()
        };
        Self { maps: Rc::new(RefCell::new(maps)) }
    }
}

impl MapSink for FakeSink {
    fn apply(&mut self, operation: &Operation) -> Result<(), KernelError> {
        let mut maps = self.maps.borrow_mut();
        if let Some(left) = maps.fail_after.as_mut() {
            if *left == 0 {
                return Err(KernelError::Bpf {
                    operation: "write to",
                    object: "a fake map".to_owned(),
                    source: io::Error::other("as the test asked"),
                });
            }
            *left -= 1;
        }
        match operation {
            Operation::WriteBackend { index, backend } => maps.backends[*index as usize] = *backend,
            Operation::ClearBackend { index, .. } => {
                assert_eq!(maps.loads[*index as usize], 0, "a backend with open sockets was freed");
                maps.backends[*index as usize] = Backend::default();
            }
            Operation::WriteSlots { base, slots } => {
                let range = *base as usize..*base as usize + slots.len();
                maps.slots[range].copy_from_slice(slots);
            }
            Operation::SetService { key, service } => {
                maps.services.insert(*key, *service);
            }
            Operation::RemoveService { key } => {
                maps.services.remove(key);
            }
        }
        maps.performed.push(operation.clone());
        maps.check();
        Ok(())
    }

    fn load(&self, backend: u32) -> u64 {
        self.maps.borrow().loads[backend as usize]
    }

    fn read(&self) -> Result<Contents, KernelError> {
        let maps = self.maps.borrow();
        Ok(Contents {
            services: maps.services.iter().map(|(key, service)| (*key, *service)).collect(),
            slots: maps.slots.clone(),
            backends: maps.backends.clone(),
        })
    }
}
