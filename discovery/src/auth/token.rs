// SPDX-License-Identifier: Apache-2.0
//! What can be known of a token without asking: its digest, and when it says it ends.
//!
//! Pure. Deliberately not here: signatures. The end is only looked at once the API server has accepted the token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest as hash};

/// SHA-256 of a token, so that no token stays in memory.
pub(super) type Digest = [u8; 32];

/// How long the acceptance of a token can be relied on at most, whatever the token says.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(serde::Deserialize)]
struct Claims {
    exp: f64,
}

/// The digest of a token.
pub(super) fn digest(token: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash(&SHA256, token.as_bytes()).as_ref());
    bytes
}

/// How long the token goes on by its own words (`exp`, RFC 7519, 4.1.4); `None` if it does not say.
pub(super) fn lifetime(token: &str, now: SystemTime) -> Option<Duration> {
    let payload = token.split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    let left = (claims.exp - now).clamp(0.0, LIFETIME_MAX.as_secs_f64());
    Duration::try_from_secs_f64(left).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_tokens_own_end_is_read_and_bounded() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let cases = [
            (token(r#"{"exp":1600,"aud":["x"]}"#), Some(600)),
            (token(r#"{"exp":900}"#), Some(0)),
            (token(r#"{"exp":1e300}"#), Some(24 * 3600)),
            (token(r#"{"exp":"soon"}"#), None),
            (token(r#"{}"#), None),
            ("opaque".to_owned(), None),
            ("a.!!.c".to_owned(), None),
        ];
        for (token, seconds) in cases {
            assert_eq!(lifetime(&token, now), seconds.map(Duration::from_secs), "{token}");
        }
    }

    #[test]
    fn the_digest_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest("abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
