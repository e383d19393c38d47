// SPDX-License-Identifier: Apache-2.0
//! How many connections each address has open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections by address.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

/// One connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    peers: Peers,
    address: IpAddr,
}

// === impl Peers ===

impl Peers {
    /// At most `most` connections per address.
    pub(super) fn new(most: usize) -> Self {
        Self { counts: Arc::default(), most }
    }

    /// A place for one more; `None` if the address has all that it may have.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        // A dual-stack socket shows IPv4 clients as IPv6 addresses.
        let address = address.to_canonical();
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        (*count < self.most).then(|| {
            *count += 1;
            Place { peers: self.clone(), address }
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Plain data: there is no broken state that a panic could leave.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let peers = Peers::new(2);
        let (v4, mapped): (IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap());
        let (first, second) = (peers.enter(v4).unwrap(), peers.enter(mapped).unwrap());
        assert!(peers.enter(v4).is_none(), "the mapped address is the same address");
        assert!(peers.enter("10.0.0.2".parse().unwrap()).is_some());
        drop(first);
        let third = peers.enter(v4);
        assert!(third.is_some());
        drop((second, third));
        assert!(peers.lock().is_empty(), "addresses that are gone cost nothing");
    }
}
