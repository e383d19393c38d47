// SPDX-License-Identifier: Apache-2.0
//! One request to the API server and the reading of its answer, each wait with a limit.
//!
//! [`Client::send`] and not kube-rs' typed calls: those hide the headers of an error and parse whole answers at once.

use std::pin::Pin;
use std::time::Duration;

use http::Request;
use http::header::{ACCEPT, RETRY_AFTER};
use hyper::body::{Body as _, Bytes};
use kube::client::{Body, Client};
use tokio::time::timeout;

use super::client::chain;
use super::wire::Refusal;

/// The largest page of a list or error that is read.
const MAX_BODY: usize = 128 << 20;

/// Why there is no body.
pub(super) enum Opening {
    /// The server has answered with an error.
    Refused(Refusal),
    /// There was no answer.
    Failed(String),
}

/// What reading a body gave.
pub(super) enum Read {
    Bytes(Bytes),
    Silent,
    Closed,
    Broken(String),
}

/// Asks; the body of a good answer.
pub(super) async fn open(client: &Client, uri: &str, accept: &str, limit: Duration) -> Result<Body, Opening> {
    let request = Request::get(uri)
        .header(ACCEPT, accept)
        .body(Body::empty())
        .map_err(|error| Opening::Failed(error.to_string()))?;
    let answer = timeout(limit, client.send(request))
        .await
        .map_err(|_| Opening::Failed(stalled(limit)))?
        .map_err(|error| Opening::Failed(chain(&error)))?;
    if answer.status().is_success() {
        return Ok(answer.into_body());
    }
    let code = answer.status().as_u16();
    let retry_after =
        answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = collect(answer.into_body(), limit).await.unwrap_or_default();
    Err(Opening::Refused(Refusal::read(code, retry_after.as_deref(), &body)))
}

/// How a wait that was too long is told.
pub(super) fn stalled(limit: Duration) -> String {
    format!("no answer for {:.1} s", limit.as_secs_f64())
}

/// The next part of a body.
pub(super) async fn read(body: &mut Body, limit: Duration) -> Read {
    let frame = async {
        loop {
            match std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
                None => return Read::Closed,
                Some(Err(error)) => return Read::Broken(chain(&error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Read::Bytes(bytes);
                    }
                }
            }
        }
    };
    timeout(limit, frame).await.unwrap_or(Read::Silent)
}

/// A whole body. `limit` is for each part of it.
pub(super) async fn collect(mut body: Body, limit: Duration) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    loop {
        match read(&mut body, limit).await {
            Read::Closed => return Ok(bytes),
            Read::Silent => return Err(stalled(limit)),
            Read::Broken(reason) => return Err(reason),
            Read::Bytes(more) if bytes.len() + more.len() > MAX_BODY => {
                return Err(format!("an answer of more than {MAX_BODY} bytes"));
            }
            Read::Bytes(more) => bytes.extend_from_slice(&more),
        }
    }
}
