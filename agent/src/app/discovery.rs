// SPDX-License-Identifier: Apache-2.0
//! The xDS client as the rest of the agent sees it: started, asked, closed.

use std::time::{Duration, Instant};

use tokio::{runtime::Handle, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;
use crate::{
    admin::facts::DiscoveryFacts,
    store::{Snapshot, Store, StoreWriter},
    xds::{self, Source, Status, XdsConfig},
};

/// Discovery sends Services first and endpoints in the next message, milliseconds later. A Service that has none at all
/// looks the same as one whose message has not come: no longer than this is it waited for.
const ENDPOINTS_PATIENCE: Duration = Duration::from_secs(2);
/// As many rejected resources are shown one by one.
const SHOWN_REJECTIONS: usize = 20;

/// The running client.
pub(super) struct Discovery {
    address: String,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    stopped: CancellationToken,
}

impl Discovery {
    /// Starts the client on the current runtime.
    pub(super) fn start(config: XdsConfig, store: StoreWriter, tasks: &Tasks) -> Self {
        let address = config.discovery.to_string();
        let (told, status) = xds::status();
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let (until, end) = (stop.clone(), stopped.clone());
        tasks.spawn(&Handle::current(), "the client of discovery", async move {
            xds::run(config, store, told, until.clone()).await;
            end.cancel();
            if until.is_cancelled() {
                // Asked to end: that is not an end to be reported.
                std::future::pending().await
            }
        });
        Self { address, status, stop, stopped }
    }

    /// Waits until there are endpoints to vouch for: those of the last-good file, or those of discovery.
    pub(super) async fn first_snapshot(&self, store: &Store) {
        let mut status = self.status.clone();
        let source = match status.wait_for(|status| status.source != Source::Nothing).await {
            Ok(status) => status.source,
            // The client has ended, which ends the agent.
            Err(_) => std::future::pending().await,
        };
        if source == Source::Discovery {
            let mut changes = store.changes();
            let whole = changes.wait_for(|_| has_all_endpoints(&store.current()));
            let _ = timeout(ENDPOINTS_PATIENCE, whole).await;
        }
    }

    /// What of it is worth telling.
    pub(super) fn facts(&self, agent_started: Instant) -> DiscoveryFacts {
        let status = self.status.borrow();
        DiscoveryFacts {
            address: self.address.clone(),
            connected: status.connected,
            last_message: status.last_message.unwrap_or(agent_started).elapsed(),
            streams_opened: status.streams_opened,
            resources_rejected: status.rejected.len() as u64,
            source: status.source.word(),
            last_error: status.last_error.clone().unwrap_or_default(),
            failures: status.failures.clone(),
        }
    }

    /// What a person should look at.
    pub(super) fn faults(&self) -> Vec<String> {
        faults(&self.status.borrow())
    }

    /// Ends the client; the last-good file is written then.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.stopped.cancelled().await;
    }
}

fn has_all_endpoints(snapshot: &Snapshot) -> bool {
    let mut clusters = snapshot.services.values().flat_map(|service| &service.clusters);
    clusters.all(|cluster| !cluster.endpoints.is_empty())
}

fn faults(status: &Status) -> Vec<String> {
    let files = [&status.load_error, &status.save_error].into_iter().flatten().cloned();
    let rejected = status.rejected.iter().take(SHOWN_REJECTIONS);
    let mut faults: Vec<String> = files.collect();
    // The reason names the resource, the field, the value and the rule.
    faults.extend(rejected.map(|rejected| format!("rejected: {}", rejected.reason)));
    if let Some(left @ 1..) = status.rejected.len().checked_sub(SHOWN_REJECTIONS) {
        faults.push(format!("{left} more resources are rejected"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::Rejected;

    #[test]
    fn what_is_wrong_with_files_and_resources_is_told_within_bounds() {
        let rejected = (0..SHOWN_REJECTIONS + 3).map(|i| Rejected {
            kind: "Service".into(),
            name: format!("demo/s{i}"),
            reason: format!("Service demo/s{i}: port 0"),
        });
        let status = Status {
            load_error: Some("last-good file: damaged".into()),
            rejected: rejected.collect(),
            ..Status::default()
        };
        let faults = faults(&status);
        assert_eq!(faults[..2], ["last-good file: damaged", "rejected: Service demo/s0: port 0"]);
        assert_eq!(faults.last().map(String::as_str), Some("3 more resources are rejected"));
        assert_eq!(faults.len(), 1 + SHOWN_REJECTIONS + 1);
    }
}
