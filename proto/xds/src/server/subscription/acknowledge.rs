// SPDX-License-Identifier: Apache-2.0
//! What a client says of the last response: that it has taken it, or what it rejects of it.
//!
//! Source: `xds_protocol.rst`, "ACK/NACK and resource type instance version".

use std::{collections::HashMap, sync::Arc};

use envoy_types::pb::google::rpc::Status;

use super::{Grouping, Outstanding, Rejected, Sent, Subscription};
use crate::{nack, version::Nonce};

impl Subscription {
    /// Takes an ACK or, with an error, a NACK. A stale nonce answers nothing; what else is in such a request counts, and
    /// is answered once the client has seen the last response: a client that gave a name up and asked for it again
    /// meanwhile could not be told from one that holds it.
    pub(in crate::server) fn acknowledge(&mut self, nonce: &str, error: Option<&Status>, reasons: usize) {
        let Some(outstanding) = self.answered(nonce.as_bytes()) else { return };
        match error {
            Some(error) => self.reject(outstanding.sent, error, reasons),
            None => self.accept(&outstanding.sent),
        }
    }

    /// Takes an ACK and nothing else; whether it is one of the last response.
    pub(in crate::server) fn is_acknowledged(&mut self, nonce: &[u8]) -> bool {
        let outstanding = self.answered(nonce);
        outstanding.map(|outstanding| self.accept(&outstanding.sent)).is_some()
    }

    fn answered(&mut self, nonce: &[u8]) -> Option<Outstanding> {
        self.outstanding.take_if(|outstanding| Nonce::new(outstanding.nonce).as_bytes() == nonce)
    }

    fn accept(&mut self, sent: &Sent) {
        if self.rejected.is_empty() {
            return;
        }
        if self.grouping == Grouping::Whole {
            self.rejected.clear();
        }
        for (name, _) in sent.iter() {
            self.rejected.remove(name);
        }
    }

    fn reject(&mut self, sent: Sent, error: &Status, reasons: usize) {
        let named: HashMap<String, String> = nack::per_resource(error).into_iter().collect();
        let whole: Arc<str> = nack::cut(&error.message).into();
        for (name, version) in sent.iter() {
            let reason = match named.get(&**name) {
                Some(_) if self.rejected.len() >= reasons => whole.clone(),
                Some(reason) => reason.as_str().into(),
                // Details were given, and not about this one: it was accepted.
                None if !named.is_empty() => {
                    self.rejected.remove(name);
                    continue;
                }
                None => whole.clone(),
            };
            if self.wants(name) {
                self.rejected.insert(name.clone(), Rejected { version, reason });
            }
        }
    }
}
