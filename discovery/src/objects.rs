// SPDX-License-Identifier: Apache-2.0
//! Kubernetes objects, checked and reduced to what balancing needs.
//!
//! Reading an object never fails as a whole: it yields what is usable and the faults. `broken` says that something the
//! user meant could not be read at all (an address, a port number); then whoever holds an earlier good version of the
//! object keeps that. Deliberately not here: relations between objects ([`crate::view`]).

use evenkeel_xds::Protocol;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::fault::{Fault, FaultKind};
use crate::source::ObjectKey;

mod service;
mod slice;

pub use self::service::{Service, ServicePort};
pub use self::slice::{Slice, SliceEndpoint};

/// The label by which an EndpointSlice names its Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The label by which a Node names its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// What reading an object gave.
#[derive(Debug)]
pub struct Read<T> {
    /// What is usable of it.
    pub object: T,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
    /// Something that was meant could not be read: an earlier good version is better than this.
    pub broken: bool,
}

/// The key of an object; what has no namespace is in `default`, as for `kubectl`.
pub fn key_of(meta: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(
        meta.namespace.clone().filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".into()),
        meta.name.clone().unwrap_or_default(),
    )
}

/// A Node's zone.
pub fn zone_of(node: &core::Node) -> Option<&str> {
    node.metadata.labels.as_ref()?.get(ZONE_LABEL).map(String::as_str).filter(|zone| !zone.is_empty())
}

fn read_protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

// === impl Notes ===

/// What is found while one object is read.
struct Notes {
    object: String,
    faults: Vec<Fault>,
    broken: bool,
}

impl Notes {
    fn new(object: String) -> Self {
        Self { object, faults: Vec::new(), broken: false }
    }

    fn fault(&mut self, kind: FaultKind, field: &str, what: &str) {
        self.faults.push(Fault::new(kind, format!("{}: {field}: {what}", self.object)));
    }

    fn broken(&mut self, field: &str, what: &str) {
        self.broken = true;
        self.fault(FaultKind::Field, field, what);
    }

    fn done<T>(self, object: T) -> Read<T> {
        Read { object, faults: self.faults, broken: self.broken }
    }
}
