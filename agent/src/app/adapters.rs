// SPDX-License-Identifier: Apache-2.0
//! The kernel's handles as the traits that the pods and the proxy ask for.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::BorrowedFd,
};

use evenkeel_abi::{Address, Origin, OriginKey, PodAddresses};

use crate::{
    kernel::{self, Family, KernelError},
    pods::Registry,
    proxy,
};

/// Where the programs recorded what a connection wanted.
pub(super) struct Origins(pub(super) kernel::Origins);

impl proxy::Origins for Origins {
    fn origin(&self, key: &OriginKey) -> Option<Origin> {
        self.0.get(key)
    }
}

/// The maps in which pods are registered.
pub(super) struct PodRegistry {
    pub(super) listeners: kernel::Listeners,
    pub(super) pods: kernel::Pods,
}

impl Registry for PodRegistry {
    /// Addresses first: a listener must never be found for which the programs do not know the pod.
    fn register(
        &self,
        cookie: u64,
        v4: BorrowedFd<'_>,
        v6: Option<BorrowedFd<'_>>,
        addresses: PodAddresses,
    ) -> io::Result<()> {
        let PodAddresses { v4: address_v4, v6: address_v6, generation } = addresses;
        self.pods
            .insert(cookie, ipv4(address_v4), ipv6(address_v6), generation)
            .and_then(|()| self.listeners.insert(cookie, Family::V4, &v4))
            .and_then(|()| match v6 {
                Some(v6) => self.listeners.insert(cookie, Family::V6, &v6),
                None => self.listeners.remove(cookie, Family::V6),
            })
            .map_err(other)
    }

    fn unregister(&self, cookie: u64) -> io::Result<()> {
        [Family::V4, Family::V6]
            .into_iter()
            .try_for_each(|family| self.listeners.remove(cookie, family))
            .and_then(|()| self.pods.remove(cookie))
            .map_err(other)
    }

    fn owner(&self, cookie: u64) -> Option<u64> {
        self.pods.get(cookie).map(|pod| pod.generation)
    }

    fn entries(&self) -> io::Result<Vec<(u64, u64)>> {
        let pods = self.pods.list().map_err(other)?;
        Ok(pods.into_iter().map(|(cookie, pod)| (cookie, pod.generation)).collect())
    }
}

fn other(error: KernelError) -> io::Error {
    io::Error::other(error)
}

fn ipv4(address: Address) -> Option<Ipv4Addr> {
    match IpAddr::from(address) {
        IpAddr::V4(v4) if !address.is_none() => Some(v4),
        _ => None,
    }
}

fn ipv6(address: Address) -> Option<Ipv6Addr> {
    match IpAddr::from(address) {
        IpAddr::V6(v6) if !address.is_none() => Some(v6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_goes_to_its_family_and_none_to_neither() {
        let (four, six): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        assert_eq!((ipv4(four.into()), ipv6(four.into())), (Some(Ipv4Addr::new(10, 0, 0, 1)), None));
        assert_eq!((ipv4(six.into()), ipv6(six.into())), (None, "fd00::1".parse().ok()));
        assert_eq!((ipv4(Address::NONE), ipv6(Address::NONE)), (None, None));
    }
}
