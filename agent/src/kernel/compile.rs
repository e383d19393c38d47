// SPDX-License-Identifier: Apache-2.0
//! From a snapshot to an image. Pure and deterministic: the same snapshot gives the same image.
//!
//! Which endpoints serve was decided in the snapshot (its plan); here they only become backends of the family that is
//! dialled. TCP only: the programs do not balance UDP yet.

use std::sync::Arc;

use evenkeel_abi::{ServiceKey, service_flags};

use super::{
    image::{Image, ServiceImage, Weighted},
    maps::backend,
};
use crate::store::{Cluster, Frontend, Protocol, Snapshot};

/// Compiles `snapshot`; what is made of the same clusters as in `previous` is shared with it.
#[must_use]
pub fn compile(snapshot: &Snapshot, previous: &Image) -> Image {
    let mut image = Image::default();
    for (frontend, service, port, cluster) in snapshot.frontends() {
        if frontend.protocol != Protocol::Tcp {
            continue;
        }
        let flags = if service.per_request(port) { service_flags::REQUEST } else { 0 };
        let key = ServiceKey::new(frontend.address.into(), frontend.port, frontend.protocol.number());
        let same = previous.services.get(&key).filter(|old| made_of(old, cluster));
        let compiled = match same {
            Some(old) => ServiceImage { flags, ..old.clone() },
            None => {
                let endpoints = endpoints(frontend, cluster);
                ServiceImage { source: Some(cluster.clone()), ..ServiceImage::new(flags, endpoints) }
            }
        };
        image.services.insert(key, compiled);
    }
    image
}

fn made_of(image: &ServiceImage, cluster: &Arc<Cluster>) -> bool {
    image.source.as_ref().is_some_and(|source| Arc::ptr_eq(source, cluster))
}

fn endpoints(frontend: &Frontend, cluster: &Cluster) -> Vec<Weighted> {
    let v4 = frontend.address.to_canonical().is_ipv4();
    let own_family =
        cluster.active().map(|e| &e.spec).filter(|e| e.address.ip().to_canonical().is_ipv4() == v4);
    own_family
        // The unspecified IPv6 address marks a free place in the maps, and nobody listens there.
        .filter(|e| !e.address.ip().is_unspecified())
        .map(|e| Weighted { backend: backend(e.address, frontend.protocol.number()), weight: e.weight.get() })
        .collect()
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
