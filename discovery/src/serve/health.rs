// SPDX-License-Identifier: Apache-2.0
//! gRPC health checking (`grpc.health.v1`): serving once the first sync is complete, not serving from shutdown on.
//!
//! Source: the GRPC Health Checking Protocol. The empty name is the server as a whole.

use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::LoadReportingServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::lrs::Lrs;
use super::{Snapshots, methods};

const SERVICES: [&str; 3] = ["", methods::NAME, <LoadReportingServiceServer<Lrs> as NamedService>::NAME];

/// The gRPC service, kept up to date by a task until `shutdown`.
pub(super) async fn service(
    snapshots: Snapshots,
    shutdown: CancellationToken,
) -> HealthServer<HealthService> {
    let reporter = HealthReporter::new();
    // Before the first probe can come.
    set(&reporter, ServingStatus::NotServing).await;
    let server = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    tokio::spawn(follow(reporter, snapshots, shutdown));
    server
}

async fn follow(mut reporter: HealthReporter, mut snapshots: Snapshots, shutdown: CancellationToken) {
    let synced = async { snapshots.wait_for(Option::is_some).await.is_ok() };
    if shutdown.run_until_cancelled(synced).await == Some(true) {
        set(&reporter, ServingStatus::Serving).await;
        shutdown.cancelled().await;
    }
    set(&reporter, ServingStatus::NotServing).await;
    // Ends the streams of those who watch, once they have been told: the connections wait for them.
    for name in SERVICES {
        reporter.clear_service_status(name).await;
    }
}

async fn set(reporter: &HealthReporter, status: ServingStatus) {
    for name in SERVICES {
        reporter.set_service_status(name, status).await;
    }
}
