// SPDX-License-Identifier: Apache-2.0
//! A port's endpoints × a client's zone → ClusterLoadAssignment.
//!
//! The zone policy becomes priorities, so that Envoy and proxyless gRPC follow it without knowing of it. What must always
//! be true, because gRPC rejects the resource otherwise (gRFC A27): priorities are contiguous from 0, every locality has a
//! weight, no locality is in one priority twice, no address is twice.
//!
//! Many zones see the same bytes. [`Zoning::audience`] says which, so that each variant is encoded once and the number of
//! variants is bounded by the zones that have endpoints, not by what clients claim.
//!
//! Endpoints of a fallback cluster come at the priority behind all of ours, in a locality whose region is the cluster's
//! name. `evenkeel.io/zone: strict` is about the zones of one cluster; who names a fallback wants it when the zone fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use evenkeel_proto::discovery::ZonePolicy;
use evenkeel_xds::{EncodedResource, type_url};

use super::{METADATA, wire};
use crate::view::{Endpoint, PortView};

/// The key in endpoints' metadata that Envoy's subset policy reads.
pub(super) const ENVOY_LB: &str = "envoy.lb";

/// In percent. Envoy leaves a priority or a locality in part as soon as its healthy share times this falls below 1, and
/// counts endpoints that drain as unhealthy: with the usual 140, scaling down would send requests to other zones. One
/// healthy endpoint in a thousand is to keep them; when the zone is full is for the plan to say, not for a ratio.
const OVERPROVISIONING: u32 = 100_000;

/// An endpoint's usual size on the wire, to reserve memory once.
const USUAL_BYTES: usize = 192;

/// Clients that are sent the same endpoints in the same priorities.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// All endpoints at one priority.
    Everything,
    /// Endpoints of this zone first, all others behind them.
    Prefer(Arc<str>),
    /// Endpoints of this zone and no others.
    Only(Arc<str>),
    /// No endpoints: the policy is strict and the zone has none.
    Nothing,
}

/// What there is to know about a port's endpoints to tell audiences apart, found once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zoning {
    policy: ZonePolicy,
    /// Zones that have endpoints of ours, and whether one of them is healthy.
    zones: BTreeMap<Arc<str>, bool>,
}

/// A place in the order of a ClusterLoadAssignment: priority, region, zone.
type Place<'a> = (u32, &'a str, &'a str);

// === impl Zoning ===

impl Zoning {
    /// Of these endpoints.
    pub fn new(policy: ZonePolicy, endpoints: &[Endpoint]) -> Self {
        let mut zones = BTreeMap::new();
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.region.is_empty()) {
            match zones.get_mut(&endpoint.zone) {
                Some(healthy) => *healthy |= !endpoint.draining,
                None => drop(zones.insert(endpoint.zone.clone(), !endpoint.draining)),
            }
        }
        Self { policy, zones }
    }

    /// Which variant a client in `zone` (empty: unknown) is sent.
    pub fn audience(&self, zone: &Arc<str>) -> Audience {
        if zone.is_empty() {
            return Audience::Everything;
        }
        let local = self.zones.get(zone).copied();
        match (self.policy, local) {
            (ZonePolicy::Ignore, _) => Audience::Everything,
            (ZonePolicy::Strict, Some(_)) => Audience::Only(zone.clone()),
            (ZonePolicy::Strict, None) => Audience::Nothing,
            // Without a healthy local endpoint the others are all there is, and priorities have to start at 0.
            (ZonePolicy::Prefer | ZonePolicy::Unspecified, Some(true)) => Audience::Prefer(zone.clone()),
            (ZonePolicy::Prefer | ZonePolicy::Unspecified, _) => Audience::Everything,
        }
    }
}

/// A port's endpoints as this audience is to see them.
pub fn assignment(view: &PortView, audience: &Audience) -> EncodedResource {
    let mut out = Vec::with_capacity(USUAL_BYTES * (view.endpoints.len() + 1));
    wire::text(&mut out, 1, &view.port.cluster);
    for (place, members) in groups(view, audience) {
        wire::message(&mut out, 2, |out| locality(out, place, &members, view.subset_label.as_deref()));
    }
    wire::message(&mut out, 4, |out| wire::wrapped(out, 3, OVERPROVISIONING));
    EncodedResource::new(type_url::CLUSTER_LOAD_ASSIGNMENT, view.port.cluster.clone(), out)
}

fn groups<'a>(view: &'a PortView, audience: &Audience) -> BTreeMap<Place<'a>, Vec<&'a Endpoint>> {
    let mut groups: BTreeMap<Place<'_>, Vec<&Endpoint>> = BTreeMap::new();
    let (ours, abroad): (Vec<_>, Vec<_>) =
        view.endpoints.iter().partition(|endpoint| endpoint.region.is_empty());
    for endpoint in ours {
        if let Some(priority) = priority(&endpoint.zone, audience) {
            groups.entry((priority, "", &endpoint.zone)).or_default().push(endpoint);
        }
    }
    let behind = groups.last_key_value().map_or(0, |((priority, ..), _)| priority + 1);
    for endpoint in abroad {
        groups.entry((behind, &endpoint.region, &endpoint.zone)).or_default().push(endpoint);
    }
    groups
}

/// `None`: the audience does not get this zone's endpoints.
fn priority(zone: &str, audience: &Audience) -> Option<u32> {
    match audience {
        Audience::Everything => Some(0),
        Audience::Prefer(local) => Some(u32::from(zone != &**local)),
        Audience::Only(local) => (zone == &**local).then_some(0),
        Audience::Nothing => None,
    }
}

/// A `LocalityLbEndpoints`.
fn locality(
    out: &mut Vec<u8>,
    (priority, region, zone): Place<'_>,
    members: &[&Endpoint],
    label: Option<&str>,
) {
    wire::message(out, 1, |out| {
        wire::text(out, 1, region);
        wire::text(out, 2, zone);
    });
    for endpoint in members {
        wire::message(out, 2, |out| lb_endpoint(out, endpoint, label));
    }
    wire::wrapped(out, 3, locality_weight(members));
    wire::number(out, 5, priority);
}

/// What its endpoints can take. Those that drain take nothing new: a zone that is being emptied would otherwise be sent
/// the share of all its endpoints. A weight has to be there even when all of them drain.
fn locality_weight(members: &[&Endpoint]) -> u32 {
    let sum = |draining: bool| -> u32 {
        members.iter().filter(|endpoint| endpoint.draining == draining).map(|endpoint| endpoint.weight).sum()
    };
    match sum(false) {
        0 => sum(true),
        weight => weight,
    }
}

/// An `LbEndpoint`.
fn lb_endpoint(out: &mut Vec<u8>, endpoint: &Endpoint, label: Option<&str>) {
    let health = if endpoint.draining { HealthStatus::Draining } else { HealthStatus::Healthy };
    // Endpoint, Address, SocketAddress.
    wire::message(out, 1, |out| {
        wire::message(out, 1, |out| {
            wire::message(out, 1, |out| {
                wire::text(out, 2, &endpoint.address.ip().to_string());
                wire::number(out, 3, endpoint.address.port().into());
            });
        });
    });
    wire::number(out, 2, health as u32);
    metadata(out, endpoint, label);
    wire::wrapped(out, 4, endpoint.weight);
}

/// A `Metadata` with the entries that have something to say, in the order of their keys.
fn metadata(out: &mut Vec<u8>, endpoint: &Endpoint, label: Option<&str>) {
    let subset = endpoint.subset.as_deref().unwrap_or_default();
    let ours =
        [("node", &*endpoint.node), ("pod", &*endpoint.pod), ("subset", subset), ("zone", &*endpoint.zone)];
    let envoys = [(label.unwrap_or_default(), if label.is_some() { subset } else { "" })];
    let said = |pairs: &[(&str, &str)]| pairs.iter().any(|(_, value)| !value.is_empty());
    if !said(&ours) && !said(&envoys) {
        return;
    }
    wire::message(out, 3, |out| {
        for (key, pairs) in [(ENVOY_LB, &envoys[..]), (METADATA, &ours[..])] {
            if said(pairs) {
                wire::entry(out, 1, key, |out| structure(out, pairs));
            }
        }
    });
}

/// A `Struct` of texts, without empty ones.
fn structure(out: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        wire::entry(out, 1, key, |out| wire::text(out, 3, value));
    }
}
