// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! An IP address as the maps hold it: IPv6 words in network byte order, IPv4 as `::ffff:a.b.c.d`.
//!
//! Ports stand beside addresses, never inside: see the records that use them.

/// Four 32-bit words, each in network byte order, in the order of `bpf_sock_addr.user_ip6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The words. All zero stands for "none" where a record says so.
    pub words: [u32; 4],
}
crate::assert_layout!(Address, 16, 4);

/// The third word of an IPv4-mapped address.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Address {
    /// The address that means "none".
    pub const NONE: Self = Self { words: [0; 4] };
    /// `127.0.0.1`.
    pub const LOOPBACK_V4: Self = Self::v4(u32::from_ne_bytes([127, 0, 0, 1]));
    /// `::1`.
    pub const LOOPBACK_V6: Self = Self { words: [0, 0, 0, u32::from_ne_bytes([0, 0, 0, 1])] };

    /// An IPv4 address from its word in network byte order.
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self { words: [0, 0, MAPPED, word] }
    }

    /// Whether this is IPv4 (written as IPv4-mapped).
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// The IPv4 word in network byte order. Only meaningful when [`Address::is_v4`].
    #[inline(always)]
    pub const fn v4_word(&self) -> u32 {
        self.words[3]
    }

    /// Whether this is [`Address::NONE`].
    #[inline(always)]
    pub const fn is_none(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == 0 && self.words[3] == 0
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(ip: core::net::IpAddr) -> Self {
        let octets = match ip {
            core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            core::net::IpAddr::V6(v6) => v6.octets(),
        };
        let mut words = [0; 4];
        let mut i = 0;
        while i < 4 {
            words[i] =
                u32::from_ne_bytes([octets[4 * i], octets[4 * i + 1], octets[4 * i + 2], octets[4 * i + 3]]);
            i += 1;
        }
        Self { words }
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        let mut octets = [0u8; 16];
        let mut i = 0;
        while i < 4 {
            octets[4 * i..4 * i + 4].copy_from_slice(&address.words[i].to_ne_bytes());
            i += 1;
        }
        core::net::Ipv6Addr::from(octets).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["10.96.0.1", "127.0.0.1", "fd00::7", "::1", "2001:db8::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(ip)), ip);
        }
    }

    #[test]
    fn a_mapped_address_and_its_ipv4_form_are_one_key() {
        let plain: IpAddr = "10.0.0.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(Address::from(plain), Address::from(mapped));
        assert!(Address::from(plain).is_v4());
        assert_eq!(Address::from(plain).v4_word(), u32::from_ne_bytes([10, 0, 0, 1]));
    }

    #[test]
    fn loopbacks_are_themselves() {
        assert_eq!(IpAddr::from(Address::LOOPBACK_V4), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(IpAddr::from(Address::LOOPBACK_V6).to_string(), "::1");
    }
}
