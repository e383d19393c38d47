// SPDX-License-Identifier: Apache-2.0
//! Versions of resources: the hash of the encoded content.
//!
//! What must always be true: equal bytes have equal versions, in every process and after every restart. So a client
//! that reconnects to another or a restarted server is sent only what differs.
//! Deliberately not here: ordering. Versions are compared for equality only, as the protocol asks of opaque strings.

use std::{fmt, ops::Deref};

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

/// A nonce as it is sent: its digits, in place, because every response has one. The default is empty text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    /// At the end.
    digits: [u8; Self::LONGEST],
    begin: u8,
}

impl Nonce {
    /// Digits of the largest number.
    const LONGEST: usize = 20;

    pub(crate) fn new(mut number: u64) -> Self {
        let mut digits = [0; Self::LONGEST];
        let mut begin = Self::LONGEST;
        while number > 0 {
            begin -= 1;
            digits[begin] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        Self { digits, begin: begin as u8 }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[usize::from(self.begin)..]
    }
}

impl Default for Nonce {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Deref for Nonce {
    type Target = str;

    fn deref(&self) -> &str {
        // Digits are text.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
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
    fn a_nonce_is_its_number_in_digits_and_none_is_empty() {
        for number in [1, 9, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(&*Nonce::new(number), number.to_string());
        }
        assert_eq!(&*Nonce::default(), "");
        assert_ne!(Nonce::new(1), Nonce::new(11));
    }

    #[test]
    fn foreign_versions_are_unknown() {
        for text in ["", "1", "+9aa06d3014798d86001c324468d497f", "99AA06D3014798D86001C324468D497F"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }
}
