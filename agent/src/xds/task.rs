// SPDX-License-Identifier: Apache-2.0
//! The task that the daemon runs: load, connect, wait, again.
//!
//! What must always be true: it ends only when told to, and then with the last-good file written.
//! Deliberately not here: everything that can be tested without a runtime.

use std::{
    hash::{BuildHasher, RandomState},
    path::PathBuf,
};

use envoy_types::pb::envoy::config::core::v3::{Locality, Node, node::UserAgentVersionType};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Status, backoff::Backoff, flow::Flow, keeper::Keeper, stream};
use crate::{
    config::{Config, Credentials, DiscoveryAddress},
    store::{StoreWriter, persist},
};

/// The cluster that agents say they belong to, so that a server can tell them from other clients.
const NODE_CLUSTER: &str = "evenkeel-agent";

/// What the client of discovery has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdsConfig {
    /// Where discovery is.
    pub discovery: DiscoveryAddress,
    /// How to know discovery, and to be known by it.
    pub credentials: Credentials,
    /// Name of this node.
    pub node: String,
    /// Zone of this node; empty when unknown. Discovery chooses the view of endpoints by it.
    pub zone: String,
    /// The last-good file.
    pub last_good: PathBuf,
}

impl From<&Config> for XdsConfig {
    fn from(config: &Config) -> Self {
        Self {
            discovery: config.discovery.clone(),
            credentials: config.credentials.clone(),
            node: config.node.clone(),
            zone: config.zone.clone(),
            last_good: config.state_dir.join(persist::FILE_NAME),
        }
    }
}

/// Puts the last-good file into force, then follows discovery until `cancel`. `status` comes from [`super::status`].
///
/// Never fails: whatever goes wrong is retried and told in the status.
pub async fn run(
    config: XdsConfig,
    store: StoreWriter,
    status: watch::Sender<Status>,
    cancel: CancellationToken,
) {
    let loaded = load(config.last_good.clone(), &status).await;
    let keeper = Keeper::new(config.last_good.clone(), &loaded, status.clone());
    let mut flow = Flow::new(node(&config), store, keeper, loaded, status.clone());
    let mut backoff = Backoff::default();
    let target = (&config.discovery, &config.credentials);
    loop {
        let mut delivered = false;
        let error = tokio::select! {
            error = stream::run(target, &mut flow, &status, &mut delivered) => error,
            () = cancel.cancelled() => break,
        };
        flow.on_disconnected();
        let wait = backoff.after(delivered, random());
        tracing::warn!("{error}; trying again in {} ms, what is in force stays", wait.as_millis());
        status.send_modify(|status| {
            status.connected = false;
            status.last_error = Some(error.to_string());
            *status.failures.entry(error.kind()).or_default() += 1;
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = cancel.cancelled() => break,
        }
    }
    status.send_modify(|status| status.connected = false);
    flow.close().await;
}

/// Reads the last-good file; one that cannot be used is set aside, and the agent starts empty.
async fn load(path: PathBuf, status: &watch::Sender<Status>) -> Vec<persist::Accepted> {
    let read = move || match persist::load(&path) {
        Ok(loaded) => Ok(loaded),
        // Not damaged, only out of reach: leave it where it is.
        Err(error @ persist::LoadError::Read { .. }) => Err(format!("{error}; starting empty")),
        Err(error) => Err(match persist::set_aside(&path) {
            Ok(aside) => format!("{error}; kept as {}, starting empty", aside.display()),
            Err(also) => format!("{error}; starting empty; {also}"),
        }),
    };
    let error = match tokio::task::spawn_blocking(read).await {
        Ok(Ok(loaded)) => return loaded,
        Ok(Err(error)) => error,
        Err(panic) => format!("reading the last-good file failed: {panic}; starting empty"),
    };
    tracing::warn!("{error}");
    status.send_modify(|status| status.load_error = Some(error));
    Vec::new()
}

fn node(config: &XdsConfig) -> Node {
    Node {
        id: config.node.clone(),
        cluster: NODE_CLUSTER.to_owned(),
        locality: Some(Locality { zone: config.zone.clone(), ..Locality::default() }),
        user_agent_name: "evenkeel".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
            env!("CARGO_PKG_VERSION").to_owned(),
        )),
        ..Node::default()
    }
}

/// Uniform in [0, 1): good enough to spread agents, which is all that jitter is for.
fn random() -> f64 {
    (RandomState::new().hash_one(()) >> 11) as f64 / (1u64 << 53) as f64
}
