// SPDX-License-Identifier: Apache-2.0
//! Whether a pod's network is set up: loopback up, an address on another interface.
//!
//! A netlink socket made in the namespace is subscribed to links and addresses before they are read, so that no change
//! between is missed. Its messages are only a wake-up; the state is read whole each time, which also makes an overflow of
//! the socket harmless.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use evenkeel_abi::{Address, PodAddresses};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    net::if_::InterfaceFlags,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind,
        recv, socket,
    },
};
use tokio::io::unix::AsyncFd;

use super::{Namespace, namespace::readable};

/// What a pod's interfaces say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Network {
    /// Loopback is up.
    pub(super) loopback: bool,
    /// `::1` is there.
    pub(super) loopback_v6: bool,
    /// First address of another interface.
    pub(super) v4: Option<Ipv4Addr>,
    /// First address of another interface that is not link-local.
    pub(super) v6: Option<Ipv6Addr>,
}

impl Network {
    /// Whether connects of the pod may be redirected to its loopback.
    pub(super) const fn is_ready(&self) -> bool {
        self.loopback && (self.v4.is_some() || self.v6.is_some())
    }

    /// The record for the kernel programs.
    pub(super) fn addresses(&self, generation: u64) -> PodAddresses {
        PodAddresses {
            v4: self.v4.map_or(Address::NONE, |a| Address::from(std::net::IpAddr::V4(a))),
            v6: self.v6.map_or(Address::NONE, |a| Address::from(std::net::IpAddr::V6(a))),
            generation,
        }
    }

    /// Reads the interfaces of the namespace.
    pub(super) fn read(namespace: &Namespace) -> io::Result<Self> {
        namespace.inside(|| {
            let mut network = Self::default();
            for interface in getifaddrs()? {
                network.add(interface.flags, interface.address.as_ref());
            }
            Ok(network)
        })
    }

    fn add(&mut self, flags: InterfaceFlags, address: Option<&nix::sys::socket::SockaddrStorage>) {
        if !flags.contains(InterfaceFlags::IFF_UP) {
            return;
        }
        let v4 = address.and_then(|a| a.as_sockaddr_in()).map(|a| a.ip());
        let v6 = address.and_then(|a| a.as_sockaddr_in6()).map(|a| a.ip());
        if flags.contains(InterfaceFlags::IFF_LOOPBACK) {
            self.loopback = true;
            self.loopback_v6 |= v6 == Some(Ipv6Addr::LOCALHOST);
            return;
        }
        self.v4 = self.v4.or(v4);
        self.v6 = self.v6.or(v6.filter(|a| !a.is_unicast_link_local()));
    }
}

/// A subscription to changes of a namespace's links and addresses.
pub(super) struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Subscribes; changes from now on wake [`Changes::next`].
    pub(super) fn subscribe(namespace: &Namespace) -> io::Result<Self> {
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        let fd = namespace.inside(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            let address = NetlinkAddr::new(0, groups as u32);
            debug_assert_eq!(address.family(), Some(AddressFamily::Netlink));
            bind(fd.as_raw_fd(), &address)?;
            Ok(fd)
        })?;
        Ok(Self(readable(fd)?))
    }

    /// Waits for a change, or for several that came together.
    pub(super) async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut woken = false;
            let drained = ready.try_io(|fd| {
                let mut message = [0u8; 8192];
                loop {
                    match recv(fd.get_ref().as_raw_fd(), &mut message, MsgFlags::empty()) {
                        // Overflown: changes were lost, which is a change.
                        Ok(_) | Err(Errno::ENOBUFS) => woken = true,
                        Err(Errno::EINTR) => {}
                        Err(errno) => return Err::<(), _>(errno.into()),
                    }
                }
            });
            if woken {
                return Ok(());
            }
            if let Ok(Err(error)) = drained {
                return Err(error);
            }
        }
    }
}
