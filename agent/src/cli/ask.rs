// SPDX-License-Identifier: Apache-2.0
//! The client of the admin API: each question once, with a deadline, and errors that say what to do.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_proto::admin::{self as api, admin_client::AdminClient};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code,
    transport::{Channel, Endpoint, Uri},
};

/// The agent answers from memory; one that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(5);

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("cannot reach the agent at {}: {source}; is it running? start it with `evenkeel run`", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket is somebody else's.
    #[error("cannot reach the agent at {}: permission denied; ask as root or as the agent's user", path.display())]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody listens, but does not speak.
    #[error("the agent at {} closed the connection: {reason}; ask as root or as the agent's user", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
        /// What the transport said.
        reason: String,
    },
    /// The answer took too long.
    #[error("the agent at {} did not answer within {} s; it may hang, see its log", path.display(), DEADLINE.as_secs())]
    Deadline {
        /// The socket.
        path: PathBuf,
    },
    /// The agent answered that it cannot; its words.
    #[error("{0}")]
    Refused(String),
}

/// A connection to the agent.
pub(super) struct Client {
    path: PathBuf,
    api: AdminClient<Channel>,
}

impl Client {
    pub(super) async fn connect(path: &Path) -> Result<Self, AskError> {
        let stream = UnixStream::connect(path).await.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => AskError::Permission { path: path.to_owned() },
            _ => AskError::NotRunning { path: path.to_owned(), source },
        })?;
        // The channel wants a connector; ours hands out the one connection that is there already. A second attempt,
        // after that one broke, fails.
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted));
            std::future::ready(stream)
        });
        let channel = Endpoint::from_static("http://evenkeel.admin")
            .timeout(DEADLINE)
            .connect_with_connector(connector)
            .await
            .map_err(|error| AskError::Closed { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self {
            path: path.to_owned(),
            api: AdminClient::new(channel).max_decoding_message_size(usize::MAX),
        })
    }

    pub(super) async fn status(mut self) -> Result<api::Status, AskError> {
        let answer = self.api.get_status(api::GetStatusRequest {}).await;
        self.understand(answer)
    }

    pub(super) async fn services(mut self) -> Result<api::ListServicesResponse, AskError> {
        let answer = self.api.list_services(api::ListServicesRequest {}).await;
        self.understand(answer)
    }

    pub(super) async fn endpoints(mut self, service: String) -> Result<api::ListEndpointsResponse, AskError> {
        let answer = self.api.list_endpoints(api::ListEndpointsRequest { service }).await;
        self.understand(answer)
    }

    pub(super) async fn connections(mut self) -> Result<api::ListConnectionsResponse, AskError> {
        let answer = self.api.list_connections(api::ListConnectionsRequest {}).await;
        self.understand(answer)
    }

    pub(super) async fn explain(mut self, address: SocketAddr) -> Result<api::Explanation, AskError> {
        let answer = self.api.explain(api::ExplainRequest { address: address.to_string() }).await;
        self.understand(answer)
    }

    fn understand<T>(self, answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, AskError> {
        let path = self.path;
        answer.map(tonic::Response::into_inner).map_err(|status| match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => AskError::Deadline { path },
            Code::Unavailable | Code::Unknown | Code::Internal => {
                AskError::Closed { path, reason: status.message().to_owned() }
            }
            _ => AskError::Refused(status.message().to_owned()),
        })
    }
}
