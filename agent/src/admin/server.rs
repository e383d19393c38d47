// SPDX-License-Identifier: Apache-2.0
//! The RPCs of the admin API. Each reads the facts once and answers; none waits for anything.

use std::{net::SocketAddr, sync::Arc};

use evenkeel_console::{resolve, socket::PrivateSocket};
use evenkeel_proto::admin::{self as api, admin_server};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{describe, explain, facts::Facts};
use crate::store::{Service, Snapshot};

/// Serves the admin API on `socket` until `stop`. The socket's file is removed at the end, unless a newer agent has
/// replaced it.
///
/// # Errors
/// Whatever tonic reports; errors of single connections do not end it.
pub async fn serve(
    socket: PrivateSocket,
    facts: Arc<dyn Facts>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (incoming, _file) = socket.into_incoming();
    tonic::transport::Server::builder()
        .add_service(admin_server::AdminServer::new(Rpcs { facts }))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}

struct Rpcs {
    facts: Arc<dyn Facts>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl admin_server::Admin for Rpcs {
    async fn get_status(&self, _: Request<api::GetStatusRequest>) -> Answer<api::Status> {
        Ok(Response::new(describe::status(&*self.facts)))
    }

    async fn list_services(&self, _: Request<api::ListServicesRequest>) -> Answer<api::ListServicesResponse> {
        let services = describe::services(&self.facts.snapshot());
        Ok(Response::new(api::ListServicesResponse { services }))
    }

    async fn list_endpoints(
        &self,
        request: Request<api::ListEndpointsRequest>,
    ) -> Answer<api::ListEndpointsResponse> {
        let snapshot = self.facts.snapshot();
        let service = known(&snapshot, &request.get_ref().service)?;
        let endpoints = describe::endpoints(&*self.facts, service);
        Ok(Response::new(api::ListEndpointsResponse { service: service.spec.name.to_string(), endpoints }))
    }

    async fn list_connections(
        &self,
        _: Request<api::ListConnectionsRequest>,
    ) -> Answer<api::ListConnectionsResponse> {
        let connections = describe::connections(&*self.facts);
        Ok(Response::new(api::ListConnectionsResponse { connections }))
    }

    async fn explain(&self, request: Request<api::ExplainRequest>) -> Answer<api::Explanation> {
        let text = &request.get_ref().address;
        let address: SocketAddr = text.parse().map_err(|_| {
            Status::invalid_argument(format!(
                "{text:?} is not ADDRESS:PORT, e.g. 10.96.0.10:8080 or [fd00::1]:80"
            ))
        })?;
        Ok(Response::new(explain::explain(&*self.facts, address)))
    }
}

/// The Service that is meant.
fn known<'s>(snapshot: &'s Snapshot, asked: &str) -> Result<&'s Service, Status> {
    let services: Vec<(String, &Service)> =
        snapshot.services.iter().map(|(name, service)| (name.to_string(), &**service)).collect();
    Ok(resolve::service(services.iter().map(|(name, service)| (name.as_str(), *service)), asked)?)
}
