// SPDX-License-Identifier: Apache-2.0
//! What a client says of the last response: that it has taken it, or what it rejects of it.
//!
//! Source: `xds_protocol.rst`, "ACK/NACK and resource type instance version".

use std::{collections::HashMap, sync::Arc};

use envoy_types::pb::google::rpc::Status;

use super::{Grouping, Outstanding, Rejected, Subscription};
use crate::{nack, version::Version};

impl Subscription {
    /// Takes an ACK or, with an error, a NACK. A stale nonce answers nothing; what else is in such a request counts, and
    /// is answered once the client has seen the last response: a client that gave a name up and asked for it again
    /// meanwhile could not be told from one that holds it.
    pub(in crate::server) fn acknowledge(&mut self, nonce: &str, error: Option<&Status>, reasons: usize) {
        let latest = |outstanding: &mut Outstanding| is_nonce(nonce, outstanding.nonce);
        let Some(outstanding) = self.outstanding.take_if(latest) else { return };
        match error {
            Some(error) => self.reject(outstanding.sent, error, reasons),
            None => self.accept(&outstanding.sent),
        }
    }

    fn accept(&mut self, sent: &[(Arc<str>, Version)]) {
        if self.grouping == Grouping::Whole {
            self.rejected.clear();
        }
        for (name, _) in sent {
            self.rejected.remove(name);
        }
    }

    fn reject(&mut self, sent: Vec<(Arc<str>, Version)>, error: &Status, reasons: usize) {
        let named: HashMap<String, String> = nack::per_resource(error).into_iter().collect();
        let whole: Arc<str> = nack::cut(&error.message).into();
        for (name, version) in sent {
            let reason = match named.get(&*name) {
                Some(_) if self.rejected.len() >= reasons => whole.clone(),
                Some(reason) => reason.as_str().into(),
                // Details were given, and not about this one: it was accepted.
                None if !named.is_empty() => {
                    self.rejected.remove(&name);
                    continue;
                }
                None => whole.clone(),
            };
            if self.wants(&name) {
                self.rejected.insert(name, Rejected { version, reason });
            }
        }
    }
}

/// Whether the text is this nonce as it was sent. No nonce is zero.
fn is_nonce(text: &str, nonce: u64) -> bool {
    text.starts_with(|first: char| matches!(first, '1'..='9')) && text.parse() == Ok(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_only_what_was_sent() {
        assert!(is_nonce("1", 1) && is_nonce("18446744073709551615", u64::MAX));
        for text in ["", "2", "01", "+1", "1 ", "1.0", "11", "18446744073709551616"] {
            assert!(!is_nonce(text, 1), "{text:?}");
        }
    }
}
