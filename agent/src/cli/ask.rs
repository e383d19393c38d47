// SPDX-License-Identifier: Apache-2.0
//! The questions of the admin API, each asked once.

use std::{net::SocketAddr, path::Path};

use evenkeel_console::ask::{AskError, Asked, Line};
use evenkeel_proto::admin::{self as api, admin_client::AdminClient};
use tonic::transport::Channel;

static AGENT: Asked = Asked {
    name: "the agent",
    user: "the agent's user",
    absent: "is it running? start it with `evenkeel run`",
};

/// A connection to the agent.
pub(super) struct Client {
    line: Line,
    api: AdminClient<Channel>,
}

impl Client {
    pub(super) async fn connect(path: &Path) -> Result<Self, AskError> {
        let (line, channel) = Line::open(&AGENT, path).await?;
        Ok(Self { line, api: AdminClient::new(channel).max_decoding_message_size(usize::MAX) })
    }

    pub(super) async fn status(mut self) -> Result<api::Status, AskError> {
        let answer = self.api.get_status(api::GetStatusRequest {}).await;
        self.line.understand(answer)
    }

    pub(super) async fn services(mut self) -> Result<api::ListServicesResponse, AskError> {
        let answer = self.api.list_services(api::ListServicesRequest {}).await;
        self.line.understand(answer)
    }

    pub(super) async fn endpoints(mut self, service: String) -> Result<api::ListEndpointsResponse, AskError> {
        let answer = self.api.list_endpoints(api::ListEndpointsRequest { service }).await;
        self.line.understand(answer)
    }

    pub(super) async fn connections(mut self) -> Result<api::ListConnectionsResponse, AskError> {
        let answer = self.api.list_connections(api::ListConnectionsRequest {}).await;
        self.line.understand(answer)
    }

    pub(super) async fn explain(mut self, address: SocketAddr) -> Result<api::Explanation, AskError> {
        let answer = self.api.explain(api::ExplainRequest { address: address.to_string() }).await;
        self.line.understand(answer)
    }
}
