// SPDX-License-Identifier: Apache-2.0
//! gRPC's own client as a load: steady calls, and at any time who has answered them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use evenkeel_testbed::{Pod, Process, Spawn, eventually};
use serde::Deserialize;
use serde_json::Value;

use super::{SOON, Server, program};

/// Calls at a time: what a death of servers can cost at most, per server.
pub(crate) const THREADS: u64 = 4;
/// Answers after which who answers is believed.
const ENOUGH: u64 = 10;
/// How long the slowest may take: a client that was away for several back-offs.
const PATIENCE: Duration = Duration::from_secs(45);

/// A running client.
pub(crate) struct Load(Process);

/// What it has counted since its start.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Counts {
    /// Answered calls by pod.
    pub(crate) pods: BTreeMap<String, u64>,
    /// Answered calls by zone.
    pub(crate) zones: BTreeMap<String, u64>,
    /// Failed calls by gRPC's status and words.
    pub(crate) failures: BTreeMap<String, u64>,
}

impl Load {
    /// Calls `target` from `pod` at this rate. `authority`: the host that is asked for, if it is not the target.
    pub(crate) fn start(
        pod: &Pod,
        target: &str,
        authority: Option<&str>,
        rate: u32,
        bootstrap: &Value,
    ) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stock/grpc_client.py");
        let spawn = Spawn::new(program("EVENKEEL_PYTHON")?)
            .label("grpc-client")
            .arg(script.to_string_lossy())
            .args(["--target", target, "--rate", &rate.to_string(), "--threads", &THREADS.to_string()])
            .args(authority.iter().flat_map(|authority| ["--authority", authority]))
            .env("PYTHONPATH", program("EVENKEEL_GRPC")?)
            .env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.to_string());
        let load = Self(pod.spawn(&spawn)?);
        load.until("calls are answered", &Counts::default(), |counts| counts.answered() >= ENOUGH)?;
        Ok(load)
    }

    /// The newest counts; none before the first call.
    pub(crate) fn counts(&self) -> Result<Counts> {
        let text = self.0.stdout();
        // What follows the last line end is not whole yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let Some(line) = whole.lines().next_back() else { return Ok(Counts::default()) };
        serde_json::from_str(line).with_context(|| format!("not counts: {line}"))
    }

    /// Waits until this holds of what was counted after `before`; all counts then.
    pub(crate) fn until(
        &self,
        what: &str,
        before: &Counts,
        holds: impl Fn(&Counts) -> bool,
    ) -> Result<Counts> {
        let seen = eventually(what, PATIENCE, || {
            let now = self.counts()?;
            let since = now.since(before);
            ensure!(holds(&since), "{since:?}");
            Ok(now)
        });
        seen.with_context(|| self.0.tail())
    }

    /// Waits until all that is answered is answered by these servers.
    pub(crate) fn until_only(&self, what: &str, servers: &[Server]) -> Result<Counts> {
        let wanted: BTreeSet<&str> = servers.iter().map(|server| server.pod.name()).collect();
        let mut before = self.counts()?;
        let seen = eventually(what, PATIENCE, || {
            let now = self.counts()?;
            let since = now.since(&before);
            if let Some(other) = since.pods.keys().find(|pod| !wanted.contains(pod.as_str())) {
                let other = other.clone();
                before = now;
                bail!("{other} has answered, beside {wanted:?}");
            }
            ensure!(since.answered() >= ENOUGH, "{since:?}");
            Ok(now)
        });
        seen.with_context(|| self.0.tail())
    }

    /// Ends it; all counts.
    pub(crate) fn finish(&self) -> Result<Counts> {
        self.0.terminate()?;
        self.0.finish(SOON)?;
        self.counts()
    }
}

impl Counts {
    /// What was counted after `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            pods: less(&self.pods, &before.pods),
            zones: less(&self.zones, &before.zones),
            failures: less(&self.failures, &before.failures),
        }
    }

    /// All answered calls.
    pub(crate) fn answered(&self) -> u64 {
        self.pods.values().sum()
    }

    /// All failed calls.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The part that servers of this zone have answered.
    pub(crate) fn share(&self, zone: &str) -> f64 {
        self.zones.get(zone).copied().unwrap_or(0) as f64 / self.answered().max(1) as f64
    }

    /// Fails unless there were calls and all succeeded.
    pub(crate) fn flawless(&self, at_least: u64) -> Result<()> {
        ensure!(self.answered() >= at_least, "only {} calls were answered", self.answered());
        ensure!(self.failures.is_empty(), "calls failed: {:?}", self.failures);
        Ok(())
    }
}

fn less(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let left = now.iter().map(|(key, n)| (key.clone(), n - before.get(key).copied().unwrap_or(0)));
    left.filter(|(_, n)| *n > 0).collect()
}
