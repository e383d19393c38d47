// SPDX-License-Identifier: Apache-2.0
//! Where the demo runs: what the phases need of nodes made of namespaces and of a real cluster alike.
//!
//! What must always be true: servers and clients have the same names, numbers and load on every stage, so that phases,
//! figures and promises are the same; dropping a stage removes everything.
//!
//! Deliberately not here: what happens in which order; see `phases`.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::Value;

use super::hub::Hub;
use super::interrupt::Interrupt;
use super::parameters::PUBLISH_DEADLINE;
use super::plan;

/// Where the demo runs.
pub(super) trait Stage {
    /// Who plays.
    fn cast(&self) -> &Cast;

    /// What is said where stages differ.
    fn notes(&self) -> &'static Notes;

    /// Labels the Service.
    fn label(&self, balance: &str) -> Result<()>;

    /// Waits until every agent that should run has the Service in force like this.
    fn in_force(&self, balance: &str, endpoints: usize) -> Result<()>;

    /// Kills all server pods of the zone that goes, at once, and waits until they are gone.
    fn end_zone(&self) -> Result<()>;

    /// Lets the cluster know of it, where it does not see that by itself.
    fn publish_end(&self) -> Result<()>;

    /// Starts the server pods of that zone anew and waits until they listen and are published.
    fn revive_zone(&self) -> Result<()>;

    /// Kills agents and waits until they are gone.
    fn kill_agents(&self) -> Result<()>;

    /// Stops an agent without ending it.
    fn hang_agent(&self) -> Result<()>;

    /// Waits until the agents that were killed are back and the stopped one goes on.
    fn recover_agents(&mut self) -> Result<()>;

    /// How to look around in it while it is kept.
    fn hint(&self) -> String {
        String::new()
    }

    /// Removes everything, and says what could not be removed.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Who plays, and the line to them.
pub(super) struct Cast {
    pub(super) hub: Hub,
    pub(super) interrupt: Interrupt,
    /// Client pods' names.
    pub(super) clients: Vec<String>,
    /// Zone and name of the server pods, zone by zone.
    pub(super) servers: Vec<(String, String)>,
    /// Clients whose agent is killed.
    pub(super) killed: Vec<String>,
    /// Clients whose agent is stopped.
    pub(super) hung: Vec<String>,
}

impl Cast {
    /// Names of the server pods in these zones.
    pub(super) fn servers_in(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.servers.iter().filter(|(zone, _)| wanted(zone)).map(|(_, name)| name.clone()).collect()
    }
}

/// What is said where stages differ.
pub(super) struct Notes {
    /// What balances before there is a label.
    pub(super) baseline: &'static str,
    /// How many clients open short-lived connections.
    pub(super) client: &'static str,
    /// Which agents are killed.
    pub(super) kill: &'static str,
    /// The node whose agent is stopped.
    pub(super) hung_node: &'static str,
    /// How agents come back.
    pub(super) recover: &'static str,
}

/// Waits until the agents of all `nodes` and their kernels have the Service in force; `ask` is the agents' command line.
pub(super) fn in_force(
    interrupt: &Interrupt,
    nodes: impl IntoIterator<Item = String>,
    ask: impl Fn(&str, &[&str]) -> Result<Value> + Sync,
    (balance, endpoints): (&str, usize),
) -> Result<()> {
    let what = format!("{balance} over {endpoints} endpoints is in force on every node");
    let mut waiting: BTreeSet<String> = nodes.into_iter().collect();
    interrupt.until(&what, PUBLISH_DEADLINE, || {
        let nodes: Vec<String> = waiting.iter().cloned().collect();
        let answers = in_parallel(&nodes, |node| {
            let known = ask(node, &["services"]).and_then(|all| plan::check(&all, balance, endpoints));
            // In this order: the maps are to have what was known then.
            let in_force = known.and_then(|()| plan::in_the_maps(&ask(node, &["status"])?));
            Ok(in_force.err().map(|error| error.context(format!("agent of {node}"))))
        })?;
        let mut last = None;
        for (node, fault) in nodes.iter().zip(answers) {
            match fault {
                None => drop(waiting.remove(node)),
                Some(fault) => last = Some(fault),
            }
        }
        last.map_or(Ok(()), Err)
    })
}

/// Waits until the heartbeat of the agent of `node` counts.
pub(super) fn serves(
    interrupt: &Interrupt,
    node: &str,
    deadline: Duration,
    status: impl Fn() -> Result<Value>,
) -> Result<()> {
    interrupt.until(&format!("the agent of {node} serves"), deadline, || plan::serves(&status()?))
}

/// Does the same to each at once; the first failure is reported.
pub(super) fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    work: impl Fn(&I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        results.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn an_agent_that_has_the_plan_is_not_asked_again_while_another_is_waited_for() {
        let answer = |endpoints: u32| json!({ "services": [{ "name": "demo/echo", "balance": "request", "ports": [{ "path": "request", "endpoints": endpoints }] }] });
        let (early, late) = (AtomicU32::new(0), AtomicU32::new(0));
        let ask = |node: &str, what: &[&str]| {
            let asked = if node == "early" { &early } else { &late };
            if what == ["status"] {
                // The maps of the late one are behind once more when it knows.
                let behind = node == "late" && asked.load(Ordering::Relaxed) < 4;
                return Ok(json!({ "revision": 7, "map_revision": if behind { 6 } else { 7 } }));
            }
            let before = asked.fetch_add(1, Ordering::Relaxed);
            Ok(answer(if node == "late" && before < 2 { 12 } else { 8 }))
        };
        let nodes = ["early", "late"].map(String::from);
        in_force(&Interrupt::default(), nodes, ask, ("request", 8)).expect("in force");
        assert_eq!((early.into_inner(), late.into_inner()), (1, 4));
    }
}
