// SPDX-License-Identifier: Apache-2.0
//! Versions of resources: the hash of the encoded content.
//!
//! What must always be true: equal bytes have equal versions, in every process and after every restart. So a client
//! that reconnects to another or a restarted server is sent only what differs.
//! Deliberately not here: ordering. Versions are compared for equality only, as the protocol asks of opaque strings.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

/// Content hash of an encoded resource (XXH3, 128 bits), printed as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(u128);

impl Version {
    /// Bytes in what `Display` writes.
    pub(crate) const TEXT_LEN: usize = 32;

    /// The version of these bytes.
    pub fn of(body: &[u8]) -> Self {
        Self(xxh3_128(body))
    }

    /// Reads what `Display` wrote. `None` for anything else: the version of a foreign server is simply unknown.
    pub fn parse(text: &str) -> Option<Self> {
        let strict =
            text.len() == Self::TEXT_LEN && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        strict.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    /// The version whose hash was computed elsewhere, over several pieces.
    pub(crate) fn from_hash(hash: u128) -> Self {
        Self(hash)
    }

    /// The hash as bytes, the same on every machine.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Nonces of one stream: 1, 2, 3, …
///
/// A nonce pairs an acknowledgement with a response of the same stream, so unique per stream is enough.
#[derive(Debug, Default)]
pub(crate) struct Nonces(u64);

impl Nonces {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_stable_and_survives_printing() {
        let version = Version::of(b"content");
        assert_eq!(version, Version::of(b"content"));
        assert_ne!(version, Version::of(b"content."));
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        // The value itself is part of the contract between releases: clients resume with it.
        assert_eq!(Version::of(b"").to_string(), "99aa06d3014798d86001c324468d497f");
    }

    #[test]
    fn foreign_versions_are_unknown() {
        for text in ["", "1", "+9aa06d3014798d86001c324468d497f", "99AA06D3014798D86001C324468D497F"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }
}
