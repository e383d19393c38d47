// SPDX-License-Identifier: Apache-2.0
//! The RPCs of the admin API. Each reads what is there and answers; only details of a client wait, for half a second at
//! most.

use std::sync::Arc;

use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryServiceServer;
use evenkeel_console::resolve::service as resolve_service;
use evenkeel_console::socket::PrivateSocket;
use evenkeel_proto::discovery_admin as api;
use evenkeel_proto::discovery_admin::discovery_admin_server::{DiscoveryAdmin, DiscoveryAdminServer};
use evenkeel_xds::{ResourceSource, type_url};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::csds::Csds;
use super::desk::Desk;
use super::{describe, load, resolve};
use crate::http;
use crate::registry::Client;
use crate::snapshot::{ClientView, Snapshot};

/// Serves the admin API and CSDS on `socket` until `stop`. The socket's file is removed at the end.
///
/// # Errors
/// Whatever tonic reports; errors of single connections do not end it.
pub async fn serve(
    socket: PrivateSocket,
    desk: Desk,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (incoming, _file) = socket.into_incoming();
    tonic::transport::Server::builder()
        .add_service(DiscoveryAdminServer::new(Rpcs { desk: desk.clone() }))
        .add_service(ClientStatusDiscoveryServiceServer::new(Csds::new(desk.registry)))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

struct Rpcs {
    desk: Desk,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl DiscoveryAdmin for Rpcs {
    async fn get_index(&self, _: Request<api::GetIndexRequest>) -> Answer<api::Index> {
        Ok(Response::new(self.index()))
    }

    async fn get_service(&self, request: Request<api::GetServiceRequest>) -> Answer<api::Service> {
        let api::GetServiceRequest { service, zone } = request.into_inner();
        let snapshot = self.desk.snapshot();
        let name = known(&snapshot, &service)?;
        Ok(Response::new(self::service(snapshot, &name, zone)))
    }

    async fn list_clients(&self, _: Request<api::ListClientsRequest>) -> Answer<api::ListClientsResponse> {
        let now = Instant::now();
        let clients = self.desk.registry.clients();
        let mut clients: Vec<_> = clients.iter().map(|client| describe::client(client, now)).collect();
        describe::sort(&mut clients);
        Ok(Response::new(api::ListClientsResponse { clients }))
    }

    async fn get_client(&self, request: Request<api::GetClientRequest>) -> Answer<api::ClientDetail> {
        let clients = self.desk.registry.clients();
        let names = clients.iter().map(|client| (client.stream, &*client.id));
        let stream = resolve::client(names, &request.get_ref().client)?;
        let asked = self.desk.registry.ask(stream).await;
        // Read again: what it held before it answered would contradict the answer.
        let now: Vec<Client> = self.desk.registry.clients();
        let client = now.iter().chain(&clients).find(|client| client.stream == stream);
        let (subscriptions, no_answer) = match asked {
            Ok(report) => (report.types.iter().map(describe::subscription).collect(), String::new()),
            Err(why) => (Vec::new(), why.to_string()),
        };
        let client = client.map(|client| describe::client(client, Instant::now()));
        Ok(Response::new(api::ClientDetail { client, subscriptions, no_answer }))
    }

    async fn get_load(&self, request: Request<api::GetLoadRequest>) -> Answer<api::Load> {
        let asked = &request.get_ref().service;
        let service = match asked.as_str() {
            "" => None,
            asked => Some(known(&self.desk.snapshot(), asked)?),
        };
        let reporters = self.desk.loads.reporters();
        let load = load::load(&self.desk.loads.reading(), service.as_deref(), reporters);
        Ok(Response::new(load))
    }
}

// === impl Rpcs ===

impl Rpcs {
    fn index(&self) -> api::Index {
        let Desk { started, health, overview, link, registry, .. } = &self.desk;
        let age = http::age(link, std::time::Instant::now());
        let lost = age.lines().map(str::to_owned);
        let snapshot = self.desk.snapshot();
        let not_ready: Vec<String> = health.not_ready().into_iter().map(str::to_owned).collect();
        let clients = registry.clients();
        let count =
            |wanted: fn(&Client) -> bool| clients.iter().filter(|client| wanted(client)).count() as u64;
        let objects = overview.objects().into_iter();
        let services: Vec<_> =
            snapshot.services().map(|(name, of)| describe::service(of, snapshot.ports(name))).collect();
        let ports = services.iter().flat_map(|service| &service.ports);
        api::Index {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: started.elapsed().as_secs(),
            ready: not_ready.is_empty(),
            not_ready,
            revision: snapshot.revision(),
            revision_age_seconds: overview.last_published().map_or(0, |then| then.elapsed().as_secs()),
            objects: objects
                .map(|(kind, count)| api::Count { kind: kind.to_owned(), count: count as u64 })
                .collect(),
            endpoints: ports.map(|port| u64::from(port.ready + port.draining)).sum(),
            source: health.source().into_iter().chain(lost).collect(),
            clients: clients.len() as u64,
            clients_not_in_sync: count(|client| client.progress.behind_since.is_some()),
            clients_with_rejections: count(|client| client.progress.rejected > 0),
            services,
            faults: overview.faults.all().into_iter().map(|fault| fault.message).collect(),
        }
    }
}

fn service(snapshot: Arc<Snapshot>, name: &str, zone: String) -> api::Service {
    let view = ClientView::new(snapshot.clone(), zone.as_str().into(), None);
    let resource = view.get(type_url::SERVICE, name);
    let summary = resource.map(|resource| describe::service(&resource, snapshot.ports(name)));
    let ports = summary.iter().flat_map(|summary| &summary.ports);
    let endpoints = ports
        .filter_map(|port| Some((port, view.get(type_url::CLUSTER_LOAD_ASSIGNMENT, &port.cluster)?)))
        .flat_map(|(port, served)| describe::endpoints(port, &served))
        .collect();
    api::Service { summary, zone, endpoints }
}

/// The name of the Service that is meant.
fn known(snapshot: &Snapshot, asked: &str) -> Result<String, Status> {
    let names: Vec<&str> = snapshot.services().map(|(name, _)| &**name).collect();
    Ok(resolve_service(names.iter().map(|name| (*name, *name)), asked)?.to_owned())
}
