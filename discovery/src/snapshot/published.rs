// SPDX-License-Identifier: Apache-2.0
//! One Service as it is served, with what has been encoded of it so far.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use evenkeel_proto::discovery::ZonePolicy;
use evenkeel_xds::EncodedResource;

use crate::translate::{self, Audience, Frontend, GatewayRoute, Localities, Zoning};
use crate::view::{PortView, ServiceView};

/// The port that a URL without one means.
const HTTP_PORT: u16 = 80;

/// One Service: its resource, its clusters, its part of the gateway's routes.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) resource: EncodedResource,
    pub(super) clusters: Vec<Arc<Cluster>>,
    pub(super) routes: Vec<GatewayRoute>,
}

/// One cluster and the variants of its endpoints that have been asked for.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) name: Arc<str>,
    /// `None`: neither Envoy's HTTP nor gRPC can use it.
    pub(super) front: Option<Arc<Front>>,
    pub(super) view: PortView,
    policy: ZonePolicy,
    zoning: Zoning,
    encoded: Mutex<Vec<(Audience, EncodedResource)>>,
    /// What one variant can take from another. Locked after `encoded`, if both are.
    localities: Mutex<Localities>,
}

/// What stays the same when endpoints come and go.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) frontend: Arc<Frontend>,
    cluster: OnceLock<EncodedResource>,
    listener: OnceLock<EncodedResource>,
    route: OnceLock<EncodedResource>,
}

// === impl Published ===

impl Published {
    /// Takes over from `old` what is equal, encoded variants included.
    pub(super) fn new(view: ServiceView, old: Option<&Self>) -> Self {
        let resource = translate::service(&view, old.map(|old| &old.resource));
        let ServiceView { options, ports, .. } = view;
        let mut clusters = Vec::with_capacity(ports.len());
        for port in ports {
            let before = old.and_then(|old| old.cluster(&port.port.cluster));
            let frontend = Frontend::of(&port, &options);
            clusters.push(match before {
                Some(old) if old.is(&port, options.zone, frontend.as_ref()) => old.clone(),
                _ => Arc::new(Cluster::new(port, options.zone, frontend, before.map(|old| &**old))),
            });
        }
        let routes = routes(&clusters);
        Self { resource, clusters, routes }
    }

    /// The cluster of this name. A Service has few.
    pub(super) fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.iter().find(|cluster| *cluster.name == *name)
    }
}

/// A name without a port means the Service's only TCP port, or HTTP's own.
fn routes(clusters: &[Arc<Cluster>]) -> Vec<GatewayRoute> {
    let tcp = || clusters.iter().filter_map(|cluster| Some((cluster, cluster.front.as_ref()?)));
    let single = tcp().count() == 1;
    tcp()
        .map(|(cluster, front)| GatewayRoute {
            frontend: front.frontend.clone(),
            is_default: single || cluster.view.port.port == HTTP_PORT,
        })
        .collect()
}

// === impl Cluster ===

impl Cluster {
    fn new(view: PortView, policy: ZonePolicy, frontend: Option<Frontend>, old: Option<&Self>) -> Self {
        let before = old.and_then(|old| old.front.as_ref());
        let front = frontend.map(|frontend| match before {
            Some(old) if *old.frontend == frontend => old.clone(),
            _ => Arc::new(Front::new(frontend)),
        });
        let zoning = Zoning::new(policy, &view.endpoints);
        let name = view.port.cluster.clone();
        let (encoded, localities) = (Mutex::default(), Mutex::default());
        Self { name, front, view, policy, zoning, encoded, localities }
    }

    fn is(&self, view: &PortView, policy: ZonePolicy, frontend: Option<&Frontend>) -> bool {
        let own = self.front.as_ref().map(|front| &*front.frontend);
        self.policy == policy && own == frontend && self.view == *view
    }

    /// The endpoints as clients in this zone see them.
    pub(super) fn endpoints(&self, zone: &Arc<str>) -> EncodedResource {
        let audience = self.zoning.audience(zone);
        // A panic while encoding cannot leave the list half written, so poisoning means nothing here.
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, resource)) = encoded.iter().find(|(known, _)| *known == audience) {
            return resource.clone();
        }
        let resource = self.encode(&audience);
        encoded.push((audience, resource.clone()));
        resource
    }

    fn encode(&self, audience: &Audience) -> EncodedResource {
        let mut localities = self.localities.lock().unwrap_or_else(PoisonError::into_inner);
        translate::assignment(&self.view, audience, &mut localities)
    }
}

// === impl Front ===

impl Front {
    fn new(frontend: Frontend) -> Self {
        Self {
            frontend: Arc::new(frontend),
            cluster: OnceLock::new(),
            listener: OnceLock::new(),
            route: OnceLock::new(),
        }
    }

    pub(super) fn cluster(&self) -> &EncodedResource {
        self.cluster.get_or_init(|| translate::cluster(&self.frontend))
    }

    pub(super) fn listener(&self) -> &EncodedResource {
        self.listener.get_or_init(|| translate::api_listener(&self.frontend))
    }

    pub(super) fn route(&self) -> &EncodedResource {
        self.route.get_or_init(|| translate::route(&self.frontend))
    }
}
