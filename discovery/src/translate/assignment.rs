// SPDX-License-Identifier: Apache-2.0
//! A port's endpoints × a client's zone → ClusterLoadAssignment.
//!
//! The zone policy becomes priorities, so that Envoy and proxyless gRPC follow it without knowing of it. What must always
//! be true, because gRPC rejects the resource otherwise (gRFC A27): priorities are contiguous from 0, every locality has a
//! weight, no locality is in one priority twice, no address is twice.
//!
//! Many zones see the same bytes. [`Zoning::audience`] says which, so that each variant is encoded once and the number of
//! variants is bounded by the zones that have endpoints, not by what clients claim. Variants differ in the priorities of
//! localities, hardly ever in what a locality holds: [`Localities`] knows where it was written before, to be copied.
//!
//! Endpoints of a fallback cluster come at the priority behind all of ours, in a locality whose region is the cluster's
//! name. `evenkeel.io/zone: strict` is about the zones of one cluster; who names a fallback wants it when the zone fails.

use std::collections::BTreeMap;
use std::ops::Range;
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

/// The localities of a port's endpoints, by region and zone, as far as one of its variants has them.
#[derive(Debug, Default)]
pub struct Localities(
    /// Sorted.
    Vec<Locality>,
);

#[derive(Debug)]
struct Locality {
    /// Empty: our own cluster.
    region: Arc<str>,
    zone: Arc<str>,
    /// The variant in which it was written first, and where: all its fields but the priority, which is the last.
    written: Option<(EncodedResource, Range<usize>)>,
}

/// Endpoints by region and zone.
type Members<'a> = BTreeMap<(&'a Arc<str>, &'a Arc<str>), Vec<&'a Endpoint>>;

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

/// A port's endpoints as this audience is to see them. `localities` is what is known of them from other audiences.
pub fn assignment(view: &PortView, audience: &Audience, localities: &mut Localities) -> EncodedResource {
    let mut grouped = None;
    if localities.0.is_empty() {
        let grouped = grouped.insert(members(view));
        localities.0.extend(grouped.keys().map(|(region, zone)| Locality::new(region, zone)));
    }
    let mut out = Vec::with_capacity(USUAL_BYTES * (view.endpoints.len() + 1));
    wire::text(&mut out, 1, &view.port.cluster);
    let mut fresh = Vec::new();
    for (priority, index) in localities.plan(audience) {
        let place = &localities.0[index];
        let mut length = 0;
        let start = wire::place(&mut out, 2, |out| {
            let start = out.len();
            match &place.written {
                Some((variant, at)) => out.extend_from_slice(&variant.body()[at.clone()]),
                None => {
                    let members = grouped.get_or_insert_with(|| members(view)).remove(&place.key());
                    locality(out, place, &members.unwrap_or_default(), view.subset_label.as_deref());
                }
            }
            length = out.len() - start;
            wire::number(out, 5, priority);
        });
        if place.written.is_none() {
            fresh.push((index, start..start + length));
        }
    }
    wire::message(&mut out, 4, |out| wire::wrapped(out, 3, OVERPROVISIONING));
    let resource = EncodedResource::new(type_url::CLUSTER_LOAD_ASSIGNMENT, view.port.cluster.clone(), out);
    for (index, at) in fresh {
        localities.0[index].written = Some((resource.clone(), at));
    }
    resource
}

fn members(view: &PortView) -> Members<'_> {
    let mut members = Members::new();
    for endpoint in &view.endpoints {
        members.entry((&endpoint.region, &endpoint.zone)).or_default().push(endpoint);
    }
    members
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

// === impl Localities ===

impl Localities {
    /// Priorities and localities in the order in which this audience is sent them: by priority, region, zone.
    fn plan(&self, audience: &Audience) -> Vec<(u32, usize)> {
        // Sorted by region, so ours are the first.
        let ours = self.0.partition_point(|place| place.region.is_empty());
        let reached = |index: usize| Some((priority(&self.0[index].zone, audience)?, index));
        let mut plan = Vec::with_capacity(self.0.len());
        plan.extend((0..ours).filter_map(reached));
        plan.sort_unstable();
        let behind = plan.last().map_or(0, |(priority, _)| priority + 1);
        plan.extend((ours..self.0.len()).map(|index| (behind, index)));
        plan
    }
}

// === impl Locality ===

impl Locality {
    fn new(region: &Arc<str>, zone: &Arc<str>) -> Self {
        Self { region: region.clone(), zone: zone.clone(), written: None }
    }

    fn key(&self) -> (&Arc<str>, &Arc<str>) {
        (&self.region, &self.zone)
    }
}

/// A `LocalityLbEndpoints` without its priority.
fn locality(out: &mut Vec<u8>, place: &Locality, members: &[&Endpoint], label: Option<&str>) {
    wire::message(out, 1, |out| {
        wire::text(out, 1, &place.region);
        wire::text(out, 2, &place.zone);
    });
    for endpoint in members {
        wire::message(out, 2, |out| lb_endpoint(out, endpoint, label));
    }
    wire::wrapped(out, 3, locality_weight(members));
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
                wire::address(out, 2, endpoint.address.ip());
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
