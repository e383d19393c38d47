// SPDX-License-Identifier: Apache-2.0
//! Which Service an address and port belongs to, when more than one says that it is its own.
//!
//! The API server gives an address to one Service, but manifests may give it to two, and while a watch catches up a
//! Service may hold the address of one that is gone. What must always be true: one Service has an address and port, and
//! which one depends on the Services alone, not on the order in which they became known.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use evenkeel_xds::Protocol;

use crate::objects::Service;
use crate::source::ObjectKey;

/// What is claimed.
type Front = (IpAddr, u16, Protocol);

/// All claims of Services that have opted in.
#[derive(Debug, Default)]
pub(super) struct Claims {
    fronts: HashMap<Front, BTreeSet<Claim>>,
}

/// Older first: without a time last, then by name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    unknown: bool,
    created: Option<i64>,
    key: ObjectKey,
}

// === impl Claims ===

impl Claims {
    /// A Service makes its claims. Other Services that this touches go to `touched`.
    pub(super) fn add(&mut self, service: &Service, touched: &mut BTreeSet<ObjectKey>) {
        for front in fronts(service) {
            let claims = self.fronts.entry(front).or_default();
            touched.extend(claims.iter().map(|claim| claim.key.clone()));
            claims.insert(Claim::of(service));
        }
    }

    /// A Service gives its claims up.
    pub(super) fn remove(&mut self, service: &Service, touched: &mut BTreeSet<ObjectKey>) {
        for front in fronts(service) {
            let Some(claims) = self.fronts.get_mut(&front) else { continue };
            claims.remove(&Claim::of(service));
            touched.extend(claims.iter().map(|claim| claim.key.clone()));
            if claims.is_empty() {
                self.fronts.remove(&front);
            }
        }
    }

    /// Addresses and ports of this Service that are an older one's, and whose.
    pub(super) fn lost<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = (Front, &'a ObjectKey)> {
        fronts(service).filter_map(|front| {
            let owner = &self.fronts.get(&front)?.first()?.key;
            (*owner != service.key).then_some((front, owner))
        })
    }
}

/// What a Service claims; nothing if it has not opted in.
fn fronts(service: &Service) -> impl Iterator<Item = Front> {
    let addresses = service.addresses.iter().filter(|_| service.options.is_some());
    addresses.flat_map(|address| service.ports.iter().map(|port| (*address, port.port, port.protocol)))
}

// === impl Claim ===

impl Claim {
    fn of(service: &Service) -> Self {
        Self { unknown: service.created.is_none(), created: service.created, key: service.key.clone() }
    }
}
