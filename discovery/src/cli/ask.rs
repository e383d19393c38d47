// SPDX-License-Identifier: Apache-2.0
//! The client of the admin API: each question once, with a deadline, and errors that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_proto::discovery_admin as api;
use evenkeel_proto::discovery_admin::discovery_admin_client::DiscoveryAdminClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};

/// The service answers from memory; one that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(5);

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error(
        "cannot reach discovery at {}: {source}; is it running on this machine? name its socket with --admin-socket",
        path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket is somebody else's.
    #[error("cannot reach discovery at {}: permission denied; ask as root or as its user", path.display())]
    Permission {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody listens, but does not speak.
    #[error("discovery at {} closed the connection: {reason}; ask as root or as its user", path.display())]
    Closed {
        /// The socket.
        path: PathBuf,
        /// What the transport said.
        reason: String,
    },
    /// The answer took too long.
    #[error("discovery at {} did not answer within {} s; it may hang, see its log", path.display(), DEADLINE.as_secs())]
    Deadline {
        /// The socket.
        path: PathBuf,
    },
    /// The service answered that it cannot; its words.
    #[error("{0}")]
    Refused(String),
}

/// A connection to the service.
pub(super) struct Client {
    path: PathBuf,
    api: DiscoveryAdminClient<Channel>,
}

type Answer<T> = Result<T, AskError>;

impl Client {
    pub(super) async fn connect(path: &Path) -> Answer<Self> {
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
        let channel = Endpoint::from_static("http://evenkeel.discovery.admin")
            .timeout(DEADLINE)
            .connect_with_connector(connector)
            .await
            .map_err(|error| AskError::Closed { path: path.to_owned(), reason: error.to_string() })?;
        let api = DiscoveryAdminClient::new(channel).max_decoding_message_size(usize::MAX);
        Ok(Self { path: path.to_owned(), api })
    }

    pub(super) async fn index(mut self) -> Answer<api::Index> {
        let answer = self.api.get_index(api::GetIndexRequest {}).await;
        self.understand(answer)
    }

    pub(super) async fn service(mut self, request: api::GetServiceRequest) -> Answer<api::Service> {
        let answer = self.api.get_service(request).await;
        self.understand(answer)
    }

    pub(super) async fn clients(mut self) -> Answer<api::ListClientsResponse> {
        let answer = self.api.list_clients(api::ListClientsRequest {}).await;
        self.understand(answer)
    }

    pub(super) async fn client(mut self, client: String) -> Answer<api::ClientDetail> {
        let answer = self.api.get_client(api::GetClientRequest { client }).await;
        self.understand(answer)
    }

    pub(super) async fn load(mut self, service: String) -> Answer<api::Load> {
        let answer = self.api.get_load(api::GetLoadRequest { service }).await;
        self.understand(answer)
    }

    fn understand<T>(self, answer: Result<tonic::Response<T>, tonic::Status>) -> Answer<T> {
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
