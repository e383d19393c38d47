// SPDX-License-Identifier: Apache-2.0
//! The questions of the admin API, each asked once.

use std::path::Path;

use evenkeel_console::ask::{AskError, Asked, Line};
use evenkeel_proto::discovery_admin as api;
use evenkeel_proto::discovery_admin::discovery_admin_client::DiscoveryAdminClient;
use tonic::transport::Channel;

static DISCOVERY: Asked = Asked {
    name: "discovery",
    user: "its user",
    absent: "is it running on this machine? name its socket with --admin-socket",
};

/// A connection to the service.
pub(super) struct Client {
    line: Line,
    api: DiscoveryAdminClient<Channel>,
}

type Answer<T> = Result<T, AskError>;

impl Client {
    pub(super) async fn connect(path: &Path) -> Answer<Self> {
        let (line, channel) = Line::open(&DISCOVERY, path).await?;
        Ok(Self { line, api: DiscoveryAdminClient::new(channel).max_decoding_message_size(usize::MAX) })
    }

    pub(super) async fn index(mut self) -> Answer<api::Index> {
        let answer = self.api.get_index(api::GetIndexRequest {}).await;
        self.line.understand(answer)
    }

    pub(super) async fn service(mut self, request: api::GetServiceRequest) -> Answer<api::Service> {
        let answer = self.api.get_service(request).await;
        self.line.understand(answer)
    }

    pub(super) async fn clients(mut self) -> Answer<api::ListClientsResponse> {
        let answer = self.api.list_clients(api::ListClientsRequest {}).await;
        self.line.understand(answer)
    }

    pub(super) async fn client(mut self, client: String) -> Answer<api::ClientDetail> {
        let answer = self.api.get_client(api::GetClientRequest { client }).await;
        self.line.understand(answer)
    }

    pub(super) async fn load(mut self, service: String) -> Answer<api::Load> {
        let answer = self.api.get_load(api::GetLoadRequest { service }).await;
        self.line.understand(answer)
    }
}
