// SPDX-License-Identifier: Apache-2.0
//! What a connection carries, by its first bytes: two matchers over the bytes seen so far, without I/O.
//!
//! A client of HTTP/2 with prior knowledge begins with 24 fixed bytes (RFC 9113, section 3.4). A server of HTTP/2 may speak
//! first, but only a SETTINGS frame; any other first byte from a server means that the connection is something else, and
//! that its client may well be waiting for that byte (SMTP, MySQL, SSH).

/// The client connection preface.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest SETTINGS payload that is believed: the settings registered so far are fewer than twenty, six bytes each.
const SETTINGS_MAX: usize = 1_024;

/// What the bytes so far say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// HTTP/2.
    Http2,
    /// Not HTTP/2.
    Other,
    /// Not to be told yet.
    More,
}

/// Judges the first bytes of a client.
pub(super) fn client(bytes: &[u8]) -> Verdict {
    let seen = bytes.len().min(PREFACE.len());
    if bytes[..seen] != PREFACE[..seen] {
        Verdict::Other
    } else if seen == PREFACE.len() {
        Verdict::Http2
    } else {
        Verdict::More
    }
}

/// Judges the first bytes of a server: is this the head of a SETTINGS frame (not an acknowledgement, stream 0)?
pub(super) fn server(bytes: &[u8]) -> Verdict {
    const FIXED: [Option<u8>; 9] =
        [Some(0), None, None, Some(4), Some(0), Some(0), Some(0), Some(0), Some(0)];
    let wrong = bytes.iter().zip(FIXED).any(|(byte, fixed)| fixed.is_some_and(|f| f != *byte));
    let length = match bytes {
        [_, high, low, ..] => Some(usize::from(*high) << 8 | usize::from(*low)),
        _ => None,
    };
    let impossible = length.is_some_and(|n| n % 6 != 0 || n > SETTINGS_MAX);
    if wrong || impossible {
        Verdict::Other
    } else if bytes.len() >= FIXED.len() {
        Verdict::Http2
    } else {
        Verdict::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_preface_is_known_only_when_whole() {
        for n in 0..PREFACE.len() {
            assert_eq!(client(&PREFACE[..n]), Verdict::More, "{n} bytes");
        }
        assert_eq!(client(PREFACE), Verdict::Http2);
        assert_eq!(client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and more"), Verdict::Http2);
    }

    #[test]
    fn http1_is_told_by_its_first_different_byte() {
        assert_eq!(client(b"GET / HTTP/1.1\r\n"), Verdict::Other);
        assert_eq!(client(b"P"), Verdict::More);
        assert_eq!(client(b"PO"), Verdict::Other);
        assert_eq!(client(b"PRI * HTTP/1.1"), Verdict::Other);
    }

    #[test]
    fn a_greeting_is_no_settings_frame() {
        assert_eq!(server(b"220 mail.example ESMTP\r\n"), Verdict::Other);
        assert_eq!(server(b"SSH-2.0-x"), Verdict::Other);
        // MySQL: a little-endian length first, so that a small packet never begins with zero and a multiple of six.
        assert_eq!(server(&[0x4a, 0, 0, 0, 10]), Verdict::Other);
        assert_eq!(server(&[0, 0, 7]), Verdict::Other);
    }

    #[test]
    fn a_settings_frame_is_known_by_its_head() {
        let head = [0, 0, 18, 4, 0, 0, 0, 0, 0];
        for n in 0..head.len() {
            assert_eq!(server(&head[..n]), Verdict::More);
        }
        assert_eq!(server(&head), Verdict::Http2);
    }

    proptest! {
        #[test]
        fn a_verdict_never_changes_with_more_bytes(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            keep in 0usize..25,
            server_side: bool,
        ) {
            let judge = if server_side { server } else { client };
            let mut all = PREFACE[..keep.min(24)].to_vec();
            all.extend(bytes);
            let mut last = Verdict::More;
            for n in 0..=all.len() {
                let verdict = judge(&all[..n]);
                prop_assert!(last == Verdict::More || verdict == last);
                last = verdict;
            }
        }
    }
}
