// SPDX-License-Identifier: Apache-2.0
//! Handles on the maps that the pods and the proxy use. Each is cheap to clone and may be used from any thread.

use std::{
    collections::HashMap as Std,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
};

use aya::maps::{HashMap, Map, MapData, MapError, SockHash};
use evenkeel_abi::{
    Address, Backend, FAMILY_V4, FAMILY_V6, ListenerKey, Origin, OriginKey, PodAddresses, maps,
};
use parking_lot::{Mutex, RwLock};

use super::{KernelError, array::SharedArray};

/// IP version of a listener and of what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4, also IPv4-mapped.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As the ABI counts it.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V4 => FAMILY_V4,
            Self::V6 => FAMILY_V6,
        }
    }
}

/// The key of the record that `sockops` wrote for a connection which the proxy accepted from `peer` in a namespace.
#[must_use]
pub fn origin_key(netns_cookie: u64, peer: SocketAddr) -> OriginKey {
    let address = Address::from(peer.ip());
    let family = if address.is_v4() { FAMILY_V4 } else { FAMILY_V6 };
    OriginKey { netns_cookie, address, port: u32::from(peer.port()), family }
}

/// Where handed-over connections wanted to go.
#[derive(Clone)]
pub struct Origins {
    map: Arc<HashMap<MapData, OriginKey, Origin>>,
}

impl Origins {
    pub(super) fn new(map: Map) -> Result<Self, KernelError> {
        let map = map.try_into().map_err(KernelError::map("open", maps::ORIGINS))?;
        Ok(Self { map: Arc::new(map) })
    }

    /// The record of a connection, see [`origin_key`]. `None`: nobody redirected it here.
    #[must_use]
    pub fn get(&self, key: &OriginKey) -> Option<Origin> {
        self.map.get(key, 0).ok()
    }
}

/// The listeners that connects are handed to.
#[derive(Clone)]
pub struct Listeners {
    map: Arc<Mutex<SockHash<MapData, ListenerKey>>>,
}

impl Listeners {
    pub(super) fn new(map: Map) -> Result<Self, KernelError> {
        let map = map.try_into().map_err(KernelError::map("open", maps::LISTENERS))?;
        Ok(Self { map: Arc::new(Mutex::new(map)) })
    }

    /// Puts a listening socket in, in place of any other. The entry goes by itself when the socket closes.
    pub fn insert(&self, netns_cookie: u64, family: Family, socket: &impl AsFd) -> Result<(), KernelError> {
        let key = ListenerKey::new(netns_cookie, family.number());
        self.map
            .lock()
            .insert(key, socket.as_fd().as_raw_fd(), 0)
            .map_err(KernelError::map("add a listener to", maps::LISTENERS))
    }

    /// Takes a listener out. Absent is fine.
    pub fn remove(&self, netns_cookie: u64, family: Family) -> Result<(), KernelError> {
        let key = ListenerKey::new(netns_cookie, family.number());
        absent_is_fine(self.map.lock().remove(&key))
            .map_err(KernelError::map("remove a listener from", maps::LISTENERS))
    }

    /// Keys of all entries.
    pub fn list(&self) -> Result<Vec<ListenerKey>, KernelError> {
        let map = self.map.lock();
        map.keys().collect::<Result<_, _>>().map_err(KernelError::map("list", maps::LISTENERS))
    }
}

/// The addresses of the pods, by namespace cookie.
#[derive(Clone)]
pub struct Pods {
    map: Arc<Mutex<HashMap<MapData, u64, PodAddresses>>>,
}

impl Pods {
    pub(super) fn new(map: Map) -> Result<Self, KernelError> {
        let map = map.try_into().map_err(KernelError::map("open", maps::PODS))?;
        Ok(Self { map: Arc::new(Mutex::new(map)) })
    }

    /// Says which addresses a namespace has and which generation of the agent looks after it.
    pub fn insert(
        &self,
        netns_cookie: u64,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
        generation: u64,
    ) -> Result<(), KernelError> {
        let entry = PodAddresses {
            v4: v4.map_or(Address::NONE, |ip| IpAddr::from(ip).into()),
            v6: v6.map_or(Address::NONE, |ip| IpAddr::from(ip).into()),
            generation,
        };
        self.map.lock().insert(netns_cookie, entry, 0).map_err(KernelError::map("add a pod to", maps::PODS))
    }

    /// The entry of a namespace.
    #[must_use]
    pub fn get(&self, netns_cookie: u64) -> Option<PodAddresses> {
        self.map.lock().get(&netns_cookie, 0).ok()
    }

    /// Forgets a namespace. Absent is fine.
    pub fn remove(&self, netns_cookie: u64) -> Result<(), KernelError> {
        absent_is_fine(self.map.lock().remove(&netns_cookie))
            .map_err(KernelError::map("remove a pod from", maps::PODS))
    }

    /// All entries.
    pub fn list(&self) -> Result<Vec<(u64, PodAddresses)>, KernelError> {
        let map = self.map.lock();
        // An entry that goes while the list is read is skipped by a restart of the walk; that is the kernel's rule.
        map.iter().collect::<Result<_, _>>().map_err(KernelError::map("list", maps::PODS))
    }
}

pub(super) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// Open sockets per backend, as counted by the programs.
#[derive(Clone)]
pub struct Loads {
    array: Arc<SharedArray>,
    /// Kept by the writer.
    index: Arc<RwLock<Std<Backend, u32>>>,
}

impl Loads {
    pub(super) fn new(array: Arc<SharedArray>, index: Arc<RwLock<Std<Backend, u32>>>) -> Self {
        Self { array, index }
    }

    /// Open sockets that were balanced to an address in the kernel. `None`: not a backend.
    #[must_use]
    pub fn get(&self, address: SocketAddr, protocol: u8) -> Option<u64> {
        let index = *self.index.read().get(&backend(address, protocol))?;
        self.array.get(index)
    }

    /// Every backend with its open sockets.
    #[must_use]
    pub fn all(&self) -> Vec<(SocketAddr, u8, u64)> {
        let index = self.index.read();
        index
            .iter()
            .filter_map(|(b, i)| {
                let address = SocketAddr::new(b.address.into(), u16::from_be(b.port_be));
                Some((address, b.protocol, self.array.get(*i)?))
            })
            .collect()
    }
}

/// A backend from an address.
#[must_use]
pub fn backend(address: SocketAddr, protocol: u8) -> Backend {
    Backend { address: address.ip().into(), port_be: address.port().to_be(), protocol, reserved: 0 }
}
