// SPDX-License-Identifier: Apache-2.0
//! Performs operations: on the maps, or in tests on a fake of them.

use std::{os::fd::AsFd, sync::Arc};

use aya::maps::{HashMap, MapData};
use evenkeel_abi::{Backend, Service, ServiceKey, Slot, maps};

use super::{KernelError, array::SharedArray, bpf, diff::Operation, reconcile::Contents};

/// Where operations go.
pub trait MapSink {
    /// Performs one operation.
    fn apply(&mut self, operation: &Operation) -> Result<(), KernelError>;
    /// Open sockets that are counted on a backend.
    fn load(&self, backend: u32) -> u64;
    /// Everything that is there.
    fn read(&self) -> Result<Contents, KernelError>;
}

/// The pinned maps.
pub struct BpfSink {
    pub(super) services: HashMap<MapData, ServiceKey, Service>,
    pub(super) slots: MapData,
    pub(super) backends: MapData,
    pub(super) loads: Arc<SharedArray>,
}

impl BpfSink {
    fn write<V: aya::Pod>(
        map: &MapData,
        name: &'static str,
        first: u32,
        values: &[V],
    ) -> Result<(), KernelError> {
        bpf::array_write(map.fd().as_fd(), first, values).map_err(|source| KernelError::Bpf {
            operation: "write to",
            object: format!("map {name}"),
            source,
        })
    }
}

impl MapSink for BpfSink {
    fn apply(&mut self, operation: &Operation) -> Result<(), KernelError> {
        match operation {
            Operation::WriteBackend { index, backend } => {
                Self::write(&self.backends, maps::BACKENDS, *index, &[*backend])
            }
            Operation::ClearBackend { index, .. } => {
                Self::write(&self.backends, maps::BACKENDS, *index, &[Backend::default()])
            }
            Operation::WriteSlots { base, slots } => Self::write(&self.slots, maps::SLOTS, *base, slots),
            Operation::SetService { key, service } => {
                self.services.insert(key, service, 0).map_err(KernelError::map("write to", maps::SERVICES))
            }
            Operation::RemoveService { key } => super::maps::absent_is_fine(self.services.remove(key))
                .map_err(KernelError::map("remove from", maps::SERVICES)),
        }
    }

    fn load(&self, backend: u32) -> u64 {
        // Out of range is never free.
        self.loads.get(backend).unwrap_or(1)
    }

    fn read(&self) -> Result<Contents, KernelError> {
        let array = |name: &'static str| {
            move |source| KernelError::Bpf { operation: "read", object: format!("map {name}"), source }
        };
        let services = self.services.iter().collect::<Result<_, _>>();
        let slots: Vec<Slot> =
            bpf::array_read(self.slots.fd().as_fd(), maps::SLOTS_LEN).map_err(array(maps::SLOTS))?;
        Ok(Contents {
            services: services.map_err(KernelError::map("read", maps::SERVICES))?,
            slots,
            backends: bpf::array_read(self.backends.fd().as_fd(), maps::BACKENDS_LEN)
                .map_err(array(maps::BACKENDS))?,
        })
    }
}
