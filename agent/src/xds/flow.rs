// SPDX-License-Identifier: Apache-2.0
//! From responses to batches: protocol, decoding, store and file, without a socket.
//!
//! What must always be true: the store, the protocol client and the keeper hold the same resources; each response leads to at
//! most one snapshot. Deliberately not here: the stream.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    },
    google::protobuf::Any,
};
use evenkeel_xds::{
    DeltaClient, Event, Interest, Outcome,
    type_url::{CLUSTER_LOAD_ASSIGNMENT, SERVICE, short_name},
};
use tokio::sync::watch;

use super::{Rejected, Source, Status, keeper::Keeper};
use crate::store::{Batch, ClusterSpec, ServiceName, ServiceSpec, StoreWriter, decode, persist::Accepted};

/// A resource that passed the checks.
enum Checked {
    Service(ServiceSpec),
    Cluster(ClusterSpec),
}

/// See the module.
pub(super) struct Flow {
    client: DeltaClient,
    store: StoreWriter,
    keeper: Keeper,
    status: watch::Sender<Status>,
    /// Clusters that no Service refers to any more. No snapshot shows them, so they leave with the next batch.
    unwanted: Vec<Arc<str>>,
    published: bool,
}

impl Flow {
    /// Puts what was loaded into force and subscribes to all Services and to the endpoints that they name.
    pub(super) fn new(
        node: Node,
        store: StoreWriter,
        keeper: Keeper,
        loaded: Vec<Accepted>,
        status: watch::Sender<Status>,
    ) -> Self {
        let client = DeltaClient::new(node);
        let mut flow = Self { client, store, keeper, status, unwanted: Vec::new(), published: false };
        flow.preload(loaded);
        // Not connected: there is nothing to send, and the wildcard drops nothing.
        let _ = flow.client.subscribe(SERVICE, Interest::Wildcard);
        let _ = flow.follow_services();
        flow
    }

    fn preload(&mut self, loaded: Vec<Accepted>) {
        let mut batch = Batch::default();
        for resource in loaded {
            let Accepted { type_url, name, version, body } = &resource;
            match check(type_url, name, body) {
                Ok(checked) => {
                    self.client.preload(type_url, name, version);
                    push(&mut batch, name.clone(), checked);
                }
                // Not preloaded, so discovery sends it again.
                Err(reason) => tracing::warn!("last-good file: {reason}; left out"),
            }
        }
        if batch.services.is_empty() && batch.clusters.is_empty() {
            return;
        }
        tracing::info!(
            services = batch.services.len(),
            clusters = batch.clusters.len(),
            "started from the last-good file"
        );
        self.publish(batch);
        self.status.send_modify(|status| status.source = Source::LastGood);
    }

    /// What to send on a stream that was just opened.
    pub(super) fn on_connected(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.client.on_connected()
    }

    /// The stream is gone.
    pub(super) fn on_disconnected(&mut self) {
        self.client.on_disconnected();
    }

    /// Takes one response; returns what to send.
    pub(super) fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        let outcome = self.client.on_response(response, |type_url, name, any: Any| {
            let body = Bytes::from(any.value);
            check(type_url, name, &body).map(|checked| (checked, body))
        });
        let Outcome { type_url, events, rejected, reply } = outcome;
        for resource in &rejected {
            tracing::warn!(version = resource.version, "rejected: {}", resource.reason);
        }
        let changed = !events.is_empty();
        let batch = self.keep(&type_url, events);
        // Even an answer without any Service is something to know: there is nothing to balance.
        if changed || (type_url == SERVICE && !self.published) {
            self.publish(batch);
        }
        let mut requests: Vec<_> = reply.into_iter().collect();
        if type_url == SERVICE && changed {
            requests.extend(self.follow_services());
        }
        self.tell(rejected.len());
        requests
    }

    /// Waits until the file is written.
    pub(super) async fn close(self) {
        self.keeper.close().await;
    }

    /// Hands the accepted resources to the keeper and makes a batch of them for the store.
    fn keep(&mut self, type_url: &str, events: Vec<Event<(Checked, Bytes)>>) -> Batch {
        let type_url: Arc<str> = type_url.into();
        let mut batch = Batch::default();
        let (mut accepted, mut gone) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Updated { name, version, value: (checked, body) } => {
                    let name: Arc<str> = name.into();
                    let (type_url, version) = (type_url.clone(), version.into());
                    accepted.push(Accepted { type_url, name: name.clone(), version, body });
                    push(&mut batch, name, checked);
                }
                Event::Removed { name } => {
                    let name: Arc<str> = name.into();
                    gone.push((type_url.clone(), name.clone()));
                    if *type_url == *SERVICE {
                        batch.services_removed.extend(service_name(&name));
                    } else {
                        batch.clusters_removed.push(name);
                    }
                }
            }
        }
        self.keeper.apply(accepted, &gone);
        batch
    }

    fn publish(&mut self, mut batch: Batch) {
        batch.clusters_removed.append(&mut self.unwanted);
        self.store.apply(batch);
        self.published = true;
    }

    /// Subscribes to the endpoints of exactly the clusters that the Services in force refer to.
    fn follow_services(&mut self) -> Option<DeltaDiscoveryRequest> {
        let names = self.store.wanted_clusters().iter().map(|name| name.to_string()).collect();
        let change = self.client.subscribe(CLUSTER_LOAD_ASSIGNMENT, Interest::Names(names));
        let dropped: Vec<Arc<str>> = change.dropped.into_iter().map(Arc::from).collect();
        let type_url: Arc<str> = CLUSTER_LOAD_ASSIGNMENT.into();
        let gone: Vec<_> = dropped.iter().map(|name| (type_url.clone(), name.clone())).collect();
        self.keeper.apply(Vec::new(), &gone);
        self.unwanted.extend(dropped);
        change.request
    }

    fn tell(&self, rejected_now: usize) {
        let rejected = self.client.rejections().map(|(type_url, rejected)| Rejected {
            kind: short_name(type_url).to_owned(),
            name: rejected.name.clone(),
            reason: rejected.reason.clone(),
        });
        let rejected: Vec<_> = rejected.collect();
        self.status.send_modify(|status| {
            status.rejected = rejected;
            status.rejections += rejected_now as u64;
            status.source = Source::Discovery;
            status.messages += 1;
            status.last_message = Some(std::time::Instant::now());
        });
    }
}

fn check(type_url: &str, name: &str, body: &[u8]) -> Result<Checked, String> {
    let checked = match type_url {
        SERVICE => decode::service(name, body).map(Checked::Service),
        CLUSTER_LOAD_ASSIGNMENT => decode::assignment(name, body).map(Checked::Cluster),
        _ => return Err(format!("{type_url:?} is no type that this agent asks for")),
    };
    checked.map_err(|error| error.to_string())
}

fn push(batch: &mut Batch, name: Arc<str>, checked: Checked) {
    match checked {
        Checked::Service(spec) => batch.services.push(spec),
        Checked::Cluster(spec) => batch.clusters.push((name, spec)),
    }
}

/// `None` for a name that no accepted Service can have, so that there is nothing to remove.
fn service_name(name: &str) -> Option<ServiceName> {
    let (namespace, name) = name.split_once('/')?;
    Some(ServiceName { namespace: namespace.into(), name: name.into() })
}
