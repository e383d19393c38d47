// SPDX-License-Identifier: Apache-2.0
//! What the maps should say: a plain value, compared with what they do say.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use evenkeel_abi::{Backend, ServiceKey, Slot};
use evenkeel_balance::alias;

use crate::store::Cluster;

/// All Service ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// By what is dialled.
    pub services: BTreeMap<ServiceKey, ServiceImage>,
}

/// One Service port: who serves it, and how.
#[derive(Clone, Debug)]
pub struct ServiceImage {
    /// See [`evenkeel_abi::service_flags`].
    pub flags: u32,
    /// Endpoints of the address's family, sorted and distinct. Shared from image to image while unchanged.
    pub endpoints: Arc<[Weighted]>,
    /// What `endpoints` was made of.
    pub(super) source: Option<Arc<Cluster>>,
}

impl ServiceImage {
    /// A port from its parts.
    #[must_use]
    pub fn new(flags: u32, mut endpoints: Vec<Weighted>) -> Self {
        endpoints.sort_by_key(|e| (e.backend.address, e.backend.port_be, e.backend.protocol));
        endpoints.dedup_by_key(|e| e.backend);
        Self { flags, endpoints: endpoints.into(), source: None }
    }

    /// The alias table of the endpoints. `index` names a backend that has an index.
    pub(super) fn slots(&self, index: impl Fn(&Backend) -> u32) -> Vec<Slot> {
        let weights: Vec<u32> = self.endpoints.iter().map(|e| e.weight).collect();
        let columns = alias::table(&weights);
        columns
            .iter()
            .zip(self.endpoints.iter())
            .map(|(column, own)| {
                let other = &self.endpoints[column.alias as usize];
                Slot {
                    backend: index(&own.backend),
                    weight: own.weight,
                    alias: index(&other.backend),
                    alias_weight: other.weight,
                    threshold: column.threshold,
                }
            })
            .collect()
    }
}

impl PartialEq for ServiceImage {
    fn eq(&self, other: &Self) -> bool {
        self.flags == other.flags
            && (Arc::ptr_eq(&self.endpoints, &other.endpoints) || self.endpoints == other.endpoints)
    }
}

/// An endpoint and its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weighted {
    /// Where it is.
    pub backend: Backend,
    /// At least 1.
    pub weight: u32,
}

/// `address:port/protocol`, for messages.
pub(super) fn show(key: &ServiceKey) -> String {
    let address = std::net::SocketAddr::new(IpAddr::from(key.address), u16::from_be(key.port_be));
    let protocol = match key.protocol {
        evenkeel_abi::PROTOCOL_TCP => "TCP".to_owned(),
        evenkeel_abi::PROTOCOL_UDP => "UDP".to_owned(),
        other => other.to_string(),
    };
    format!("{address}/{protocol}")
}
