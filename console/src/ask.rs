// SPDX-License-Identifier: Apache-2.0
//! The client of an admin API: one connection, a deadline, and errors that say what to do.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint, Uri},
};

/// Answers come from memory; who takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(5);

/// Who is asked, in the words of messages.
#[derive(Debug)]
pub struct Asked {
    /// For example "the agent".
    pub name: &'static str,
    /// Who may ask beside root, for example "the agent's user".
    pub user: &'static str,
    /// What to do when nobody is there.
    pub absent: &'static str,
}

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("cannot reach {} at {}: {source}; {}", asked.name, path.display(), asked.absent)]
    NotRunning {
        /// Who.
        asked: &'static Asked,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket is somebody else's.
    #[error("cannot reach {} at {}: permission denied; ask as root or as {}", asked.name, path.display(), asked.user)]
    Permission {
        /// Who.
        asked: &'static Asked,
        /// The socket.
        path: PathBuf,
    },
    /// Somebody listens, but does not speak.
    #[error("{} at {} closed the connection: {reason}; ask as root or as {}", asked.name, path.display(), asked.user)]
    Closed {
        /// Who.
        asked: &'static Asked,
        /// The socket.
        path: PathBuf,
        /// What the transport said.
        reason: String,
    },
    /// The answer took too long.
    #[error("{} at {} did not answer within {} s; it may hang, see its log", asked.name, path.display(), DEADLINE.as_secs())]
    Deadline {
        /// Who.
        asked: &'static Asked,
        /// The socket.
        path: PathBuf,
    },
    /// The answer is that it cannot; its words.
    #[error("{0}")]
    Refused(String),
}

/// A connection, and how to understand what comes over it.
#[derive(Debug)]
pub struct Line {
    asked: &'static Asked,
    path: PathBuf,
}

impl Line {
    /// Connects to the admin API at `path`.
    ///
    /// # Errors
    /// Nobody answers there, or only to others.
    pub async fn open(asked: &'static Asked, path: &Path) -> Result<(Self, Channel), AskError> {
        let path = path.to_owned();
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(AskError::Permission { asked, path });
            }
            Err(source) => return Err(AskError::NotRunning { asked, path, source }),
        };
        // The channel wants a connector; ours hands out the one connection that is there already. A second attempt,
        // after that one broke, fails.
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted));
            std::future::ready(stream)
        });
        let endpoint = Endpoint::from_static("http://evenkeel.admin").timeout(DEADLINE);
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => Ok((Self { asked, path }, channel)),
            Err(error) => Err(AskError::Closed { asked, path, reason: error.to_string() }),
        }
    }

    /// The answer, or why there is none.
    ///
    /// # Errors
    /// It was refused, came too late, or the connection broke.
    pub fn understand<T>(self, answer: Result<Response<T>, Status>) -> Result<T, AskError> {
        let Self { asked, path } = self;
        answer.map(Response::into_inner).map_err(|status| match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => AskError::Deadline { asked, path },
            Code::Unavailable | Code::Unknown | Code::Internal => {
                AskError::Closed { asked, path, reason: status.message().to_owned() }
            }
            _ => AskError::Refused(status.message().to_owned()),
        })
    }
}
