// SPDX-License-Identifier: Apache-2.0
//! What the programs counted, summed over the CPUs.

use std::sync::Arc;

use aya::maps::{Map, MapData, PerCpuArray};
use evenkeel_abi::{Counter, maps};

use super::KernelError;

/// Reads the counters. Cheap to clone.
#[derive(Clone)]
pub struct Counters {
    map: Arc<PerCpuArray<MapData, u64>>,
}

impl Counters {
    pub(super) fn new(map: Map) -> Result<Self, KernelError> {
        let map = map.try_into().map_err(KernelError::map("open", maps::COUNTERS))?;
        Ok(Self { map: Arc::new(map) })
    }

    /// Every counter with its name and its sum. They only grow while the maps stay pinned.
    pub fn read(&self) -> Result<Vec<(Counter, &'static str, u64)>, KernelError> {
        Counter::ALL
            .into_iter()
            .map(|(counter, name)| {
                let cpus =
                    self.map.get(&(counter as u32), 0).map_err(KernelError::map("read", maps::COUNTERS))?;
                Ok((counter, name, cpus.iter().sum()))
            })
            .collect()
    }
}
